"""Policy versions in a database pass the suite that their fake passes."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest

from remit.access.policy.ports import PolicyRows
from remit.access.policy.testing import PolicyRowsContract
from servers import LocalServer
from stores import ENGINES, fresh_database, opened, postgres  # noqa: F401 a fixture


class TestStoredPolicyRows(PolicyRowsContract):
    @pytest.fixture(autouse=True, params=ENGINES)
    def _url(self, request: pytest.FixtureRequest, tmp_path: Path, postgres: Callable[[], LocalServer]) -> None:  # noqa: F811
        self.url = fresh_database(request.param, tmp_path, postgres)

    def run(self, check: Callable[[PolicyRows], None]) -> None:
        async def go() -> None:
            async with opened(self.url) as store:
                await store.write(lambda unit: check(unit.access))

        asyncio.run(go())
