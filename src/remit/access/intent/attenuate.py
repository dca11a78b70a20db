"""A sub-agent may only less: shown from the two texts, when a child is asked for.

Calls are decided by the whole chain besides (`decide_chain`), so that what is missed here is still refused there.
"""

from __future__ import annotations

from remit.access.intent.constraint import is_within
from remit.access.intent.decide import aim
from remit.access.intent.model import RANK, Automaton, Intent, ToolClass
from remit.inventory.model import Sensitivity


def excess(child: Intent, parent: Intent) -> str:
    """Where `child` would have more than `parent`, in words; empty when it has nothing more."""
    for name, rule in child.tools.items():
        theirs = parent.tools.get(name)
        if theirs is None:
            return f"`{name}` is no tool of the parent"
        if not is_within(rule.arguments, theirs.arguments):
            return f"the arguments of `{name}` admit what the parent refuses"
        if theirs.calls is not None and (rule.calls is None or rule.calls > theirs.calls):
            return f"`{name}` may be called more often"
        if theirs.clearance is not None and (rule.clearance is None or RANK[rule.clearance] > RANK[theirs.clearance]):
            return f"`{name}` may be given data of a higher label"
        if theirs.amount and rule.amount != theirs.amount:
            return f"`{name}` is charged by another argument"
    if RANK[child.ceiling] > RANK[parent.ceiling]:
        return "its ceiling is higher"
    budget, most = child.budget, parent.budget
    if budget.calls > most.calls or budget.bytes > most.bytes or budget.seconds > most.seconds:
        return "its budget is larger"
    if _more(budget.rows, most.rows) or _more(budget.amount, most.amount):
        return "its budget of rows or its amount is larger"
    if child.risk > parent.risk:
        return "it bears more risk"
    if child.expires > parent.expires:
        return "it expires later"
    return _more_orders(child, parent)


def _more(ours: int | None, theirs: int | None) -> bool:
    return theirs is not None and (ours is None or ours > theirs)


def _more_orders(child: Intent, parent: Intent) -> str:
    """Walk both automata together: wherever the child may go, the parent must be able to."""
    outer = parent.sequence
    if outer is None:
        return ""
    inner = child.sequence or Automaton(start="", states={"": {"*": ""}})
    waiting, seen = [(inner.start, outer.start)], {(inner.start, outer.start)}
    while waiting:
        ours, theirs = waiting.pop()
        for tool in child.tools:
            for kind in ToolClass:
                for label in Sensitivity:
                    step = aim(inner.states.get(ours, {}), tool, kind.value, label.value)
                    if step is None:
                        continue
                    after = aim(outer.states.get(theirs, {}), tool, kind.value, label.value)
                    if after is None:
                        return f"after `{ours}` it may call `{tool}`, which the parent's order refuses"
                    if (step, after) not in seen:
                        seen.add((step, after))
                        waiting.append((step, after))
    return ""
