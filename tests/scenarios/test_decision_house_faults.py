"""`remit up` itself under faults: a full disk, ten thousand policies at once, groups that hold each other, a flood."""

from __future__ import annotations

import json
import os
import resource
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager

import pytest
from test_decision_listener import DOMAIN, OF_ALICE, Stage, send, stage

from authzen_scenario import EVALUATION


@pytest.fixture(scope="module")
def running() -> Iterator[Stage]:
    with stage("http://127.0.0.1:0", gateway=False) as made:
        made.server.cli("enforcer", "add", "edge", "--spiffe-id", DOMAIN + "edge", "--uid", str(os.getuid()))
        yield made


@contextmanager
def no_room(pid: int) -> Iterator[None]:
    """No file of this process may grow, as on a disk that is full."""
    before = resource.prlimit(pid, resource.RLIMIT_FSIZE)
    resource.prlimit(pid, resource.RLIMIT_FSIZE, (0, before[1]))
    try:
        yield
    finally:
        resource.prlimit(pid, resource.RLIMIT_FSIZE, before)


def until_allowed(line: object, body: object, *, seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while True:
        reply = send(line, body)  # type: ignore[arg-type]
        if reply.status == 200 and reply.body["decision"]:
            return
        assert time.monotonic() < end, f"it did not recover: {reply.status} {reply.raw[:300]!r}"
        time.sleep(0.1)


def test_with_a_full_disk_nobody_is_allowed_anything_and_then_it_goes_on(running: Stage) -> None:
    assert running.server.process is not None
    with closing(running.unix()) as line, closing(running.unix("admin.sock")) as admin:
        assert send(line, OF_ALICE).body["decision"] is True
        with no_room(running.server.process.pid):
            replies = [send(each, OF_ALICE) for each in (line, admin) for _ in range(10)]
        assert not any(b'"decision":true' in reply.raw for reply in replies)
        assert {reply.status for reply in replies} == {503}
        assert {reply.headers["retry-after"] for reply in replies} == {"1"}
        # By itself: nobody was started anew.
        until_allowed(line, OF_ALICE)
        until_allowed(admin, OF_ALICE)


def test_a_flood_is_told_to_come_again_in_bounded_memory_and_then_it_is_over(running: Stage) -> None:
    """More at once than may wait: from eight connections, each 1,500 requests that are sent before one is read."""
    assert running.server.process is not None
    pid, answers = running.server.process.pid, list[tuple[int, bytes, bool]]()
    before = resident(pid)

    def flood() -> None:
        body = json.dumps({**OF_ALICE, "context": {"ticket": "x" * 200}}).encode()
        one = b"POST %b HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%b"
        whole = one % (EVALUATION.encode(), len(body), body)
        with closing(running.unix()) as line:
            line.connect()
            sender = threading.Thread(target=line.sock.sendall, args=(whole * 1500,))
            sender.start()
            with line.sock.makefile("rb") as reader:
                for _ in range(1500):
                    status = int(reader.readline().split()[1])
                    head = {}
                    while entry := reader.readline().strip():
                        name, _, value = entry.partition(b": ")
                        head[name.lower()] = value
                    found = reader.read(int(head[b"content-length"]))
                    answers.append((status, found[:16], b"retry-after" in head))
            sender.join()

    threads = [threading.Thread(target=flood) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {status for status, _, _ in answers} <= {200, 503}
    assert all(again == (status == 503) for status, _, again in answers)
    assert all(begin == b'{"decision":true' for status, begin, _ in answers if status == 200)
    assert resident(pid) - before < 200 << 20
    with closing(running.unix()) as line:
        assert [send(line, OF_ALICE).status for _ in range(20)] == [200] * 20


def resident(pid: int) -> int:
    with open(f"/proc/{pid}/statm", encoding="ascii") as file:
        return int(file.read().split()[1]) * resource.getpagesize()


def test_ten_thousand_policies_are_applied_at_once_and_decide(running: Stage) -> None:
    path = running.server.root / "many.cedar"
    before = (running.server.root / "p.cedar").read_text()
    many = "".join(
        f'@id("p{n}") permit(principal in Remit::Identity::"group-{n}", action, resource);\n' for n in range(10_000)
    )
    path.write_text(before.replace('"alice-reads"', '"alice-still-reads"') + many)
    running.server.cli("policy", "apply", path)
    with closing(running.unix()) as line:
        until_allowed(line, OF_ALICE)
        found = send(line, OF_ALICE).body
    assert [each["id"] for each in found["context"]["reason"]["policies"]] == ["alice-still-reads"]
