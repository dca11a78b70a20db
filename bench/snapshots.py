"""The snapshot of a large inventory in programs that decide by themselves: its rate, its memory, and what it saves.

`python -m bench.snapshots serve|hold …` are the two processes of a measurement: the source, and one point.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Any, Final

from bench.decision_server import Log, OpenDoor
from bench.race import Row, microseconds_each, race, scaled
from remit.access.policy.facts import IdentityFacts, ResourceFacts

_MIB: Final = 1 << 20
_SEED: Final = b"b" * 32
_FLOOR_RATE: Final = 1_000.0
"""Commits a second that a busy installation may make."""
_FLOOR_MIB: Final = 1_024.0
_POLICY: Final = '@id("read") permit(principal, action == Remit::Action::"read", resource);'


def rows(tell: Callable[[str], None]) -> Iterator[Row]:
    """Changes a second and resident memory with many identities; a decision in the program against one by HTTP."""
    from remit.client.enforce import Pdp

    identities, changes, asked = scaled(1_000_000, 2_000), scaled(20_000, 200), scaled(5_000, 50)
    tell(f"a point with {identities:,} identities")
    with _processes(identities) as (source, holder, path):
        loaded_mib = float(_said(holder, "memory"))
        begun = time.perf_counter()
        _say(source, f"change {changes}")
        _said(holder, f"wait {changes + 1}")
        rate = changes / (time.perf_counter() - begun)
        after_mib = float(_said(holder, "memory"))
        central = Pdp(path, timeout=30)
        question = _question()
        ours, theirs = race(
            lambda: float(_said(holder, f"ask {asked}")),
            lambda: microseconds_each(lambda: central.ask(question), asked),
            rounds=3,
        )
        central.close()
    label = f"{identities:,} identities"
    floor: dict[str, Any] = {"against": "floor", "bar": 1.0}
    yield Row(
        name=f"local PDP: changes streamed, {label}", ours=rate, unit="/s", theirs=_FLOOR_RATE, better="higher", **floor
    )
    yield Row(
        name=f"local PDP: resident memory, {label}", ours=max(loaded_mib, after_mib), unit="MiB", theirs=_FLOOR_MIB,
        better="lower", **floor,
    )  # fmt: skip
    yield Row(
        name=f"local PDP: a decision, {label}", ours=ours, unit="µs", against="the central one by HTTP", theirs=theirs,
        better="lower", bar=5.0,
    )  # fmt: skip


def _question() -> Any:
    from remit.client.enforce import Question

    return Question(subject="id_7", action="read", kind="api", name="orders")


@contextmanager
def _processes(identities: int) -> Iterator[tuple[subprocess.Popen[str], subprocess.Popen[str], str]]:
    """Source and point, both ready; ended with the block."""
    folder = Path(tempfile.mkdtemp(prefix="remit-s-", dir="/tmp"))
    path = str(folder / "s")
    with ExitStack() as closing:
        closing.callback(shutil.rmtree, folder, ignore_errors=True)
        source = _start(closing, "serve", path, str(folder / "log"), str(identities))
        holder = _start(closing, "hold", path, str(folder / "journal"))
        yield source, holder, path


def _start(closing: ExitStack, *arguments: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "bench.snapshots", *arguments]
    made = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    closing.callback(made.wait, 30)
    closing.callback(made.kill)
    assert made.stdout is not None and made.stdout.readline().startswith("ready"), f"`{arguments[0]}` did not start"
    return made


def _say(process: subprocess.Popen[str], words: str) -> None:
    assert process.stdin is not None
    process.stdin.write(words + "\n")
    process.stdin.flush()


def _said(process: subprocess.Popen[str], words: str) -> str:
    _say(process, words)
    assert process.stdout is not None
    return process.stdout.readline().strip()


# The source.


def _identity(number: int, *, risk: int = 0) -> IdentityFacts:
    name = f"spiffe://bench.test/team-{number % 997}/service-{number}"
    return IdentityFacts(
        id=f"id_{number}", name=name, kind="workload", owner=f"team-{number % 997}", owner_active=True, tier=3,
        environment="production", service=f"service-{number % 5003}", risk=risk,
    )  # fmt: skip


async def _serve(path: str, folder: str, count: int) -> None:
    from remit.access.policy.compile import compile_policies
    from remit.access.policy.decide import Pdp
    from remit.access.snapshot import Snapshot, SnapshotCell
    from remit.kernel.clock import SystemClock
    from remit.ledger.segments import SegmentLog
    from remit.surface.decide.hall import Hall
    from remit.surface.decide.http import Connection
    from remit.surface.decide.points import PointDesk
    from remit.wiring.hot import DecisionDesk
    from remit.wiring.reported import Reports
    from remit.wiring.streams import SnapshotStreams

    clock = SystemClock()
    orders = ResourceFacts(name="api/orders", kind="api", sensitivity="internal")
    whole = Snapshot.of(
        compile_policies(_POLICY), epoch=1, sequence=1, at=clock.monotonic(), identities=map(_identity, range(count)),
        resources=[orders],
    )  # fmt: skip
    cell = SnapshotCell(whole)
    log: Any = Log(await asyncio.to_thread(SegmentLog.open, Path(folder), "bench", clock=clock))
    streams = SnapshotStreams(cell, _SEED, clock=clock)
    desk = DecisionDesk(Pdp(cell.current, clock), log, clock=clock)
    hall = Hall(desk, None, PointDesk(streams, Reports(log, clock=clock)), clock=clock)
    hall.open()
    loop = asyncio.get_running_loop()
    await loop.create_unix_server(partial(Connection, hall, OpenDoor()), path)  # type: ignore[arg-type]
    words: asyncio.Queue[str] = asyncio.Queue()
    threading.Thread(target=_listen, args=(loop, words), daemon=True).start()
    print("ready", flush=True)
    while True:
        cell.beat(clock.monotonic())
        try:
            async with asyncio.timeout(0.1):
                said = await words.get()
        except TimeoutError:
            continue
        await _commit(cell, clock, int(said.split()[1]), count)


async def _commit(cell: Any, clock: Any, changes: int, count: int) -> None:
    """So many commits, one by one: each changes one identity."""
    from remit.access.snapshot import Delta

    for number in range(changes):
        facts = _identity(number * 7919 % count, risk=1 + number % 99)
        now = cell.current()
        cell.apply(Delta(epoch=1, sequence=now.sequence + 1, identities={facts.id: facts}), at=clock.monotonic())
        await asyncio.sleep(0)


def _listen(loop: asyncio.AbstractEventLoop, words: asyncio.Queue[str]) -> None:
    for line in sys.stdin:
        loop.call_soon_threadsafe(words.put_nowait, line)


# The point.


def _hold(path: str, folder: str) -> None:
    from remit.client.enforce import LocalPdp

    pdp = LocalPdp(folder, path, timeout=30)
    pdp.open(wait=600)
    print("ready", flush=True)
    question = _question()
    for line in sys.stdin:
        what, _, number = line.strip().partition(" ")
        if what == "memory":
            pages = int(Path("/proc/self/statm").read_text().split()[1])
            print(pages * os.sysconf("SC_PAGE_SIZE") / _MIB, flush=True)
        elif what == "wait":
            while int(pdp.state["snapshot"].partition(".")[2]) < int(number):
                time.sleep(0.005)
            print("there", flush=True)
        else:
            first = pdp.ask(question)
            assert first.allowed, f"{first.reason} {pdp.state}"
            print(microseconds_each(lambda: pdp.ask(question), int(number)), flush=True)


if __name__ == "__main__":
    if sys.argv[1] == "serve":
        import uvloop

        uvloop.run(_serve(sys.argv[2], sys.argv[3], int(sys.argv[4])))
    else:
        _hold(sys.argv[2], sys.argv[3])
