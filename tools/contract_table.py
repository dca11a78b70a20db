"""`python tools/contract_table.py [--write]`: the contract of brokers, run on every target; the table of what held.

Every cell is a test that has just run on a real target (or, in the first column, on the one in memory): `held`, `FAILED`,
`skipped`, `n/a` where the property says nothing of that target. A mark `*` says that the target's own file words the
property in its own way. `--write` puts the table into docs/brokers.md. Ends with 1 unless everything held.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs/brokers.md"
_INTRODUCTION = """# Brokers, and what each of them keeps

Every broker runs one suite (`src/remit/access/testing.py`, `BrokerContract`) on a target of its own: a server that the tests
start, or, for AWS and Kubernetes, an API in a process of its own that speaks their protocol. `make contracts` runs it and
prints this table; what a target demands beyond it is in `tests/contracts/test_broker_*_traps.py`
and `tests/scenarios/test_*_traps.py`, and [plug-ins](plugins.md#brokers) tell how each is used and what it cannot do.

`held`: the test ran and passed. `*`: the target's own file words the property in its own way. `n/a`: it says nothing of that
target. `Fake` is the broker in memory on which other tests stand; `PostgresInstalled` is PostgreSQL with a login that holds nothing but
the functions of `remit target install`.
"""


class Watcher:
    """A pytest plug-in that notes what became of each property on each broker."""

    def __init__(self) -> None:
        self.cells: dict[tuple[str, str], str] = {}
        self.properties: list[str] = []
        self.brokers: list[str] = []

    def pytest_collection_modifyitems(self, items: list[Any]) -> None:
        """Keep the suite alone, and its order."""
        from remit.access.testing import BrokerContract

        self.properties = [name for name in vars(BrokerContract) if name.startswith("test_")]
        items[:] = [each for each in items if self._broker(each) and each.originalname in self.properties]
        self.brokers = sorted({self._broker(each) for each in items}, key=lambda name: (name != "Fake", name))
        for item in items:
            own = item.originalname in vars(item.cls)
            item.user_properties += [
                ("broker", self._broker(item)), ("property", item.originalname), ("own", own),
            ]  # fmt: skip

    def _broker(self, item: Any) -> str:
        from remit.access.testing import BrokerContract

        kind = getattr(item, "cls", None)
        if kind is None or not issubclass(kind, BrokerContract):
            return ""
        name = str(kind.__name__).removeprefix("Test").replace("Broker", "")
        major = item.callspec.params.get("major") if hasattr(item, "callspec") else None
        return f"{name} {major}" if major else name

    def pytest_runtest_logreport(self, report: Any) -> None:
        """The worst that happened to it counts."""
        told = dict(report.user_properties)
        if report.when != "call" and report.passed:
            return
        cell = "skipped" if report.skipped else "held" if report.passed else "FAILED"
        at = (told["property"], told["broker"])
        if self.cells.get(at) not in ("FAILED", "skipped"):
            self.cells[at] = f"{cell} *" if told["own"] and cell == "held" else cell

    def rows(self) -> Iterable[list[str]]:
        """A row for each property: its name, and a cell for each broker."""
        for name in self.properties:
            words = name.removeprefix("test_").replace("_", " ")
            yield [words, *(self.cells.get((name, broker), "n/a") for broker in self.brokers)]


def main() -> int:
    """Run, print, write; 0 when everything held."""
    watcher = Watcher()
    sys.path[:0] = [str(ROOT / "tests")]
    where = str(ROOT / "tests/contracts")
    code = pytest.main(["-q", "-p", "no:cacheprovider", "-n", "0", "--no-header", where], plugins=[watcher])
    lines = ["| property | " + " | ".join(watcher.brokers) + " |", "|---|" + "---|" * len(watcher.brokers)]
    lines += ["| " + " | ".join(row) + " |" for row in watcher.rows()]
    text = "\n".join(lines) + "\n"
    print(text)
    whole = code == 0 and not any(cell in ("FAILED", "skipped") for cell in watcher.cells.values())
    if whole and "--write" in sys.argv[1:]:
        PAGE.write_text(f"{_INTRODUCTION}\n{text}", encoding="utf-8")
    return 0 if whole else 1


if __name__ == "__main__":
    raise SystemExit(main())
