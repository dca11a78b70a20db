"""How far an entry reaches: on which nodes may it be served, and what must a workload there show besides?

An agent is believed about the processes of its own node and about nothing else. What is true of the node itself the
control plane knows from its attestation, and adds: an agent never names it. So a node that was taken over gains what
entries give to that node, and no more.
"""

from __future__ import annotations

from collections.abc import Set as AbstractSet

from remit.trust.model import Selector

NODE = "node"
"""The attestor whose selectors only the control plane makes, of an agent's record."""


def reaches(entry: AbstractSet[Selector], node: AbstractSet[Selector]) -> bool:
    """Whether an entry with these selectors is served through the agent of a node that shows `node`.

    1. it names the node: at least one selector is of it, so that an entry about processes alone stays at home;
    2. each selector that only a node can show (`node:…`) is of this one.
    The rest must be shown on the spot: see `left_to_show`.
    """
    return bool(entry & node) and all(one in node for one in entry if one.attestor == NODE)


def left_to_show(entry: AbstractSet[Selector], node: AbstractSet[Selector]) -> frozenset[Selector]:
    """What a process on the node must show itself for an entry that reaches it."""
    return frozenset(entry - node)
