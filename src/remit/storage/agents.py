"""Rows of trust's agents."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Row, delete, select, update

from remit.storage.schema.trust_agents import trust_agent
from remit.storage.upsert import upsert
from remit.trust.agents.model import Agent, AgentState
from remit.trust.model import Selector
from remit.trust.spiffe import SpiffeId

_PLAIN = (
    "id", "attestor", "name", "generation", "serial", "previous", "evidence", "attested", "expires", "signature",
    "seen", "software",
)  # fmt: skip


class AgentRows:
    """Implements `trust.agents.ports.AgentRows` on one connection."""

    def __init__(self, conn: Connection) -> None:
        self._conn = conn

    def agents(self, *, after: str = "", limit: int = 10_000) -> Sequence[Agent]:
        query = select(trust_agent).where(trust_agent.c.id > after).order_by(trust_agent.c.id).limit(limit)
        return [_to_agent(row) for row in self._conn.execute(query)]

    def agent(self, agent_id: str) -> Agent | None:
        row = self._conn.execute(select(trust_agent).where(trust_agent.c.id == agent_id)).one_or_none()
        return None if row is None else _to_agent(row)

    def put_agent(self, agent: Agent) -> None:
        same = (trust_agent.c.spiffe_id == str(agent.spiffe_id)) & (trust_agent.c.id != agent.id)
        self._conn.execute(delete(trust_agent).where(same))
        upsert(self._conn, trust_agent, [_from_agent(agent)])

    def note_seen(self, seen: Mapping[str, datetime]) -> None:
        for agent_id, at in seen.items():
            self._conn.execute(update(trust_agent).where(trust_agent.c.id == agent_id).values(seen=at))

    def remove_agent(self, agent_id: str) -> bool:
        return self._conn.execute(delete(trust_agent).where(trust_agent.c.id == agent_id)).rowcount > 0


def _from_agent(agent: Agent) -> dict[str, Any]:
    return {
        **{name: getattr(agent, name) for name in _PLAIN},
        "spiffe_id": str(agent.spiffe_id),
        "selectors": sorted(str(one) for one in agent.selectors),
        "state": agent.state.value,
    }


def _to_agent(row: Row[Any]) -> Agent:
    return Agent(
        **{name: getattr(row, name) for name in _PLAIN},
        spiffe_id=SpiffeId.parse(row.spiffe_id),
        selectors=frozenset(Selector.parse(text) for text in row.selectors),
        state=AgentState(row.state),
    )
