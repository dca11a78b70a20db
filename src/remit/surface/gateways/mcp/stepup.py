"""A refusal that somebody can still turn: told to the agent's client as a request for input (`input_required`).

The client shows its user what is missing; when the user accepts, it asks again, and is decided anew: nothing that the
client answers counts as proof. Spec: MCP 2026-07-28, multi round-trip requests.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from remit.surface.gateways.mcp import messages
from remit.surface.gateways.mcp.messages import Malformed, Message

_KEY: Final = "remit"
_MAX_STATE: Final = 128


def wanted(message: Message, decision: Mapping[str, Any]) -> bool:
    """Whether to ask: the policy would permit but for obligations, the client can ask, its user has not declined."""
    if not message.modern or not decision["obligations"] or message.method != "tools/call":
        return False
    can = message.meta.get(messages.CAPABILITIES_KEY)
    return isinstance(can, Mapping) and "elicitation" in can and _accepted(message)


def _accepted(message: Message) -> bool:
    """True of a first request, and of one whose user said yes."""
    state, answers = message.params.get("requestState"), message.params.get("inputResponses")
    if state is None and answers is None:
        return True
    if not isinstance(state, str) or len(state) > _MAX_STATE or not isinstance(answers, Mapping):
        raise Malformed(messages.INVALID_PARAMS, "`requestState` or `inputResponses` is malformed")
    answer = answers.get(_KEY)
    return isinstance(answer, Mapping) and answer.get("action") == "accept"


def ask(decision: Mapping[str, Any], text: str, said: Mapping[str, Any]) -> dict[str, Any]:
    """The result that asks."""
    missing = "; ".join(
        [*(f"{each['kind']}: {each['detail']}" for each in decision["obligations"]), *decision["needed"]]
    )
    params = {
        "mode": "form",
        "message": f"{text}. Missing: {missing}. Do that, then accept to try again.",
        "requestedSchema": {"type": "object", "properties": {}},
    }
    return {
        "resultType": "input_required",
        "inputRequests": {_KEY: {"method": "elicitation/create", "params": params}},
        "requestState": str(decision["decision"])[:_MAX_STATE],
        "_meta": {"remit/decision": dict(said)},
    }
