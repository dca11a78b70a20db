"""Rows of agents, on each engine."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any

from remit.kernel.clock import ManualClock
from remit.trust.agents import Agent, AgentState
from remit.trust.model import Selector
from remit.trust.spiffe import SpiffeId
from remit.trust.testing import NOON
from stores import opened, postgres, url

__all__ = ["postgres", "url"]


def an_agent(name: str = "web", **changed: Any) -> Agent:
    how: dict[str, Any] = {
        "id": f"ag_{name}", "spiffe_id": SpiffeId.parse(f"spiffe://remit.test/remit/agent/join_token/{name}"),
        "attestor": "join_token", "name": name, "selectors": frozenset({Selector("join_token", "name", name)}),
        "state": AgentState.ACTIVE, "generation": 3, "serial": "ab", "previous": "cd", "evidence": "sha256:00",
        "attested": NOON, "expires": NOON + timedelta(hours=1), "signature": "s", "software": "remit 1",
    }  # fmt: skip
    return Agent(**{**how, **changed})


def run(url: str, work: Callable[[Any], Any]) -> Any:
    async def whole() -> Any:
        async with opened(url, clock=ManualClock(NOON)) as store:
            return await store.write(lambda unit: work(unit.agents))

    return asyncio.run(whole())


def test_an_agent_comes_back_as_it_was_put(url: str) -> None:
    def work(rows: Any) -> Any:
        rows.put_agent(an_agent())
        return rows.agent("ag_web")

    assert run(url, work) == an_agent()


def test_agents_come_page_by_page(url: str) -> None:
    def work(rows: Any) -> Any:
        for name in "cab":
            rows.put_agent(an_agent(name))
        return [one.name for one in rows.agents(limit=2)], [one.name for one in rows.agents(after="ag_b")]

    assert run(url, work) == (["a", "b"], ["c"])


def test_a_row_of_the_same_spiffe_id_makes_room(url: str) -> None:
    def work(rows: Any) -> Any:
        rows.put_agent(an_agent())
        rows.put_agent(an_agent(id="ag_other"))
        return [one.id for one in rows.agents()]

    assert run(url, work) == ["ag_other"]


def test_when_an_agent_was_seen_changes_nothing_else(url: str) -> None:
    def work(rows: Any) -> Any:
        rows.put_agent(an_agent())
        rows.note_seen({"ag_web": NOON, "ag_gone": NOON})
        return rows.agent("ag_web")

    assert run(url, work) == replace(an_agent(), seen=NOON)


def test_a_removed_agent_is_gone(url: str) -> None:
    def work(rows: Any) -> Any:
        rows.put_agent(an_agent())
        return rows.remove_agent("ag_web"), rows.remove_agent("ag_web"), list(rows.agents())

    assert run(url, work) == (True, False, [])
