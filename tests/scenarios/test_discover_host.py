"""`remit discover host|ssh|tls|ldap` on a running installation: whole runs over a machine and its directory."""

from __future__ import annotations

import secrets
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from installation import Installation, installation
from ldap_people import READER, READER_WORD, TOLD, granted, plant
from ldap_stage import SUFFIX, ldap_server
from remit.providers.ldap.hashing import hashed

MACHINE = "fedcba9876543210fedcba9876543210"
WORD = "Ok3-kept-in-a-file-of-settings"


@dataclass(frozen=True)
class Found:
    """What the commands said."""

    house: Installation
    said: dict[str, dict[str, Any]]


@pytest.fixture(scope="module")
def found() -> Iterator[Found]:
    root = Path(tempfile.mkdtemp(prefix="remit-root-", dir="/tmp"))
    try:
        with ldap_server() as server, installation() as house:
            key = _root(root)
            plant(server, key, hashed("ssha", READER_WORD, secrets.token_bytes))
            server.access(granted())
            said = {}
            for connector, source, more, secret in (
                ("host", str(root), [], ""),
                ("files", str(root / "srv"), [], ""),
                ("tls", f"127.0.0.1:{server.tls_port}", ["--set", f"ca={server.ca}"], ""),
                (
                    "ldap", f"ldaps://127.0.0.1:{server.tls_port}/{SUFFIX}",
                    ["--set", f"bind={READER}", "--set", f"ca={server.ca}", "--password-stdin"], READER_WORD + "\n",
                ),
                ("ssh", "local", [], ""),
            ):  # fmt: skip
                said[connector] = house.json("discover", connector, source, *more, stdin=secret)
            yield Found(house, said)
    finally:
        shutil.rmtree(root, ignore_errors=True)


def _root(root: Path) -> str:
    """A root directory with a unit, an account and a key; the key's public line."""
    for path, text in {
        "etc/machine-id": MACHINE,
        "etc/passwd": "root:x:0:0::/root:/bin/sh\nshop:x:990:990::/srv/shop:/bin/sh\n",
        "etc/sudoers": "shop ALL=(root) NOPASSWD: ALL\n",
        "etc/systemd/system/shop.service": "[Service]\nUser=shop\nExecStart=/srv/run\nEnvironmentFile=/srv/shop/.env\n",
        "srv/shop/.env": f"API_TOKEN={WORD}\n",
    }.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(text)
    (root / "srv/shop/.ssh").mkdir()
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", root / "srv/shop/.ssh/id_ed25519"], check=True)
    return (root / "srv/shop/.ssh/id_ed25519.pub").read_text().strip()


@pytest.mark.parametrize("connector", ["host", "files", "tls", "ldap", "ssh"])
def test_each_run_ends_and_shows_credentials(found: Found, connector: str) -> None:
    facts = found.said[connector]["facts"]
    assert facts.get("credential", 0) + facts.get("edge", 0) > 0, found.said[connector]


def test_nothing_that_was_secret_is_kept(found: Found) -> None:
    kept = b"".join(path.read_bytes() for path in found.house.data.rglob("*") if path.is_file() and path.stat().st_size)
    assert not [word for word in (WORD, TOLD, READER_WORD) if word.encode() in kept]
