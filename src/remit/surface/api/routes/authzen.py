"""OpenID AuthZEN Authorization API 1.0 over HTTP: on `admin.sock`, and for workloads and enforcement points by mTLS."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

from starlette.responses import Response

from remit.access.enforcers.model import Asker
from remit.access.model import Decision, Request
from remit.surface.api import authzen
from remit.surface.api.authzen_search import SearchDesk
from remit.surface.api.metrics import DECISIONS
from remit.surface.api.route import Call, Route, Text
from remit.surface.decide.callers import of_call
from remit.wiring import ControlPlane
from remit.wiring.hot import answer_json, sees_facts

_TAG = "authzen"


async def evaluation(call: Call) -> Any:
    return await _evaluate(call, authzen.evaluation)


async def evaluations(call: Call) -> Any:
    return await _evaluate(call, authzen.evaluations)


async def search_subject(call: Call) -> Any:
    return await _search(call, "subject")


async def search_resource(call: Call) -> Any:
    return await _search(call, "resource")


async def search_action(call: Call) -> Any:
    return await _search(call, "action")


async def configuration(call: Call) -> Any:
    here = f"https://{call.surface.agents}" if call.caller.via == "mtls" else call.surface.url
    return Text(body=authzen.metadata(here), media_type=authzen.JSON_TYPE)


def search_desk(control: ControlPlane) -> SearchDesk:
    """The searches of this installation, as the wire has them."""
    return SearchDesk(control.enforcers.searches, control.enforcers.page_key, clock=control.clock, entropy=os.urandom)


async def _evaluate(call: Call, verb: Any) -> Response:
    authzen.require_json(call.headers.get("content-type", (None,))[0])
    asker = of_call(call)
    return _respond(await verb(call.raw, _decider(call, asker), _shower(asker)))


async def _search(call: Call, kind: str) -> Response:
    authzen.require_json(call.headers.get("content-type", (None,))[0])
    return _respond(await search_desk(call.control).search(kind, call.raw, of_call(call)))


def _decider(call: Call, asker: Asker) -> authzen.Decide:
    async def decide(request: Request) -> Decision:
        decision = await call.control.desk.decide(request, asker)
        DECISIONS.labels("true" if decision.allowed else "false").inc()
        return decision

    return decide


def _shower(asker: Asker) -> Callable[[Decision], dict[str, Any]]:
    facts = sees_facts(asker)
    return lambda decision: answer_json(decision, facts=facts)


def _respond(answer: authzen.Answer) -> Response:
    status, body = answer
    kind = authzen.JSON_TYPE if status == 200 else authzen.PROBLEM_TYPE
    return Response(body, status_code=status, media_type=kind)


def _post(path: str, summary: str, handler: Any) -> Route:
    return Route(method="POST", path=path, summary=summary, handler=handler, mtls=True, tag=_TAG)


ROUTES = [
    _post(authzen.EVALUATION_PATH, "Decide one request", evaluation),
    _post(authzen.EVALUATIONS_PATH, "Decide several requests", evaluations),
    _post(authzen.SEARCH_PATHS["subject"], "Who may do this on that?", search_subject),
    _post(authzen.SEARCH_PATHS["resource"], "On what may this one do that?", search_resource),
    _post(authzen.SEARCH_PATHS["action"], "What may this one do on that?", search_action),
    Route(
        method="GET",
        path=authzen.METADATA_PATH,
        summary="AuthZEN metadata",
        handler=configuration,
        public=True,
        tag=_TAG,
    ),
]
