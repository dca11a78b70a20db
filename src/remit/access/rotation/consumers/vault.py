"""A static secret that Remit itself keeps, which gateways inject: the programs behind them never see it."""

from __future__ import annotations

from collections.abc import Mapping

from remit.access.rotation.consumers.entries import EntriesConsumer, only, text_of
from remit.access.rotation.ports import House
from remit.access.rotation.template import require_template
from remit.kernel.canonical import Json
from remit.kernel.errors import Rejected


class _Kept:
    def __init__(self, house: House, name: str) -> None:
        self._house = house
        self._name = name

    async def read(self, names: frozenset[str]) -> Mapping[str, str]:
        return {"value": (await self._house.read_secret(self._name)).decode()}

    async def write(self, entries: Mapping[str, str | None]) -> None:
        value = entries["value"]
        if value is None:
            raise Rejected("access.rotation.secret", f"the secret `{self._name[:64]}` is not taken away")
        await self._house.replace_secret(self._name, value.encode())


class VaultFactory:
    """The plug-in."""

    id = "remit"
    title = "a secret that Remit keeps for gateways"

    def make(self, options: Mapping[str, Json], house: House) -> EntriesConsumer:
        only(options, "secret", "content")
        name = text_of(options, "secret")
        content = require_template(options.get("content", "{secret}"))
        return EntriesConsumer(f"secret {name}", _Kept(house, name), {"value": content})
