"""The trend of blast radii begins when there is something to measure: not with nobody, and at the end of a reading."""

from __future__ import annotations

import time
from typing import Any

from blast_stage import estate, load
from installation import Installation, installation


def measured(house: Installation) -> list[dict[str, Any]]:
    return [each for each in house.json("blast", "--trend", "--days", "2")["days"] if each["measured"]]


def test_the_first_reading_begins_the_trend_and_nobody_does_not() -> None:
    with installation(REMIT_GRAPH_REVIEW_SECONDS="3600") as house:
        assert measured(house) == []
        load(house, estate())
        limit = time.monotonic() + 60
        while not (days := measured(house)) and time.monotonic() < limit:
            time.sleep(0.2)
        assert [each["score"] > 0 for each in days] == [True]
