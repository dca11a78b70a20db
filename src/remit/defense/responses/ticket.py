"""A ticket: a file in the data directory, and a message to somebody else's system where one is configured.

It is what happens when we are not sure enough, or when the limits say no: a person decides.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Final

from remit.defense.model import Effect, Order, VerifiedPerson
from remit.defense.ports import DefenseUnit, Poster
from remit.defense.responses.port import Hand, ResponseManifest
from remit.kernel.canonical import Json, canonical
from remit.kernel.errors import Conflict, Unavailable
from remit.kernel.ids import is_id

MANIFEST: Final = ResponseManifest(
    id="ticket", title="Open a ticket", contains=False, reversible=False, hazards=("nothing is stopped by it",)
)

Describe = Callable[[Order], Awaitable[Mapping[str, Json]]]
"""What the ticket says: the incident, its detections and next steps, without secrets."""


class TicketFolder:
    """Tickets as files `<response id>.json`, mode 0600: written whole or not at all, the same one once."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def write(self, key: str, body: Mapping[str, Json]) -> Path:
        """Write a ticket; raises `Unavailable` (`defense.ticket.unwritten`) when the disk does not take it."""
        assert is_id("rs", key), "a ticket's key is the id of its response"
        path = self._folder / f"{key}.json"
        part = path.with_suffix(".part")
        try:
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            with os.fdopen(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
                file.write(canonical(body))
                file.flush()
                os.fsync(file.fileno())
            part.replace(path)
            _sync(self._folder)
        except OSError as error:
            raise Unavailable(
                "defense.ticket.unwritten",
                f"the ticket cannot be written: {error.strerror}",
                next_step="free space or rights for `tickets` in the data directory; it is tried again",
            ) from None
        return path


class Ticket:
    """Writes the file first: it is there even while the other system does not answer."""

    id = MANIFEST.id
    manifest = MANIFEST

    def __init__(self, folder: TicketFolder, describe: Describe, poster: Poster | None = None) -> None:
        self._folder = folder
        self._describe = describe
        self._poster = poster

    async def carry_out(self, order: Order, hand: Hand) -> None:
        body = await self._describe(order)

        async def write() -> Mapping[str, Mapping[str, Json]]:
            path = await asyncio.to_thread(self._folder.write, order.response_id, body)
            return {"file": {"name": path.name}}

        await hand.do((Effect(kind="ticket", subject="file", text="write a ticket file"),), write)
        if self._poster is None:
            return
        poster = self._poster

        async def post() -> Mapping[str, Mapping[str, Json]]:
            await poster.post(body, key=order.response_id)
            return {"webhook": {"sent": True}}

        await hand.do((Effect(kind="ticket", subject="webhook", text="send the ticket to the webhook"),), post)

    def undo(self, unit: DefenseUnit, order: Order, *, by: VerifiedPerson, reason: str) -> None:
        raise Conflict(
            "defense.response.irreversible", "a ticket is not taken back", next_step="close its incident instead"
        )

    async def settled(self, order: Order) -> None:
        return None


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
