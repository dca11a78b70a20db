"""OpenID AuthZEN Authorization API 1.0 over HTTP."""

from __future__ import annotations

from typing import Any

from remit.access.model import Decision, Request
from remit.surface.api import authzen
from remit.surface.api.metrics import DECISIONS
from remit.surface.api.route import Call, Route, Text

_TAG = "authzen"


def _decider(call: Call) -> Any:
    async def decide(request: Request) -> Decision:
        decision = await call.control.decisions.decide(request)
        DECISIONS.labels("true" if decision.allowed else "false").inc()
        return decision

    return decide


async def _respond(answer: tuple[int, bytes]) -> Any:
    from starlette.responses import Response

    status, body = answer
    return Response(body, status_code=status, media_type="application/json")


async def evaluation(call: Call) -> Any:
    return await _respond(await authzen.evaluation(call.raw, _decider(call)))


async def evaluations(call: Call) -> Any:
    return await _respond(await authzen.evaluations(call.raw, _decider(call)))


async def configuration(call: Call) -> Any:
    return Text(body=authzen.metadata(call.surface.url), media_type="application/json")


ROUTES = [
    Route(method="POST", path="/access/v1/evaluation", summary="Decide one request", handler=evaluation, tag=_TAG),
    Route(
        method="POST", path="/access/v1/evaluations", summary="Decide several requests", handler=evaluations, tag=_TAG
    ),
    Route(
        method="GET",
        path="/.well-known/authzen-configuration",
        summary="AuthZEN metadata",
        handler=configuration,
        public=True,
        tag=_TAG,
    ),
]
