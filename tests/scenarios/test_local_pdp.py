"""A decision point inside a program: fed by the stream, it decides as the central one; cut off, it refuses by tier."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from decide_stage import identity, record
from local_stage import KEY, Carrier, LocalStage, ask, local_stage, point, until
from remit.access import stream
from remit.access.enforcers.journal import decision_id, mark_of
from remit.access.enforcers.model import Asker
from remit.access.policy.facts import ResourceFacts
from remit.client.enforce.local import LocalPdp
from remit.kernel.clock import SystemClock
from remit.kernel.errors import Rejected, Unavailable


@pytest.fixture
def stage() -> Iterator[LocalStage]:
    with local_stage() as made:
        yield made


def test_it_decides_as_the_snapshot_says_and_follows_each_change(stage: LocalStage) -> None:
    pdp = stage.pdp()
    assert pdp.ask(ask()).allowed
    assert not pdp.ask(ask(action="write")).allowed
    stage.change(quarantined={"id_alice": "rogue"})
    until(lambda: "quarantined" in pdp.ask(ask()).reason)
    stage.change(quarantined={"id_alice": None}, revoked={"id_root": "leaked"})
    until(lambda: pdp.ask(ask()).allowed and not pdp.ask(ask("root")).allowed)


def test_asyncio_asks_it_too(stage: LocalStage) -> None:
    pdp = stage.pdp()

    async def both() -> tuple[bool, bool]:
        return (await pdp.ask_async(ask())).allowed, (await pdp.ask_async(ask("root"))).allowed

    assert asyncio.run(both()) == (True, True)


def test_a_cut_stream_is_taken_up_where_it_was(stage: LocalStage) -> None:
    pdp = stage.pdp()
    pdp.open()
    stage.cut()
    stage.change(identities={"id_new": identity("new")})
    until(lambda: pdp.ask(ask("new")).allowed)
    assert pdp.state["loads"] == 1


def test_after_a_restart_of_the_listener_the_whole_is_loaded_anew(stage: LocalStage) -> None:
    pdp = stage.pdp()
    stage.change(revoked={"id_root": "leaked"})
    until(lambda: not pdp.ask(ask("root")).allowed)
    stage.stop()
    stage.start()
    until(lambda: pdp.state["loads"] == 2)
    assert not pdp.ask(ask("root")).allowed


def test_a_reload_at_the_source_is_one_change_here(stage: LocalStage) -> None:
    pdp = stage.pdp()
    pdp.open()
    stage.reload(identities=[identity("alice"), identity("carol")])
    until(lambda: pdp.ask(ask("carol")).allowed)
    assert not pdp.ask(ask("root")).allowed
    assert pdp.state["loads"] == 1


def test_a_source_that_stops_is_refused_by_tier(stage: LocalStage) -> None:
    pdp = stage.pdp()
    until(lambda: pdp.ask(ask("root")).allowed)
    stage.stop()
    until(lambda: "stale" in pdp.ask(ask("root")).reason)
    assert pdp.ask(ask()).allowed
    stage.change(identities={})
    stage.start()
    until(lambda: pdp.ask(ask("root")).allowed)


def test_beats_do_not_help_when_the_source_itself_is_not_current(stage: LocalStage) -> None:
    pdp = stage.pdp()
    pdp.open()
    stage.beats = False
    until(lambda: "stale" in pdp.ask(ask("root")).reason)


def test_a_carrier_that_holds_frames_back_makes_nothing_younger(stage: LocalStage) -> None:
    path = str(stage.folder / "between")
    between = Carrier(path, stage.path)
    pdp = stage.pdp(path)
    pdp.open()
    until(lambda: pdp.ask(ask("root")).allowed)

    def slowly(data: bytes) -> bytes:
        time.sleep(1.5)  # each beat comes late, and none is missing
        return data

    between.alter = slowly
    until(lambda: "s old" in pdp.ask(ask("root")).reason)
    between.close()


def test_a_forged_frame_makes_it_refuse_at_once(stage: LocalStage) -> None:
    path = str(stage.folder / "between")
    between = Carrier(path, stage.path)
    pdp = stage.pdp(path)
    assert pdp.ask(ask()).allowed
    between.alter = lambda data: data[:-1] + bytes([data[-1] ^ 1])
    until(lambda: "stale" in pdp.ask(ask()).reason)
    between.alter = lambda data: data
    until(lambda: pdp.ask(ask()).allowed)
    between.close()


def test_another_key_than_the_pinned_one_gives_nothing(stage: LocalStage) -> None:
    pdp = stage.pdp(key="ed25519:" + "00" * 31 + "01", timeout=0.5)
    with pytest.raises(Unavailable):
        pdp.ask(ask())


def test_a_stream_that_was_cut_for_another_point_gives_nothing(stage: LocalStage) -> None:
    pdp = stage.pdp(spiffe_id="spiffe://remit.test/other", timeout=0.5)
    with pytest.raises(Unavailable, match="another point"):
        pdp.ask(ask())


def test_a_point_knows_what_it_is_registered_for_and_no_more() -> None:
    vault = ResourceFacts(name="vault/other", kind="vault", names=("other",), sensitivity="internal")
    with local_stage(asker=point(resources=("api/*",)), resources=[record("record-1"), vault]) as stage:
        pdp = stage.pdp()
        assert pdp.ask(ask()).allowed
        for kind, name in (("vault", "other"), ("api", "other"), ("api", "vault/other")):
            with pytest.raises(Rejected, match="registration"):
                pdp.ask(ask(kind=kind, name=name))


def test_who_is_no_registered_point_gets_no_stream(stage: LocalStage) -> None:
    stage.door.asked_as = Asker(name="somebody", identity="id_alice")
    with pytest.raises(Unavailable, match="no registered enforcement point"):
        stage.pdp(timeout=0.5).ask(ask())


def test_a_point_that_is_registered_no_more_is_refused_at_once(stage: LocalStage) -> None:
    pdp = stage.pdp()
    pdp.open()
    stage.door.asked_as = Asker(name="somebody")
    until(lambda: "stale" in pdp.ask(ask()).reason)


def test_a_reader_that_does_not_read_is_shown_out() -> None:
    crowd = [identity(f"n{number}") for number in range(20_000)]
    with local_stage(identities=crowd) as stage, socket.socket(socket.AF_UNIX) as line:
        line.connect(stage.path)
        line.sendall(request(stream.Ask(nonce="00" * 32)))
        until(lambda: stage.streams.count == 1)
        stage.on_loop(lambda: setattr(stage.hall, "tick", stage.hall.tick + 60))
        until(lambda: stage.streams.count == 0)


def test_only_so_many_streams_are_open(stage: LocalStage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("remit.wiring.streams.MOST_OF_ONE", 1)
    stage.pdp().open()
    with pytest.raises(Unavailable, match="as many snapshot streams"):
        stage.pdp(timeout=0.5).ask(ask())


@pytest.mark.parametrize("body", [b"{}", b"[]", b'{"nonce": "zz"}', b'{"nonce": "' + b"0" * 62 + b'"}', b"\xff"])
def test_what_asks_for_no_stream_is_refused(stage: LocalStage, body: bytes) -> None:
    with socket.socket(socket.AF_UNIX) as line:
        line.connect(stage.path)
        line.sendall(posted("/access/v1/snapshot", body))
        assert line.recv(4096).startswith(b"HTTP/1.1 400")


# Reports.


def test_each_decision_is_in_the_log_with_the_name_of_who_made_it(stage: LocalStage) -> None:
    pdp = stage.pdp()
    made = {pdp.ask(ask()).id, pdp.ask(ask("root")).id, pdp.ask(ask("nobody")).id}
    until(lambda: {one["id"] for one in stage.reported()} == made)
    assert {one["decided_by"] for one in stage.reported()} == {"app"}


def test_while_nobody_takes_them_decisions_wait_and_go_later_once(stage: LocalStage) -> None:
    pdp = stage.pdp()
    pdp.open()
    stage.stop()
    made = [pdp.ask(ask()).id for _ in range(1000)]
    stage.start()
    until(lambda: len(stage.reported()) >= 1000)
    pdp.close()
    assert sorted(one["id"] for one in stage.reported()) == sorted(made)


def test_a_report_counts_once_even_after_a_restart(stage: LocalStage) -> None:
    body = report(decision_id(mark_of("ef_1"), SystemClock().now()))
    assert posted_to(stage, body) == (200, {"taken": 1, "known": 0})
    assert posted_to(stage, body) == (200, {"taken": 0, "known": 1})
    stage.stop()
    stage.start()
    assert posted_to(stage, body) == (200, {"taken": 0, "known": 1})


def test_nobody_reports_the_decisions_of_another(stage: LocalStage) -> None:
    theirs = decision_id(mark_of("ef_2"), SystemClock().now())
    status, answer = posted_to(stage, report(theirs))
    assert status == 400
    assert "no decision of `app`" in str(answer)
    assert stage.reported() == []


@pytest.mark.parametrize(
    "change", [{"time": "2999-01-01T00:00:00Z"}, {"id": "dc_1"}, {"decided_by": "x"}, {"time": ""}]
)
def test_what_is_no_decision_is_not_taken(stage: LocalStage, change: dict[str, str]) -> None:
    body = msgspec.json.decode(report(decision_id(mark_of("ef_1"), SystemClock().now())))
    body["decisions"][0] |= change
    assert posted_to(stage, msgspec.json.encode(body))[0] == 400


def test_a_killed_process_leaves_what_it_answered_to_the_next_one(stage: LocalStage) -> None:
    worker = subprocess.Popen(
        [sys.executable, "-c", WORKER, stage.path, str(stage.folder / "shared"), KEY], stdout=subprocess.PIPE, text=True
    )
    assert worker.stdout is not None
    told = [worker.stdout.readline().strip() for _ in range(20)]
    os.kill(worker.pid, signal.SIGKILL)
    worker.wait(60)
    worker.stdout.close()
    heir = LocalPdp(stage.folder / "shared", stage.path, key=KEY, timeout=30)
    try:
        heir.open()
        until(lambda: set(told) <= {one["id"] for one in stage.reported()})
    finally:
        heir.close()


WORKER = """
import sys
from remit.client.enforce import LocalPdp, Question
pdp = LocalPdp(sys.argv[2], sys.argv[1], key=sys.argv[3], timeout=30)
while True:
    made = pdp.ask(Question(subject="root", action="read", kind="api", name="record-1"))
    assert made.allowed
    print(made.id, flush=True)
"""


def test_a_child_of_a_fork_begins_anew(stage: LocalStage) -> None:
    script = "import os\n" + WORKER.partition("while")[0] + FORKED
    done = subprocess.run(
        [sys.executable, "-c", script, stage.path, str(stage.folder / "forked"), KEY],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.stdout.split() == ["child", "True", "parent", "True"], done.stderr


FORKED = """
question = Question(subject="alice", action="read", kind="api", name="record-1")
pdp.ask(question)
child = os.fork()
if not child:
    print("child", pdp.ask(question).allowed, flush=True)
    os._exit(0)
os.waitpid(child, 0)
print("parent", pdp.ask(question).allowed)
pdp.close()
"""


def request(asked: stream.Ask) -> bytes:
    return posted("/access/v1/snapshot", msgspec.json.encode(asked))


def posted(path: str, body: bytes) -> bytes:
    head = f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    return head.encode() + body


def posted_to(stage: LocalStage, body: bytes) -> tuple[int, object]:
    from http.client import HTTPConnection

    line = HTTPConnection("x", timeout=60)
    with contextlib.closing(socket.socket(socket.AF_UNIX)) as made:
        made.connect(str(Path(stage.path)))
        line.sock = made
        line.request("POST", "/access/v1/decisions", body, {"Content-Type": "application/json"})
        answer = line.getresponse()
        return answer.status, msgspec.json.decode(answer.read())


def report(decision: str) -> bytes:
    one = {
        "id": decision, "time": "2026-01-01T00:00:00Z", "allowed": True,
        "request": {"subject": {"type": "identity", "id": "alice"}, "action": "read",
                    "resource": {"type": "api", "id": "record-1"}},
    }  # fmt: skip
    return msgspec.json.encode({"decisions": [one]})
