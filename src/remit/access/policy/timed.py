"""Which policies hang on the moment? Only those that read `context.time`, or take the context as a whole."""

from __future__ import annotations

from typing import Any, Final

from remit.access.policy.source import UNREAD

_CONTEXT: Final = {"Var": "context"}


def looks_at_time(est: Any) -> bool:
    """Whether a policy's answer may change by the clock alone; `est` is its JSON form.

    Of two requests with the same facts within the same second, `time` alone differs.
    """
    waiting = [each["body"] for each in est.get("conditions", ())]
    while waiting:
        node = waiting.pop()
        if node == _CONTEXT:
            return True
        if isinstance(node, dict):
            if UNREAD in node:
                return True
            for operator, operand in node.items():
                if operator in (".", "has") and operand.get("left") == _CONTEXT:
                    if operand.get("attr") == "time":
                        return True
                else:
                    waiting.append(operand)
        elif isinstance(node, list):
            waiting += node
    return False
