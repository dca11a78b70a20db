"""The console's pages. A page needs a session; a change needs the page's own origin besides."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
from starlette.requests import Request
from starlette.responses import FileResponse, RedirectResponse, Response
from starlette.routing import BaseRoute, Route

from remit.inventory.graph.svg import STYLE
from remit.kernel.errors import Denied, NotFound, RemitError
from remit.kernel.events import Event
from remit.surface.api.callers import COOKIE, authenticate, check_host, check_origin
from remit.surface.api.route import Call
from remit.surface.console import (
    blast,
    deps,
    identity,
    intents,
    inventory,
    leaks,
    leases,
    past,
    paths,
    requests,
    rightsizing,
    rotations,
    sources,
    standing,
    targets,
    tasks,
    trust,
)
from remit.surface.console.live import live_rows
from remit.surface.console.render import HEADERS, page
from remit.surface.problem import status_of
from remit.surface.sessions import SESSION_LIFE
from remit.surface.views import decision_row, explained, incident_rows, with_titles

if TYPE_CHECKING:
    from remit.surface.context import Surface

Page = Callable[["Surface", Call], Awaitable[Response]]
_STATIC = Path(__file__).parent / "static"
_FILES = {path.name: path for path in _STATIC.iterdir()} | {"blast.css": STYLE}


def console_routes(surface: Surface) -> list[BaseRoute]:
    """Every page."""

    def route(path: str, handler: Page) -> Route:
        async def endpoint(request: Request) -> Response:
            return await _signed_in(surface, request, handler)

        return Route(path, endpoint, methods=["GET"])

    async def static(request: Request) -> Response:
        file = _FILES.get(request.path_params["name"])
        if file is None:
            return Response("not found", status_code=404)
        return FileResponse(file, headers={**HEADERS, "Cache-Control": "max-age=3600"})

    async def sign_in(request: Request) -> Response:
        return await _sign_in(surface, request)

    async def sign_out(request: Request) -> Response:
        return await _sign_out(surface, request)

    async def approve_request(request: Request) -> Response:
        try:
            return await requests.approve(surface, request)
        except RemitError as error:
            return _failed(error)

    def change(path: str, handler: Callable[[Surface, Request], Awaitable[Response]]) -> Route:
        async def endpoint(request: Request) -> Response:
            try:
                return await handler(surface, request)
            except RemitError as error:
                return _failed(error)

        return Route(path, endpoint, methods=["POST"])

    return [
        Route("/static/{name}", static, methods=["GET"]),
        Route("/sign-in", sign_in, methods=["GET"]),
        Route("/sign-out", sign_out, methods=["POST"]),
        route("/", overview),
        route("/inventory", inventory.overview),
        route("/inventory/rows", inventory.rows),
        change("/inventory/views", inventory.save_view),
        change("/inventory/views/drop", inventory.drop_view),
        route("/identities/{identity:path}", identity.overview),
        route("/sources", sources.overview),
        route("/sources/{source}", sources.one),
        route("/coverage", sources.coverage),
        route("/decisions", decisions),
        route("/decisions/stream", decision_stream),
        route("/decisions/{decision}", decision),
        route("/trust", trust.overview),
        route("/trust/stream", trust.stream),
        route("/issued/{leaf}", trust.issuance),
        route("/requests", requests.overview),
        Route("/requests/{grant}/approve", approve_request, methods=["POST"]),
        route("/requests/{grant}", requests.one),
        route("/intents", intents.overview),
        route("/intents/{intent}", intents.intent),
        route("/rotations", rotations.overview),
        route("/standing", standing.overview),
        route("/rightsizing", rightsizing.overview),
        route("/rightsizing/{identity}", rightsizing.one),
        route("/blast", blast.overview),
        route("/blast/{node:path}", blast.one),
        route("/paths", paths.overview),
        route("/dependencies", deps.overview),
        route("/dependencies/{subject:path}", deps.one),
        route("/findings", findings),
        route("/leaks", leaks.overview),
        route("/tasks", tasks.overview),
        route("/tasks/stream", tasks.stream),
        route("/leases", leases.overview),
        route("/leases/{lease}", leases.lease),
        route("/targets", targets.overview),
        route("/targets/{target}", targets.target),
        route("/targets/{target}/doctor", targets.doctor),
        route("/ledger-entries", ledger),
        route("/past", past.overview),
    ]


async def _signed_in(surface: Surface, request: Request, handler: Page) -> Response:
    try:
        caller = await authenticate(surface, request, b"", public=False)
        call = Call(surface=surface, caller=caller, path=request.path_params, query=dict(request.query_params))
        return await handler(surface, call)
    except Denied as error:
        if not error.code.startswith("surface.proof."):
            return _failed(error)
        return page("message.html", signed_in=False, status=401, title="Sign in",
                    text="A sign-in link is good once, for 60 seconds. Ask for one on the machine that runs Remit:",
                    command="remit console")  # fmt: skip
    except RemitError as error:
        return _failed(error)


def _failed(error: RemitError) -> Response:
    return page("message.html", status=status_of(error), title=error.message, text=error.next_step)


async def _sign_in(surface: Surface, request: Request) -> Response:
    try:
        check_host(surface, request)
    except RemitError as error:
        return _failed(error)
    spent = surface.sessions.exchange(request.query_params.get("code", ""))
    if spent is None:
        return page("message.html", signed_in=False, status=403, title="This link is spent",
                    text="A sign-in link is good once, for 60 seconds. Ask for another one:",
                    command="remit console")  # fmt: skip
    token, _ = spent
    response = RedirectResponse("/", status_code=303, headers=HEADERS)
    life = int(SESSION_LIFE.total_seconds())
    response.set_cookie(COOKIE, token, max_age=life, httponly=True, samesite="strict", path="/")
    return response


async def _sign_out(surface: Surface, request: Request) -> Response:
    try:
        check_host(surface, request)
        check_origin(request)
    except RemitError as error:
        return _failed(error)
    surface.sessions.end(request.cookies.get(COOKIE, ""))
    response = RedirectResponse("/", status_code=303, headers=HEADERS)
    response.delete_cookie(COOKIE, path="/")
    return response


async def overview(surface: Surface, call: Call) -> Response:
    summary = await surface.control.summary()
    found, sources = await surface.control.store.read(
        lambda unit: (unit.inventory.findings(limit=8), unit.inventory.sources()[:12])
    )
    boundary = surface.control.boundary_notice()
    return page("overview.html", here="/", s=summary, findings=found, sources=sources, boundary=boundary)


async def decisions(surface: Surface, call: Call) -> Response:
    denied = call.flag("denied")
    rows = await with_titles(surface.control, await surface.control.latest_decisions(limit=100, denied=denied))
    return page("decisions.html", here="/decisions", rows=[decision_row(each) for each in rows], denied=denied)


async def decision(surface: Surface, call: Call) -> Response:
    [record] = await with_titles(surface.control, [await explained(surface.control, call.path["decision"])])
    facts = msgspec.json.format(msgspec.json.encode(record["facts"]), indent=2).decode()
    return page("decision.html", here="/decisions", d=decision_row(record), facts=facts, e=record["explanation"])


async def decision_stream(surface: Surface, call: Call) -> Response:
    async def render(event: Event) -> dict[str, Any]:
        [record] = await with_titles(surface.control, [dict(event.data)])
        return {"d": decision_row(record)}

    return live_rows(surface, "decision_row.html", types=("access.decision.made",), render=render)


async def findings(surface: Surface, call: Call) -> Response:
    severity, text = call.query.get("severity", ""), call.query.get("text", "")[:200]
    rule, source = call.query.get("rule", "")[:80], call.query.get("source", "")[:32]
    rows, counts, rules, sources, incidents = await surface.control.store.read(
        lambda unit: (
            unit.inventory.findings(limit=500, severity=severity, text=text, rule=rule, source=source),
            unit.inventory.finding_counts(),
            unit.inventory.finding_rules(),
            unit.inventory.sources()[:300],
            incident_rows(unit, limit=50),
        )
    )
    subjects = {each.subject for each in rows if each.subject}
    known = await surface.control.store.read(lambda unit: unit.inventory.resolve(subjects))
    return page("findings.html", here="/findings", rows=rows, counts=counts, severity=severity, text=text, rule=rule,
                source=source, rules=rules, sources=sources, incidents=incidents, known=known)  # fmt: skip


async def ledger(surface: Surface, call: Call) -> Response:
    before = call.integer("before", 0, most=2**53) or None
    rows = await surface.control.store.read(lambda unit: unit.ledger.latest(100, before=before))
    if before is not None and not rows:
        raise NotFound("ledger.entry.unknown", "no older entries")
    older = rows[-1].leaf_index if rows and rows[-1].leaf_index > 0 else None
    return page("ledger.html", here="/ledger-entries", rows=rows, older=older, s=await surface.control.summary())
