"""Lets a test choose in which order things end: a call of a store is answered only when the test says so."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any


class Held:
    """Stands for `store.read` or `store.write`: the first call for a function called `of` is done, and its answer kept.

    `reached` is set when it is done, `release` lets its caller go on.
    """

    def __init__(self, call: Callable[[Any], Awaitable[Any]], of: str) -> None:
        self._call = call
        self._of = of
        self.reached = asyncio.Event()
        self.release = asyncio.Event()

    async def __call__(self, work: Any) -> Any:
        found = await self._call(work)
        if not self.reached.is_set() and self._of in work.__qualname__:
            self.reached.set()
            await self.release.wait()
        return found


async def everything_else() -> None:
    """Let every other task go as far as it can without us: for what waits for nothing but the loop."""
    for _ in range(200):
        await asyncio.sleep(0)
