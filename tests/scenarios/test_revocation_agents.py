"""A revocation on its way to machines far away: who has heard, who has not, and what an agent that is revoked still gets."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any
from uuid import uuid4

import pytest

from agent_stage import ME, Machine, machine
from installation import Installation, installation


@pytest.fixture
def made() -> Iterator[Installation]:
    with installation() as server:
        yield server


def joined(stack: ExitStack, server: Installation, count: int) -> tuple[list[Machine], str]:
    """Machines with agents, and a SPIFFE ID that workloads of the first have."""
    machines = [stack.enter_context(machine(server, f"m{uuid4().hex[:8]}")) for _ in range(count)]
    spiffe_id = f"spiffe://remit.local/far/{uuid4().hex[:8]}"
    selectors = ("--selector", machines[0].selector, "--selector", ME)
    server.cli("entry", "create", "--spiffe-id", spiffe_id, *selectors)
    for one in machines:
        one.join()
    return machines, spiffe_id


def agents(server: Installation) -> dict[str, Any]:
    return {row["name"].partition("/")[2]: row for row in server.json("agent", "ls")}


def test_everyone_connected_acknowledges_and_a_workload_far_away_gets_its_successor(made: Installation) -> None:
    with ExitStack() as stack:
        machines, spiffe_id = joined(stack, made, 2)
        serial = machines[0].fetch_until(spiffe_id)["serial"]
        said = made.json("revoke", f"serial:{serial}", "--wait", "20")
        assert said["reached"]["text"] == "acknowledged 2 of 2"
        assert machines[0].fetch()["serial"] != serial


def test_who_is_away_is_named_until_it_comes_back(made: Installation) -> None:
    with ExitStack() as stack:
        machines, spiffe_id = joined(stack, made, 2)
        serial = machines[0].fetch_until(spiffe_id)["serial"]
        machines[0].stop(signal.SIGKILL)
        away = agents(made)[machines[0].name]["id"]
        said = made.json("revoke", f"serial:{serial}", "--wait", "1", code=1)
        assert said["reached"]["acknowledged"] == 1
        assert said["reached"]["away"] + said["reached"]["waiting"] == [away]
        machines[0].start()
        machines[0].await_ready()
        assert reached(made, said["id"]) == "acknowledged 2 of 2"
        assert machines[0].fetch_until(spiffe_id)["serial"] != serial


def test_after_a_restart_of_the_control_plane_an_agent_that_holds_something_is_still_waited_for(
    made: Installation,
) -> None:
    with ExitStack() as stack:
        (one,), spiffe_id = joined(stack, made, 1)
        serial = one.fetch_until(spiffe_id)["serial"]
        agent = agents(made)[one.name]["id"]
        one.stop(signal.SIGKILL)
        made.stop(signal.SIGKILL)
        made.start()
        said = made.json("revoke", f"serial:{serial}")
        assert said["reached"]["text"] == f"acknowledged 0 of 1, not reached: {agent}"


@pytest.mark.parametrize("form", ["agent:{id}", "node:{name}"])
def test_a_revoked_agent_gets_nothing_and_what_went_through_it_falls(made: Installation, form: str) -> None:
    with ExitStack() as stack:
        (one,), spiffe_id = joined(stack, made, 1)
        one.fetch_until(spiffe_id)
        agent = agents(made)[one.name]
        subject = form.format(id=agent["id"], name=one.name)
        said = made.json("revoke", subject, "--reason", "stolen machine")
        assert said["fell"]["x509-svid"] >= 1
        assert one.ended() == 1
        assert not (one.data / "agent.sock").exists()
        one.start("--bundle", one.bundle, "--join-token-file", one.token())
        assert one.ended() == 1
        assert "trust.agent.revoked" in one.printed()


def reached(server: Installation, revocation: str) -> str:
    def text() -> str:
        return next(str(row["reached"]["text"]) for row in server.json("revocations") if row["id"] == revocation)

    wait_until(lambda: "waiting" not in text() and "not reached" not in text())
    return text()


def wait_until(holds: Any, seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end, "it never came to be"
        time.sleep(0.1)
