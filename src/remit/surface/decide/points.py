"""What points that decide by themselves ask of the decision listener: the snapshot stream, and a place for reports.

Only registered points, by the same proof as for decisions; the proof is asked again while a stream lasts. Frames are
written at the pace of the reader: one that stops to read is shown out by the hall.
"""

from __future__ import annotations

import asyncio
import logging
from typing import Final

import msgspec

from remit.access import stream
from remit.access.enforcers.model import Asker, Enforcer
from remit.kernel.errors import Denied, RemitError
from remit.surface.decide.http import Exchange
from remit.wiring.reported import Reports
from remit.wiring.streams import SnapshotStreams

_log = logging.getLogger("remit.streams")
SNAPSHOT_PATH: Final = b"/access/v1/snapshot"
REPORT_PATH: Final = b"/access/v1/decisions"
KEY_HEADER: Final = b"X-Remit-Snapshot-Key"
_TYPE: Final = b"application/vnd.remit.snapshot"
_UNREAD_SECONDS: Final = 0.01
_ASK_AGAIN_SECONDS: Final = 1.0
_DPOP_SECONDS: Final = 60.0


class PointDesk:
    """Serves both; belongs to the event loop."""

    def __init__(self, streams: SnapshotStreams, reports: Reports) -> None:
        self.streams = streams
        self._reports = reports
        self._tasks: set[asyncio.Task[None]] = set()

    async def close(self) -> None:
        """End the streams."""
        self.streams.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def report(self, exchange: Exchange, asker: Asker) -> tuple[int, bytes]:
        """Take decisions that a point made by itself."""
        return 200, msgspec.json.encode(await self._reports.take(_point(asker), bytes(exchange.body)))

    def open_stream(self, exchange: Exchange, asker: Asker) -> None:
        """Begin a stream as the answer of this request. Raises `RemitError`; later it only ends."""
        point = _point(asker)
        ask = stream.read_ask(bytes(exchange.body))
        room = self.streams.admit(point)
        room.__enter__()
        try:
            head = b"\r\n%b: %b" % (KEY_HEADER, self.streams.public_key.encode())
            exchange.begin(_TYPE, head)
            task = asyncio.get_running_loop().create_task(self._serve(exchange, point, ask))
        except BaseException:
            room.__exit__(None, None, None)
            raise
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        task.add_done_callback(lambda _: room.__exit__(None, None, None))

    async def _serve(self, exchange: Exchange, point: Enforcer, ask: stream.Ask) -> None:
        connection = exchange.connection
        loop = asyncio.get_running_loop()
        begun = asked = loop.time()
        frames = self.streams.frames(point, ask)
        try:
            async for frame in frames:
                if connection.transport.is_closing():
                    return
                connection.transport.write(frame)
                await asyncio.sleep(0)  # a whole snapshot is many frames: others have their turn
                while connection.unread and not connection.transport.is_closing():
                    await asyncio.sleep(_UNREAD_SECONDS)
                now = loop.time()
                if exchange.dpop and now - begun > _DPOP_SECONDS:
                    return  # a proof counts once: the reader brings another one
                if now - asked > _ASK_AGAIN_SECONDS:
                    asked = now
                    await _require_still(exchange, point)
        except RemitError as error:
            _log.info("the snapshot stream of `%s` ends: %s", point.name, error.message)
        finally:
            await frames.aclose()  # type: ignore[attr-defined]
            connection.end_stream()


async def _require_still(exchange: Exchange, point: Enforcer) -> None:
    """The proof must still be that of this point, registered as it was. `Denied`."""
    if exchange.authorization:
        asker = await exchange.connection.door.ask(exchange) if not exchange.dpop else None
    else:
        asker = exchange.connection.asker()
    if asker is not None and (asker.enforcer is None or asker.enforcer.digest != point.digest):
        raise Denied("access.enforcer.unregistered", "it is registered no more, or otherwise than it was")


def _point(asker: Asker) -> Enforcer:
    if asker.enforcer is None:
        raise Denied(
            "access.enforcer.unregistered",
            f"`{asker.name}` is no registered enforcement point",
            next_step="have it registered: `remit enforcer add NAME --spiffe-id ID`",
        )
    return asker.enforcer
