"""`--decide-workers 2`: both decide, both hear of what is revoked, and neither can be killed into a lie."""

from __future__ import annotations

import contextlib
import http.client
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest
from test_decision_listener import DOMAIN, OF_ALICE, OF_BOB, WORLD, Reply, Stage, send

from authzen_scenario import question, what, who
from installation import installation
from remit.kernel.errors import Misconfigured
from remit.surface.decide.workers import require_count

_SECONDS = 60.0


def until(true: Callable[[], object]) -> None:
    end = time.monotonic() + _SECONDS
    while not true():
        assert time.monotonic() < end, "it did not come to be"
        time.sleep(0.05)


def workers_of(stage: Stage) -> set[int]:
    """The processes that serve, by what the kernel says of the server's children."""
    assert stage.server.process is not None
    found = set()
    for task in Path(f"/proc/{stage.server.process.pid}/task").iterdir():
        found |= {int(pid) for pid in (task / "children").read_text().split() if is_worker(int(pid))}
    return found


def is_worker(pid: int) -> bool:
    with contextlib.suppress(OSError):
        return b"remit.surface.decide.worker" in Path(f"/proc/{pid}/cmdline").read_bytes()
    return False


def serving(stage: Stage) -> str:
    lines = stage.server.admin.get("/api/v1/doctor")
    return next(str(line["detail"]) for line in lines if line["title"] == "decision workers serve")


def logs_of(stage: Stage) -> dict[str, int]:
    """How many bytes of decisions each log has."""
    folder = stage.server.data / "ledger" / "decisions"
    return {each.name: sum(one.stat().st_size for one in each.glob("*.seg")) for each in folder.iterdir()}


def spread(stage: Stage, body: object, count: int = 24) -> list[object]:
    """Ask on connections of their own: the kernel spreads them over the workers."""
    found = []
    for _ in range(count):
        with closing(stage.tcp("gateway")) as line:
            found.append(send(line, body).body.get("decision"))
    return found


@pytest.fixture(scope="module")
def stage() -> Iterator[Stage]:
    with installation("--decide-workers", "2", REMIT_ACCESS_LISTEN="127.0.0.1:0") as server:
        made = Stage(server)
        made.open()
        server.cli("enforcer", "add", "gateway", "--spiffe-id", DOMAIN + "gateway")
        until(lambda: serving(made).startswith("2 of 2"))
        yield made


@pytest.fixture(autouse=True)
def two(stage: Stage) -> None:
    until(lambda: serving(stage).startswith("2 of 2"))


def test_both_decide_and_what_each_decided_is_found_and_in_the_ledger(stage: Stage) -> None:
    before = logs_of(stage)
    with closing(stage.tcp("gateway")) as line:
        decision = send(line, OF_ALICE).body["context"]["id"]
    assert spread(stage, OF_ALICE) == [True] * 24
    after = logs_of(stage)
    grown = {name[-3:] for name, size in after.items() if size > before.get(name, 0)}
    assert grown == {".w1", ".w2"}, "the server itself decides nothing while they serve"
    assert "alice-reads" in stage.server.cli("explain", decision).stdout
    assert decision in {row["id"] for row in stage.server.json("decisions", "--limit", "200")}
    stage.server.cli("ledger", "verify")  # exits 2 for anything that does not hold


def test_what_they_do_not_serve_themselves_the_server_does_through_them(stage: Stage) -> None:
    asked = question(who("bob"), "read", what())(WORLD)
    with closing(stage.tcp("bob")) as line:
        mine = send(line, asked, "/access/v1/search/action")
        others = send(line, question(who("alice"), "read", what())(WORLD), "/access/v1/search/action")
        after = send(line, asked)
    assert [each["name"] for each in mine.body["results"]] == ["read"]
    assert (others.status, after.status) == (403, 200)


@pytest.mark.parametrize(
    ("name", "ending", "answer"),
    [("dan", "revoke", (401, "")), ("eve", "quarantine", (200, "the identity is quarantined"))],
)
def test_what_is_revoked_or_quarantined_both_refuse(
    stage: Stage, name: str, ending: str, answer: tuple[int, str]
) -> None:
    """A revoked one is nobody at all; a quarantined one is known, and denied whatever policies say."""
    entry = {"spiffe_id": DOMAIN + name, "selectors": [f"unix:uid:{os.getuid()}"]}
    stage.server.admin.post("/api/v1/entries", entry)
    policy = stage.server.root / "p.cedar"
    allows = f'permit(principal in Remit::Identity::"{DOMAIN}{name}", action == Remit::Action::"read", resource);\n'
    policy.write_text(policy.read_text() + allows)
    stage.server.cli("policy", "apply", policy)
    asked = question(who(DOMAIN + name), "read", what())(WORLD)
    lines = [stage.tcp(name) for _ in range(12)]
    try:
        until(lambda: {said(send(line, asked)) for line in lines} == {(200, "")})
        stage.server.cli(ending, DOMAIN + name, "--reason", "test")
        until(lambda: {said(send(line, asked)) for line in lines} == {answer})
    finally:
        for line in lines:
            line.close()


def said(reply: Reply) -> tuple[int, str]:
    """The status, and why not."""
    if reply.status != 200 or reply.body["decision"]:
        return reply.status, ""
    return reply.status, ", ".join(policy["text"] for policy in reply.body["context"]["reason"]["policies"])


def test_a_policy_counts_in_both(stage: Stage) -> None:
    assert spread(stage, OF_BOB, 12) == [True] * 12
    policy = stage.server.root / "p.cedar"
    before = policy.read_text()
    policy.write_text(before + f'\nforbid(principal in Remit::Identity::"{WORLD.bob}", action, resource);\n')
    stage.server.cli("policy", "apply", policy)
    until(lambda: spread(stage, OF_BOB, 12) == [False] * 12)
    policy.write_text(before)
    stage.server.cli("policy", "apply", policy)
    until(lambda: spread(stage, OF_BOB, 12) == [True] * 12)


def test_a_worker_killed_under_load_loses_no_allow_and_comes_back(stage: Stage) -> None:
    told: list[tuple[bool, str]] = []
    over = threading.Event()

    def load() -> None:
        while not over.is_set():
            with contextlib.suppress(OSError, http.client.HTTPException), closing(stage.tcp("gateway")) as line:
                while not over.is_set():
                    for body in (OF_ALICE, {**OF_ALICE, "action": {"name": "delete"}}):
                        answer = send(line, body)
                        if answer.status == 200:
                            told.append((answer.body["decision"], answer.body["context"]["id"]))
                            assert answer.body["decision"] is (body is OF_ALICE)

    threads = [threading.Thread(target=load) for _ in range(4)]
    for thread in threads:
        thread.start()
    try:
        until(lambda: len(told) > 100)
        (killed, *_) = workers_of(stage)
        os.kill(killed, signal.SIGKILL)
        seen = len(told)
        until(
            lambda: len(told) > seen + 100 and serving(stage).startswith("2 of 2") and killed not in workers_of(stage)
        )
    finally:
        over.set()
        for thread in threads:
            thread.join()
    allowed = [name for yes, name in told if yes]
    assert allowed and len(set(allowed)) == len(allowed)
    raw = b"".join(each.read_bytes() for each in (stage.server.data / "ledger" / "decisions").glob("*/*.seg"))
    assert {raw.count(b'{"id":"%b"' % name.encode()) for name in allowed} == {1}
    until(lambda: stage.server.json("ledger", "verify")["decisions"]["unbatched"] == 0)
    newest = {row["id"] for row in stage.server.json("decisions", "--limit", "1000")}
    assert set(allowed[-100:]) <= newest


def test_a_worker_that_hangs_is_ended_and_the_others_answer_meanwhile(stage: Stage) -> None:
    hung = min(workers_of(stage))
    os.kill(hung, signal.SIGSTOP)
    until(lambda: hung not in workers_of(stage))
    assert spread(stage, OF_ALICE, 4) == [True] * 4


def test_there_is_a_bound_on_how_many() -> None:
    assert [require_count(number) for number in (0, 16)] == [0, 16]
    for number in (-1, 17):
        with pytest.raises(Misconfigured, match="decision workers"):
            require_count(number)


def test_a_server_that_stops_is_a_stream_that_stops_and_nobody_is_anybody(stage: Stage) -> None:
    assert stage.server.process is not None
    with closing(stage.tcp("gateway")) as line:
        assert send(line, OF_ALICE).body["decision"] is True
        os.kill(stage.server.process.pid, signal.SIGSTOP)
        try:
            until(lambda: send(line, OF_ALICE).body.get("decision") is not True)
            until(lambda: send(line, OF_ALICE).status == 503)
        finally:
            os.kill(stage.server.process.pid, signal.SIGCONT)
        until(lambda: send(line, OF_ALICE).body.get("decision") is True)


def test_workers_end_with_a_killed_server_and_the_next_one_has_what_they_decided() -> None:
    with installation("--decide-workers", "2", REMIT_ACCESS_LISTEN="127.0.0.1:0") as server:
        made = Stage(server)
        made.open()
        server.cli("enforcer", "add", "gateway", "--spiffe-id", DOMAIN + "gateway")
        until(lambda: serving(made).startswith("2 of 2"))
        with closing(made.tcp("gateway")) as line:
            decision = send(line, OF_ALICE).body["context"]["id"]
            workers = workers_of(made)
            server.stop(signal.SIGKILL)
        assert len(workers) == 2
        until(lambda: not any(is_worker(pid) for pid in workers))
        server.arguments = ()
        server.start()
        assert "alice-reads" in server.cli("explain", decision).stdout
        until(lambda: (seen := server.json("ledger", "verify")["decisions"])["unbatched"] == 0 and seen["nodes"] == 3)
