"""Consumers that hold named texts: the frame of all but hooks. A kind brings the store and its options alone."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Final, Protocol

import msgspec

from remit.access.rotation.model import Login
from remit.access.rotation.ports import Seen
from remit.access.rotation.template import fill, read_back, require_template
from remit.kernel.canonical import Json
from remit.kernel.errors import Rejected

MAX_ENTRIES: Final = 32


class Entries(Protocol):
    """Where named texts lie. Both verbs may be called again."""

    async def read(self, names: frozenset[str]) -> Mapping[str, str] | None:
        """Those of `names` that are there; `None` where they cannot be read back."""
        ...

    async def write(self, entries: Mapping[str, str | None]) -> None:
        """Set them; those that are `None` are taken away. Everything else there stays as it is."""
        ...


class EntriesConsumer:
    """Publishes texts made of the login into one store."""

    def __init__(self, label: str, entries: Entries, templates: Mapping[str, str]) -> None:
        self.label = label
        self._entries = entries
        self._templates = templates

    async def capture(self) -> bytes:
        found = await self._entries.read(frozenset(self._templates))
        return b"" if found is None else msgspec.json.encode(dict(found))

    def recall(self, captured: bytes) -> Mapping[str, str]:
        held: dict[str, str] = msgspec.json.decode(captured, type=dict[str, str]) if captured else {}
        words: dict[str, str] = {}
        for name, template in self._templates.items():
            words = {**read_back(template, held.get(name, "")), **words}
        return words

    async def publish(self, login: Login) -> None:
        await self._entries.write({name: fill(template, login) for name, template in self._templates.items()})

    async def verify(self, login: Login) -> Seen:
        found = await self._entries.read(frozenset(self._templates))
        if found is None:
            return Seen(ok=True, measured=False, detail="what lies there cannot be read back")
        for name, template in self._templates.items():
            if found.get(name) != fill(template, login):
                return Seen(ok=False, detail=f"`{name}` holds something else")
        return Seen(ok=True)

    async def restore(self, captured: bytes, old: Login | None) -> None:
        if captured:
            held: dict[str, str] = msgspec.json.decode(captured, type=dict[str, str])
            await self._entries.write({name: held.get(name) for name in self._templates})
            return
        if old is None:
            raise Rejected(
                "access.rotation.unrestorable",
                f"{self.label} cannot be put back: it cannot be read, and the old credential is not known",
                next_step="put it back by hand, then `remit rotate resume`",
            )
        await self.publish(old)


def templates_of(options: Mapping[str, Json], key: str) -> dict[str, str]:
    """The table `key`: names, each with its text."""
    given = options.get(key)
    if not isinstance(given, dict) or not 1 <= len(given) <= MAX_ENTRIES:
        raise bad(f"`{key}` is a table of 1 to {MAX_ENTRIES} names, each with its text")
    return {name: require_template(text) for name, text in given.items()}


def text_of(options: Mapping[str, Json], key: str, default: str | None = None) -> str:
    """A short printable text; `Rejected` (`access.rotation.consumer`) without one."""
    given = options.get(key, default)
    if not isinstance(given, str) or len(given) > 1000 or not given.isprintable() or (not given and default != ""):
        raise bad(f"`{key}` is a printable text")
    return given


def path_of(options: Mapping[str, Json], key: str, default: str | None = None) -> str:
    """An absolute path, or the default."""
    given = text_of(options, key, default)
    if given and not given.startswith("/"):
        raise bad(f"`{key}` is an absolute path")
    return given


def only(options: Mapping[str, Json], *known: str) -> None:
    """Accept no option but these."""
    if unknown := sorted(set(options) - set(known)):
        raise bad(f"`{unknown[0][:40]}` is no option of it")


def bad(why: str) -> Rejected:
    return Rejected(
        "access.rotation.consumer", f"a consumer is not understood: {why}", next_step="see docs/rotation.md"
    )


async def read_token(path: str) -> str:
    """What a file that only we can read holds, without its line end; empty for no path."""
    from remit.providers.places import read_private

    return (await asyncio.to_thread(read_private, path)) if path else ""
