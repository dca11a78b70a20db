"""Fields of a secret in OpenBao's KV version 2. Check-and-set: what somebody wrote in between is not overwritten.

Spec: OpenBao HTTP API, "KV Secrets Engine - Version 2".
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from remit.access.rotation.consumers.entries import (
    EntriesConsumer,
    bad,
    only,
    path_of,
    read_token,
    templates_of,
    text_of,
)
from remit.access.rotation.ports import House
from remit.kernel.canonical import Json
from remit.kernel.errors import Rejected
from remit.providers.rest import Rest

_PATH = re.compile(r"[A-Za-z0-9._-]+(/[A-Za-z0-9._-]+)*")


class _KeyValue:
    def __init__(self, rest: Rest, token_file: str, url: str) -> None:
        self._rest = rest
        self._token_file = token_file
        self._url = url

    async def read(self, names: frozenset[str]) -> Mapping[str, str]:
        fields, _ = await self._fields()
        return {name: str(fields[name]) for name in names if name in fields}

    async def write(self, entries: Mapping[str, str | None]) -> None:
        fields, version = await self._fields()
        wanted = {**fields, **entries}
        data = {name: value for name, value in wanted.items() if value is not None}
        body: dict[str, Json] = {"data": data, "options": {"cas": version}}
        await self._rest.ask("POST", self._url, body, headers=await self._headers())

    async def _fields(self) -> tuple[dict[str, Any], int]:
        answer = await self._rest.ask("GET", self._url, headers=await self._headers(), absent_ok=True)
        data = answer.get("data")
        if not isinstance(data, dict):
            return {}, 0
        metadata = data.get("metadata")
        version = metadata.get("version") if isinstance(metadata, dict) else None
        if not isinstance(version, int):
            raise Rejected(
                "access.rotation.openbao", "what answers is no KV version 2", next_step="name its mount in `mount`"
            )
        return dict(data.get("data") or {}), version

    async def _headers(self) -> dict[str, str]:
        return {"x-vault-token": await read_token(self._token_file)}


class OpenBaoFactory:
    """The plug-in."""

    id = "openbao"
    title = "fields of a secret in OpenBao (KV v2)"

    def make(self, options: Mapping[str, Json], house: House) -> EntriesConsumer:
        only(options, "address", "mount", "path", "fields", "token_file", "ca_file")
        mount, path = text_of(options, "mount", "secret"), text_of(options, "path")
        if not _PATH.fullmatch(mount) or not _PATH.fullmatch(path) or ".." in f"{mount}/{path}".split("/"):
            raise bad("`mount` and `path` are words, with `/` between them")
        rest = Rest(text_of(options, "address"), ca_file=path_of(options, "ca_file", "") or None)
        place = _KeyValue(rest, path_of(options, "token_file"), f"/v1/{mount}/data/{path}")
        return EntriesConsumer(f"openbao {mount}/{path}", place, templates_of(options, "fields"))
