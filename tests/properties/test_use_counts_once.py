"""However a log is cut into runs, rotations, copies and interruptions, its totals are those of one run."""

from __future__ import annotations

import gzip
import json
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import create_engine

from remit.inventory.connectors import use as module
from remit.inventory.connectors.port import Scan
from remit.inventory.connectors.testing import NOW, fingerprint
from remit.inventory.connectors.use import UseConnector
from remit.inventory.use.live import live_list
from remit.inventory.use.model import Session, Use, UseFact, UseRow
from remit.kernel.ids import name
from remit.storage.schema.inventory_deed import inventory_deed, inventory_deed_beyond
from remit.storage.schema.inventory_use import inventory_use, inventory_use_log, inventory_use_window
from remit.storage.use import UseRows

_WHO = ("orders", "billing", "nightly")


def _line(number: int) -> str:
    moment = datetime(2026, 11, 1, tzinfo=UTC) + timedelta(minutes=37 * number)
    event = {
        "stage": "ResponseComplete", "requestReceivedTimestamp": moment.isoformat(), "auditID": str(number),
        "user": {"username": f"system:serviceaccount:shop:{_WHO[number % 3]}"}, "sourceIPs": [f"10.0.0.{number % 5}"],
        "responseStatus": {"code": 403 if number % 7 == 0 else 200},
    }  # fmt: skip
    return json.dumps(event) + "\n"


class House:
    """A log that is written, rotated and read; the rows are those of a real database."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.log = folder / "audit.log"
        self.log.touch()
        self.written = self.rotated = 0
        self.engine = create_engine("sqlite://")
        for table in (inventory_use, inventory_use_log, inventory_use_window, inventory_deed, inventory_deed_beyond):
            table.create(self.engine)

    def write(self, lines: int) -> None:
        with self.log.open("a") as file:
            for _ in range(lines):
                file.write(_line(self.written))
                self.written += 1

    def rotate(self) -> None:
        self.rotated += 1
        if self.log.stat().st_size:
            self.log.rename(self.folder / f"audit.log.{self.rotated}")
            self.log.touch()

    def compress(self) -> None:
        for path in [each for each in self.folder.iterdir() if each.suffix not in (".gz", ".log")]:
            path.with_name(f"{path.name}.gz").write_bytes(gzip.compress(path.read_bytes()))
            path.unlink()

    def copy(self) -> None:
        shutil.copy(self.log, self.folder / f"audit.log.copy{self.written}")

    def read(self, *, facts: int | None = None) -> None:
        """A run, which ends early after so many facts."""
        with self.engine.begin() as conn:
            known = {log: str(end) for log, end in UseRows(conn, NOW).logs("kubernetes", "prod").items()}
        connector = UseConnector(self.folder, "kubernetes-audit", instance="prod")
        for at, fact in enumerate(connector.fetch(Scan(now=NOW, fingerprint=fingerprint, recalled=known))):
            if facts is not None and at >= facts:
                return
            assert isinstance(fact, UseFact)
            with self.engine.begin() as conn:
                UseRows(conn, NOW).absorb(fact)

    def totals(self) -> dict[str, UseRow]:
        with self.engine.begin() as conn:
            names = [name("kubernetes", "prod", "serviceaccount", f"shop/{each}") for each in _WHO]
            return UseRows(conn, NOW).of(names)


@contextmanager
def house() -> Iterator[House]:
    folder = Path(tempfile.mkdtemp(dir="/tmp"))
    made = House(folder)
    try:
        yield made
    finally:
        made.engine.dispose()
        shutil.rmtree(folder)


_STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("write"), st.integers(1, 12)),
        st.tuples(st.just("rotate"), st.just(0)),
        st.tuples(st.just("compress"), st.just(0)),
        st.tuples(st.just("copy"), st.just(0)),
        st.tuples(st.just("read"), st.just(0)),
        st.tuples(st.just("interrupted"), st.integers(0, 4)),
    ),
    max_size=14,
)


@given(steps=_STEPS, piece=st.sampled_from([3, 7, 200_000]))
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_any_cut_of_a_log_gives_the_totals_of_one_run(steps: list[tuple[str, int]], piece: int) -> None:
    usual, module._PIECE = module._PIECE, piece  # type: ignore[misc]
    try:
        with house() as cut, house() as whole:
            for step, number in steps:
                match step:
                    case "write":
                        cut.write(number)
                    case "read":
                        cut.read()
                    case "interrupted":
                        cut.read(facts=number)
                    case _:
                        getattr(cut, step)()
            cut.read()
            if cut.written:
                whole.write(cut.written)
                whole.read()
            assert _plain(cut.totals()) == _plain(whole.totals())
    finally:
        module._PIECE = usual  # type: ignore[misc]


def _plain(rows: dict[str, UseRow]) -> dict[str, tuple[object, ...]]:
    return {
        key: (row.first, row.last, row.count, row.failures, dict(row.days), dict(row.consumers), set(row.environments))
        for key, row in rows.items()
    }


@given(lists=st.lists(st.sets(st.integers(1, 40), max_size=8), max_size=8))
@settings(max_examples=60, deadline=None)
def test_a_live_session_counts_once_however_often_it_is_seen(lists: list[set[int]]) -> None:
    role = name("postgres", "db", "role", "app")
    with house() as made:
        highest, expected = 0, 0
        for numbers in lists:
            sessions = [Session(use=Use(name=role, moment=NOW, address="a"), number=each) for each in numbers]
            for fact in live_list("postgres", "db", sessions, NOW):
                with made.engine.begin() as conn:
                    UseRows(conn, NOW).absorb(fact)
            expected += sum(each > highest for each in numbers)
            highest = max(highest, *numbers, 0)
        with made.engine.begin() as conn:
            rows = UseRows(conn, NOW)
            row = rows.of([role]).get(role)
            assert (row.count if row else 0) == expected
            assert row is None or row.last == NOW
            assert rows.windows() == []
