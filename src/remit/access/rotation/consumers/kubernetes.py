"""Keys of a Kubernetes Secret, changed by a merge patch: everything else of it stays.

Spec: Kubernetes API, core/v1 Secret; RFC 7396 (JSON Merge Patch).
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Mapping

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

_NAME = re.compile(r"[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?")


class _Secret:
    def __init__(self, rest: Rest, token_file: str, url: str) -> None:
        self._rest = rest
        self._token_file = token_file
        self._url = url

    async def read(self, names: frozenset[str]) -> Mapping[str, str]:
        answer = await self._rest.ask("GET", self._url, headers=await self._headers())
        held = answer.get("data") or {}
        try:
            return {key: base64.b64decode(held[key], validate=True).decode() for key in names if key in held}
        except (binascii.Error, UnicodeDecodeError, TypeError, ValueError):
            raise Rejected("access.rotation.kubernetes", "the Secret holds something else than text") from None

    async def write(self, entries: Mapping[str, str | None]) -> None:
        data = {
            key: None if value is None else base64.b64encode(value.encode()).decode() for key, value in entries.items()
        }
        headers = {**await self._headers(), "content-type": "application/merge-patch+json"}
        await self._rest.ask("PATCH", self._url, {"data": data}, headers=headers)

    async def _headers(self) -> dict[str, str]:
        token = await read_token(self._token_file)
        return {"authorization": f"Bearer {token}"} if token else {}


class KubernetesFactory:
    """The plug-in."""

    id = "kubernetes"
    title = "keys of a Kubernetes Secret"

    def make(self, options: Mapping[str, Json], house: House) -> EntriesConsumer:
        only(options, "server", "namespace", "name", "data", "token_file", "ca_file")
        namespace, name = text_of(options, "namespace", "default"), text_of(options, "name")
        if not _NAME.fullmatch(namespace) or not _NAME.fullmatch(name):
            raise bad("`namespace` and `name` are names of Kubernetes")
        rest = Rest(text_of(options, "server"), ca_file=path_of(options, "ca_file", "") or None)
        secret = _Secret(rest, path_of(options, "token_file", ""), f"/api/v1/namespaces/{namespace}/secrets/{name}")
        return EntriesConsumer(f"kubernetes {namespace}/{name}", secret, templates_of(options, "data"))
