"""What the registry of agents needs of others."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Protocol

from remit.trust.agents.model import Agent
from remit.trust.ports import TrustUnit


class AgentRows(Protocol):
    """The agents' rows of one unit of work."""

    def agents(self, *, after: str = "", limit: int = 10_000) -> Sequence[Agent]:
        """At most `limit` agents whose id is greater than `after`, by id."""
        ...

    def agent(self, agent_id: str) -> Agent | None: ...

    def put_agent(self, agent: Agent) -> None:
        """Insert it, or replace the row of the same id; a row of another id with its SPIFFE ID goes."""
        ...

    def note_seen(self, seen: Mapping[str, datetime]) -> None:
        """Remember when these agents last spoke."""
        ...

    def remove_agent(self, agent_id: str) -> bool: ...


class AgentUnit(TrustUnit, Protocol):
    """A unit of work with the agents' rows."""

    @property
    def agents(self) -> AgentRows: ...
