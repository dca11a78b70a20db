"""Rows of a table as they happen: one template, rendered for each event that fits, sent as a server-sent event."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import TYPE_CHECKING, Any

from starlette.responses import StreamingResponse

from remit.kernel.events import Event
from remit.surface.console.render import HEADERS, partial

if TYPE_CHECKING:
    from remit.surface.context import Surface

Render = Callable[[Event], Awaitable[dict[str, Any]]]
_STILL_HERE = 15.0


def live_rows(surface: Surface, template: str, *, types: tuple[str, ...], render: Render) -> StreamingResponse:
    """The stream of one table: `render` gives the template's values for each event whose type begins with one of these.

    The row's markup is made and escaped here; the page's script only puts it in its place.
    """

    async def lines() -> AsyncIterator[bytes]:
        async with surface.control.bus.subscribe() as queue:
            yield b"retry: 2000\n\n"
            while True:
                try:
                    # Not `wait_for`: before Python 3.12 it loses a cancellation that comes together with the event.
                    async with asyncio.timeout(_STILL_HERE):
                        event = await queue.get()
                except TimeoutError:
                    yield b": still here\n\n"
                    continue
                if event.type.startswith(types):
                    html = bytes(partial(template, **await render(event)).body)
                    yield b"event: row\ndata: " + html.replace(b"\n", b" ") + b"\n\n"

    return StreamingResponse(lines(), media_type="text/event-stream", headers=HEADERS)
