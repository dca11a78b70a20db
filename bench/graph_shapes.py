"""Graphs as estates have them, as rows of integers: identities and roles by team, resources by popularity.

`tiered`: authority flows down, few cycles. `loopy`: credentials of resources lead back to identities of every team, so
that one giant component is reached by most.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

Shape = Literal["tiered", "loopy"]
_DEGREE = 10.04


@dataclass(frozen=True, slots=True, kw_only=True)
class Rows:
    """Compressed rows without conditions; nodes are identities, then roles, then resources."""

    first: Any
    heads: Any
    classes: Any
    identities: int
    roles: int

    @property
    def tails(self) -> Any:
        """The node from which each edge leaves."""
        import numpy as np

        return np.repeat(np.arange(len(self.classes), dtype=np.int32), np.diff(self.first))


def estate(shape: Shape, nodes: int) -> Rows:
    """One in five nodes is an identity, one in ten a role, the others are resources; ten edges a node."""
    import numpy as np

    dice = np.random.default_rng(5)
    identities, roles = nodes // 5, nodes // 10
    resources = nodes - identities - roles
    teams = max(4, nodes // 1_000)
    wanted = int(nodes * _DEGREE)
    parts: list[tuple[Any, Any]] = []

    def within(team: Any, begin: int, size: int) -> Any:
        """Something of a team's own share of a range."""
        share = max(1, size // teams)
        return begin + (team * share + dice.integers(0, share, len(team))) % size

    who = np.repeat(np.arange(identities), 2)
    popular = identities + np.minimum(dice.zipf(1.6, len(who)) - 1, roles - 1)
    own = within(who % teams, identities, roles)
    parts.append((who, np.where(dice.random(len(who)) < 0.1, popular, own)))
    chained = np.flatnonzero(dice.random(roles) < 0.2) + identities
    above = chained + 1 + dice.integers(0, max(1, roles // teams), len(chained))
    parts.append((chained, np.minimum(above, identities + roles - 1)))
    left = wanted - sum(len(tails) for tails, _ in parts)
    fan = dice.lognormal(2.0, 1.2, roles)
    count = np.maximum(1, (fan / fan.sum() * left).astype(np.int64))
    tails = np.repeat(np.arange(roles), count)
    heads = within(tails * teams // roles, identities + roles, resources)
    parts.append((tails + identities, heads))
    keys = int(nodes * (0.05 if shape == "loopy" else 0.01))
    places = identities + roles + dice.integers(0, resources, keys)
    if shape == "loopy":
        parts.append((places, dice.integers(0, identities, keys)))
    else:
        # The credential that lies in a resource of a team is that of an identity of the next.
        team = (places - identities - roles) * teams // resources
        parts.append((places, np.minimum(team + teams * dice.integers(0, identities // teams, keys), identities - 1)))
    return _rows(nodes, parts, identities, roles, dice)


def _rows(nodes: int, parts: list[tuple[Any, Any]], identities: int, roles: int, dice: Any) -> Rows:
    import numpy as np

    tails = np.concatenate([part[0] for part in parts]).astype(np.int32)
    heads = np.concatenate([part[1] for part in parts]).astype(np.int32)
    order = np.argsort(tails, kind="stable")
    first = np.zeros(nodes + 1, np.int64)
    np.cumsum(np.bincount(tails, minlength=nodes), out=first[1:])
    classes = np.full(nodes, 5, np.int8)
    classes[identities + roles :] = dice.choice(5, nodes - identities - roles, p=(0.1, 0.5, 0.25, 0.1, 0.05))
    return Rows(first=first, heads=heads[order], classes=classes, identities=identities, roles=roles)
