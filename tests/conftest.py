"""What holds for every test.

`REMIT_TEST_NO_SKIP=1` makes a skip a failure, so that a machine which should have everything skips nothing by
accident. Where a test cannot run even there, it is marked `may_skip("why")`, and this is the place that says so:

- `may_skip`: needs what no ordinary user can be given (root, another uid).

Properties are tried on the same examples each time, so that a failure can be had again; `EXPLORE=1` tries others.

What drives real servers, processes and clocks (`_REAL`) is run once more where it fails, for a machine may be busy; it is
then named as RERUN in the closing lines, and is a defect to be looked at all the same. More than a few fail the whole.
Units, properties and conformance vectors have no second try.

What a test leaves open is an error (`filterwarnings`), in whatever test the collector happens to run. It runs at the end
of each module too, so that the module which left it is told; `-X tracemalloc=15` says where it was opened. What one module
left to another, and nobody has closed, is told at the very end.

The variable is taken out of the environment before anything is started: to Remit it would be an unknown setting.
"""

from __future__ import annotations

import gc
import os
import signal
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

_VARIABLE = "REMIT_TEST_NO_SKIP"

settings.register_profile(
    "remit",
    deadline=None,
    print_blob=True,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
    derandomize="EXPLORE" not in os.environ,
    database=None,
)
settings.load_profile("remit")


_NO_SKIP = pytest.StashKey[bool]()
_REAL = ("tests/scenarios/", "tests/journeys/", "tests/contracts/")
_MOST_RERUN = 5


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "may_skip(reason): skipping is no failure, even under REMIT_TEST_NO_SKIP")
    # A shell that starts us in the background has us, and all that we start, ignore SIGINT.
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    given = os.environ.pop(_VARIABLE, "") == "1"
    config.stash[_NO_SKIP] = getattr(config, "workerinput", {}).get("no_skip", given)


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:
    """Tell an xdist worker: the variable is gone when it starts."""
    node.workerinput["no_skip"] = node.config.stash[_NO_SKIP]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.nodeid.startswith(_REAL):
            item.add_marker(pytest.mark.flaky(reruns=1))


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    again = [] if reporter is None else reporter.stats.get("rerun", [])
    if len(again) > _MOST_RERUN and session.exitstatus == pytest.ExitCode.OK:
        reporter.write_line(
            f"\n{len(again)} tests failed at first: more than {_MOST_RERUN} are no busy machine", red=True
        )
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


@pytest.hookimpl
def pytest_collection_finish() -> None:
    """What importing the tests left is no garbage: the collector need not look through it again and again."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session", autouse=True)
def _nothing_that_was_put_aside_is_left_open() -> Iterator[None]:
    yield
    gc.unfreeze()
    gc.collect()


@pytest.fixture(scope="module", autouse=True)
def _nothing_is_left_open(_nothing_that_was_put_aside_is_left_open: None) -> Iterator[None]:
    """What is alive when a module begins is put aside, so that each end looks through one module's objects and not all."""
    gc.collect()  # what the last test of the module before still held
    gc.freeze()
    yield
    gc.collect()


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Any:
    outcome: Any = yield
    report: pytest.TestReport = outcome.get_result()
    if report.skipped and not hasattr(report, "wasxfail") and item.config.stash[_NO_SKIP]:
        if item.get_closest_marker("may_skip") is None:
            report.outcome = "failed"
            report.longrepr = f"{item.nodeid} was skipped, and {_VARIABLE} is set: {report.longrepr}"
