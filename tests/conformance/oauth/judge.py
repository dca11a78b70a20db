"""How the tests of this folder run one step against a token service in memory."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from remit.kernel.errors import RemitError
from remit.trust.tokens.testing import TokenHouse, token_house

T = TypeVar("T")


def in_house(work: Callable[[TokenHouse], Awaitable[T]]) -> T:
    """Run `work` in a house of its own."""

    async def run() -> T:
        async with token_house() as house:
            return await work(house)

    return asyncio.run(run())


async def refused(call: Awaitable[Any]) -> str:
    """The code of the refusal; that it is refused is the point."""
    try:
        answer = await call
    except RemitError as error:
        return error.code
    raise AssertionError(f"it was not refused: {answer}")
