"""Samples of blast radii are kept alike by both engines."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from remit.governance.blastradius.trend import Sample
from servers import LocalServer
from stores import ENGINES, fresh_database, opened, postgres

__all__ = ["postgres"]

FIRST = date(2026, 11, 1)


def sample(day: int, score: int, subject: str = "id_1") -> Sample:
    at = datetime(2026, 11, 1, tzinfo=UTC) + timedelta(days=day)
    return Sample(subject=subject, day=at.date(), at=at, score=score, certain_score=1, resources=2, becomes=3,
                  by_sensitivity={"restricted": 4}, highest=score)  # fmt: skip


@pytest.mark.parametrize("engine", ENGINES)
def test_a_day_has_one_sample_of_a_subject_and_old_days_go(
    engine: str, tmp_path: Path, postgres: Callable[[], LocalServer]
) -> None:
    url = fresh_database(engine, tmp_path, postgres)
    later = replace(sample(1, 70), highest=90, changes=1)

    async def run() -> tuple[Any, ...]:
        async with opened(url) as store:
            await store.write(lambda unit: unit.radii.put([sample(day, 2**40 + day) for day in range(700)]))
            await store.write(lambda unit: unit.radii.put([later, sample(1, 5, "id_2")]))
            read = await store.read(
                lambda unit: (unit.radii.of_day(["id_1", "id_2", "id_3"], later.day), unit.radii.trend("id_1", limit=3))
            )
            gone = await store.write(lambda unit: unit.radii.forget_before(later.day))
            return *read, gone, await store.read(lambda unit: unit.radii.trend("id_2"))

    of_day, trend, gone, other = asyncio.run(run())
    assert of_day == {"id_1": later, "id_2": sample(1, 5, "id_2")}
    assert [each.day for each in trend] == [FIRST + timedelta(days=day) for day in (697, 698, 699)]
    assert (gone, other) == (1, [sample(1, 5, "id_2")])
