"""Many steps on one target at once, so that one which fails leaves none of the others half done."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Iterable
from typing import TypeVar

_T = TypeVar("_T")


async def every(works: Iterable[Awaitable[_T]], *, at_once: int = 0) -> list[_T]:
    """What each gave, when the last has ended; then the first error of any. At most `at_once` run, or all."""
    gate = asyncio.Semaphore(at_once) if at_once else None

    async def gated(work: Awaitable[_T], gate: asyncio.Semaphore) -> _T:
        async with gate:
            return await work

    done = await asyncio.gather(*(gated(work, gate) if gate else work for work in works), return_exceptions=True)
    for each in done:
        if isinstance(each, BaseException):
            raise each
    return [each for each in done if not isinstance(each, BaseException)]
