"""A file that holds the credential and nothing else. Replaced in one step; owner and mode stay as they were."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

from remit.access.rotation.consumers.entries import EntriesConsumer, only, path_of
from remit.access.rotation.ports import House
from remit.access.rotation.template import require_template
from remit.kernel.canonical import Json
from remit.providers.places import read_place, remove_place, replace_place


class _WholeFile:
    def __init__(self, path: str) -> None:
        self._path = path

    async def read(self, names: frozenset[str]) -> Mapping[str, str]:
        text = await asyncio.to_thread(read_place, self._path)
        return {} if text is None else {"content": text}

    async def write(self, entries: Mapping[str, str | None]) -> None:
        text = entries["content"]
        if text is None:
            await asyncio.to_thread(remove_place, self._path)
        else:
            await asyncio.to_thread(replace_place, self._path, text)


class FileFactory:
    """The plug-in."""

    id = "file"
    title = "a file of its own"

    def make(self, options: Mapping[str, Json], house: House) -> EntriesConsumer:
        only(options, "path", "content")
        path = path_of(options, "path")
        content = require_template(options.get("content", "{secret}"))
        return EntriesConsumer(f"file {path}", _WholeFile(path), {"content": content})
