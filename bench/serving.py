"""AuthZEN on the decision listener, each permit recorded on disk before it is answered.

The measure is what a request costs the server in CPU time, which neighbours disturb least. The same listener answering
a constant is the limit of what a decision can be here, nginx answering a constant is that of the machine, and Cerbos is
a decision point that others run.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import statistics
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from bench import cerbos, peers, servers
from bench.decision_server import ANSWER_BYTES
from bench.decisions import SAMPLE, Asking
from bench.load import Run, answers, drive, post
from bench.race import QUICK, Row, scaled
from bench.servers import Server

_EVALUATION = "/access/v1/evaluation"
_READ, _UNREAD = "the same listener: reads, answers a constant", "the same listener: a constant, unread"
_TURNS, _NEW = "1,000 questions in turn", "no two questions alike"
_SECONDS = 0.2 if QUICK else 1.0
_ROUNDS = 2 if QUICK else 5
CLIENTS = scaled(256, 16)
"""Connections, each with one request under way: enough to keep a core busy while records go to the disk."""
_PEER_CLIENTS = scaled(64, 16)
"""Of a decision point that costs a hundred times as much, so that it does not drown in what waits."""


def over_http(tell: Callable[[str], None]) -> Iterator[Row]:
    """Every measurement over HTTP."""
    with tempfile.TemporaryDirectory(prefix="remit-b-", dir="/tmp") as name, contextlib.ExitStack() as stack:
        folder = Path(name)
        ours = {
            mode: stack.enter_context(servers.listener(folder, mode, 20)) for mode in ("constant", "read", "decide")
        }
        ours["decide 1000"] = stack.enter_context(servers.listener(folder, "decide", 1000))
        yield from _against_limits(tell, stack, folder, ours)
        yield from _against_peer(tell, stack, folder, ours["decide"])


def _against_limits(
    tell: Callable[[str], None], stack: contextlib.ExitStack, folder: Path, ours: Mapping[str, Server]
) -> Iterator[Row]:
    raced, missing = dict(ours), ""
    try:
        raced["nginx"] = stack.enter_context(servers.nginx(folder, ANSWER_BYTES))
    except peers.NotThere as why:
        missing = str(why)
    tell("the decision listener: a thousand questions in turn")
    again = _in_turn(raced, lambda: questions(scaled(1000, 20)))
    tell("the decision listener: no two questions alike")
    fresh = _in_turn({"decide": ours["decide"], "read": ours["read"]}, _never_the_same(scaled(60_000, 20_000)))
    yield _cpu(_TURNS, again["decide"], _READ, again["read"], 0.5)
    yield _cpu(f"{_TURNS}, 1,000 policies", again["decide 1000"], _READ, again["read"], 0.5)
    yield _cpu(_TURNS, again["decide"], _UNREAD, again["constant"], 0.3)
    yield _cpu(_TURNS, again["decide"], "nginx `return 200`", again.get("nginx"), 0.15, missing=missing)
    yield _cpu(_NEW, fresh["decide"], _READ, fresh["read"], 0.3)
    for share in ("p50", "p99"):
        yield _waits(share, again["decide"], "the same, a constant", again["constant"], 0.1, clients=CLIENTS)


def _against_peer(
    tell: Callable[[str], None], stack: contextlib.ExitStack, folder: Path, ours: Server
) -> Iterator[Row]:
    """Cerbos asked the same, after both have answered a sample alike; no two questions are alike."""
    theirs: list[Run] | None = None
    missing = ""
    count = scaled(40_000, 2_000)
    mine: list[Run] = []
    fresh = _never_the_same(count, first=1_000_000_000)
    peer_fresh = _never_the_same(count, make=_peer_questions)
    try:
        server = stack.enter_context(servers.peer_pdp(folder, 20))
    except peers.NotThere as why:
        missing = str(why)
        mine = _in_turn({"ours": ours}, fresh, clients=_PEER_CLIENTS)["ours"]
    else:
        tell("the decision listener and Cerbos")
        agree(ours.socket, server.socket)
        theirs = []
        for _ in range(_ROUNDS):
            mine.append(_run(ours, fresh(), _PEER_CLIENTS))
            theirs.append(_run(server, peer_fresh(), _PEER_CLIENTS))
    yield _cpu(f"{_NEW}, {_PEER_CLIENTS} clients", mine, "Cerbos", theirs, 2.0, missing=missing)
    for share in ("p50", "p99"):
        yield _waits(share, mine, "Cerbos", theirs, 1.0, clients=_PEER_CLIENTS, missing=missing)


def agree(ours: str, theirs: str) -> None:
    """Both servers must permit the same questions of the sample."""
    mine = asyncio.run(answers(ours, [question(each) for each in SAMPLE]))
    others = asyncio.run(answers(theirs, [cerbos.question(each) for each in SAMPLE]))
    assert {status for status, _ in (*mine, *others)} == {200}, "both answer every question"
    decided = [bool(json.loads(body)["decision"]) for _, body in mine]
    assert decided == [cerbos.allowed(body) for _, body in others], "Cerbos answers differently"
    assert 0 < sum(decided) < len(decided), "the sample has permits and denials"


def _cpu(what: str, ours: list[Run], against: str, theirs: list[Run] | None, bar: float, *, missing: str = "") -> Row:
    return Row(
        name=f"decision over HTTP, {what}", ours=_median(ours), unit="µs of CPU", against=against,
        theirs=None if theirs is None else _median(theirs), better="lower", bar=bar, missing=missing,
    )  # fmt: skip


def _waits(
    share: str, ours: list[Run], against: str, theirs: list[Run] | None, bar: float, *, clients: int, missing: str = ""
) -> Row:
    def found(runs: list[Run]) -> float:
        return statistics.median(
            run.p50_milliseconds if share == "p50" else run.p99_milliseconds for run in runs
        )  # fmt: skip

    return Row(
        name=f"decision over HTTP, {share} of {clients} clients", ours=found(ours), unit="ms", against=against,
        theirs=None if theirs is None else found(theirs), better="lower", bar=bar, missing=missing,
    )  # fmt: skip


def _in_turn(
    raced: Mapping[str, Server], asked: Callable[[], list[bytes]], *, clients: int = CLIENTS
) -> dict[str, list[Run]]:
    """Every server by turns, so that a noisy moment falls on all of them."""
    runs: dict[str, list[Run]] = {name: [] for name in raced}
    for number in range(_ROUNDS):
        names = list(raced)
        for name in names if number % 2 == 0 else reversed(names):
            runs[name].append(_run(raced[name], asked(), clients))
    return runs


def _run(server: Server, asked: list[bytes], clients: int) -> Run:
    import uvloop

    run: Run = uvloop.run(drive(server.socket, asked, connections=clients, seconds=_SECONDS, pids=server.pids))
    assert set(run.statuses) == {200}, f"{server.socket} answered {run.statuses}"
    return run


def _median(runs: list[Run]) -> float:
    return statistics.median(run.cpu_microseconds for run in runs)


def question(asking: Asking, number: int = 0) -> bytes:
    """A question of about 350 bytes; `number` tells it from others that ask for the same."""
    body = {
        "subject": {"type": "identity", "id": f"id_{asking.subject:026d}"},
        "action": {"name": "read"},
        "resource": {"type": "database", "id": f"database/{asking.resource}"},
        "context": {"proven": {"attested": asking.attested, "task": "nightly"}, **_said(number)},
    }
    return post(_EVALUATION, json.dumps(body).encode())


def questions(different: int, first: int = 0) -> list[bytes]:
    """Different questions, all of which are permitted."""
    return [
        question(Asking(subject=number % 18, resource=number % 18), number)
        for number in range(first, first + different)
    ]


def _peer_questions(different: int, first: int = 0) -> list[bytes]:
    """The same for Cerbos."""
    return [
        cerbos.question(Asking(subject=number % 18, resource=number % 18), **_said(number))
        for number in range(first, first + different)
    ]


def _said(number: int) -> dict[str, str]:
    """What the caller adds, which no policy looks at."""
    return {"purpose": "nightly report", "ticket": f"OPS-{number}", "application": "reports", "user": "ana"}


def _never_the_same(
    count: int, *, first: int = 0, make: Callable[[int, int], list[bytes]] = questions
) -> Callable[[], list[bytes]]:
    """Each call gives questions that were not asked before, more than are asked in one run."""
    batches = itertools.count()
    return lambda: make(count, first + next(batches) * count)
