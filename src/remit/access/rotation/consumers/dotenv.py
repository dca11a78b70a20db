"""Keys of an environment file: `KEY=VALUE` lines, as `docker --env-file`, systemd and dotenv read them."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Mapping

from remit.access.rotation.consumers.entries import EntriesConsumer, bad, only, path_of, templates_of
from remit.access.rotation.ports import House
from remit.kernel.canonical import Json
from remit.kernel.errors import Rejected
from remit.providers.places import read_place, replace_place

_KEY = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,127}")
_LINE = re.compile(r"\s*(?:export\s+)?([A-Za-z_][A-Za-z0-9_]*)\s*=(.*)")
_BARE = re.compile(r"[A-Za-z0-9_@%+=:,./~-]*")


class _EnvironmentFile:
    def __init__(self, path: str) -> None:
        self._path = path

    async def read(self, names: frozenset[str]) -> Mapping[str, str]:
        text = await asyncio.to_thread(read_place, self._path) or ""
        found = {}
        for line in text.splitlines():
            match = _LINE.fullmatch(line)
            if match is not None and match[1] in names:
                found[match[1]] = _plain(match[2].strip())  # the last line of a key counts
        return found

    async def write(self, entries: Mapping[str, str | None]) -> None:
        text = await asyncio.to_thread(read_place, self._path) or ""
        left = dict(entries)
        lines = []
        for line in text.splitlines():
            match = _LINE.fullmatch(line)
            if match is None or match[1] not in entries:
                lines.append(line)
            elif match[1] in left and (value := left.pop(match[1])) is not None:
                lines.append(f"{line[: line.index('=')]}={_quoted(value)}")
        lines += [f"{key}={_quoted(value)}" for key, value in left.items() if value is not None]
        await asyncio.to_thread(replace_place, self._path, "".join(f"{line}\n" for line in lines))


def _plain(text: str) -> str:
    if len(text) > 1 and text[0] == text[-1] and text[0] in "\"'":
        return text[1:-1]
    return text


def _quoted(value: str) -> str:
    if _BARE.fullmatch(value):
        return value
    if "'" in value or "\n" in value:
        raise Rejected("access.rotation.dotenv", "a value with a quote or a line end does not fit an environment file")
    return f"'{value}'"


class DotenvFactory:
    """The plug-in."""

    id = "dotenv"
    title = "keys of an environment file"

    def make(self, options: Mapping[str, Json], house: House) -> EntriesConsumer:
        only(options, "path", "keys")
        path, keys = path_of(options, "path"), templates_of(options, "keys")
        if not all(_KEY.fullmatch(key) for key in keys):
            raise bad("`keys` are names of variables")
        return EntriesConsumer(f"dotenv {path} ({', '.join(keys)})", _EnvironmentFile(path), keys)
