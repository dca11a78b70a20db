"""`remit doctor`: what can be seen from outside, and what the running control plane says of itself."""

from __future__ import annotations

import os
import shutil
import stat
from pathlib import Path
from typing import Any

from remit.kernel.errors import RemitError
from remit.surface.cli.client import Admin
from remit.wiring.checks import line
from remit.wiring.settings import settings_from

_LEAST_FREE = 200 * 1024 * 1024


def examine(data: Path, admin: Admin) -> list[dict[str, str]]:
    """Every check; works without a running server and says which ones then could not be made."""
    found = _settings(data) + _files(data) + _space(data)
    try:
        found += admin.get("/api/v1/doctor")
    except RemitError as error:
        found.append(line("unmeasured", "control plane answers", error.message, error.next_step))
    return found


def _settings(data: Path) -> list[dict[str, str]]:
    try:
        settings_from(data, environ=os.environ, flags={})
    except RemitError as error:
        return [line("fail", "settings are understood", error.message, error.next_step)]
    return [line("pass", "settings are understood")]


def _files(data: Path) -> list[dict[str, str]]:
    if not data.is_dir():
        return [line("unmeasured", "data directory", f"`{data}` does not exist yet", f"`remit up --data {data}`")]
    wide = []
    for path in (
        data / "keys",
        data / "ledger",
        data / "remit.db",
        data / "keys" / "kek",
        data / "keys" / "fingerprint",
    ):
        if path.exists() and stat.S_IMODE(path.stat().st_mode) & 0o077:
            wide.append(str(path))
    if wide:
        return [line("fail", "nobody else can read the state", ", ".join(wide), "chmod go-rwx these")]
    return [line("pass", "nobody else can read the state")]


def _space(data: Path) -> list[dict[str, str]]:
    free = shutil.disk_usage(data if data.is_dir() else Path.cwd()).free
    detail = f"{free // (1024 * 1024):,} MiB free"
    if free < _LEAST_FREE:
        return [line("fail", "disk has room", detail, "free some space: without it nothing is decided or issued")]
    return [line("pass", "disk has room", detail)]


def failures(lines: list[dict[str, Any]]) -> int:
    """How many checks failed."""
    return sum(each["outcome"] == "fail" for each in lines)
