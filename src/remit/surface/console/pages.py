"""The console's pages. A page needs a session; a change needs the page's own origin besides."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

import msgspec
from starlette.requests import Request
from starlette.responses import FileResponse, RedirectResponse, Response, StreamingResponse
from starlette.routing import BaseRoute, Route

from remit.inventory.graph.render import render_document
from remit.inventory.graph.svg import STYLE, render_svg
from remit.inventory.records import IdentityFilter
from remit.kernel.errors import Denied, NotFound, RemitError
from remit.surface.api.callers import COOKIE, authenticate, check_host, check_origin
from remit.surface.api.route import Call
from remit.surface.api.routes.inventory import filter_of
from remit.surface.console.render import HEADERS, page, partial
from remit.surface.problem import status_of
from remit.surface.sessions import SESSION_LIFE
from remit.surface.views import decision_row, identity_page, incident_rows, lease_rows, with_titles

if TYPE_CHECKING:
    from remit.surface.context import Surface

Page = Callable[["Surface", Call], Awaitable[Response]]
_STATIC = Path(__file__).parent / "static"
_FILES = {path.name: path for path in _STATIC.iterdir()} | {"blast.css": STYLE}
_COLUMNS = (
    ("title", "Identity"), ("kind", "Kind"), ("system", "System"), ("environment", "Environment"),
    ("owner", "Owner"), ("state", "State"), ("last_used", "Last used"), ("last_seen", "Last seen"),
)  # fmt: skip
_PAGE_SIZE = 100


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

    return [
        Route("/static/{name}", static, methods=["GET"]),
        Route("/sign-in", sign_in, methods=["GET"]),
        Route("/sign-out", sign_out, methods=["POST"]),
        route("/", overview),
        route("/inventory", inventory),
        route("/inventory/rows", inventory_rows),
        route("/identities/{identity:path}", identity),
        route("/decisions", decisions),
        route("/decisions/stream", decision_stream),
        route("/decisions/{decision}", decision),
        route("/findings", findings),
        route("/leases", leases),
        route("/ledger-entries", ledger),
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


async def inventory(surface: Surface, call: Call) -> Response:
    facets = await surface.control.store.read(lambda unit: unit.inventory.facets())
    rows = await _rows(surface, call)
    return page("inventory.html", here="/inventory", facets=facets, **rows)


async def inventory_rows(surface: Surface, call: Call) -> Response:
    """The rows alone, as they are typed for; the address of the page follows, so that the view can be shared."""
    answer = partial("inventory_rows.html", **await _rows(surface, call))
    answer.headers["HX-Replace-Url"] = "/inventory?" + _link(call)
    return answer


async def _rows(surface: Surface, call: Call) -> dict[str, Any]:
    query = {**call.query, "limit": str(_PAGE_SIZE)}
    wanted = filter_of(Call(surface=surface, caller=call.caller, path={}, query=query))
    rows, total = await surface.control.store.read(lambda unit: unit.inventory.list_identities(wanted))
    plain = msgspec.structs.asdict(wanted) if isinstance(wanted, msgspec.Struct) else _filter_dict(wanted)
    return {
        "f": {**plain, "sort": call.query.get("sort", "title")},
        "rows": rows,
        "total": total,
        "first": min(wanted.offset + 1, total),
        "last": min(wanted.offset + len(rows), total),
        "columns": _COLUMNS,
        "sorted": wanted.sort,
        "descending": wanted.descending,
        "links": {key: _link(call, sort=_toggle(key, wanted), offset="") for key, _ in _COLUMNS},
        "previous": _link(call, offset=str(max(0, wanted.offset - _PAGE_SIZE))) if wanted.offset else "",
        "following": _link(call, offset=str(wanted.offset + _PAGE_SIZE)) if wanted.offset + len(rows) < total else "",
    }


def _filter_dict(wanted: IdentityFilter) -> dict[str, Any]:
    return {name: getattr(wanted, name) for name in IdentityFilter.__dataclass_fields__}


def _toggle(key: str, wanted: IdentityFilter) -> str:
    return f"-{key}" if wanted.sort == key and not wanted.descending else key


def _link(call: Call, **changes: str) -> str:
    query = {**call.query, **changes}
    return urlencode({key: value for key, value in query.items() if value})


async def identity(surface: Surface, call: Call) -> Response:
    found = await surface.control.resolve(call.path["identity"])
    facts = await identity_page(surface.control, found)
    blast = await surface.control.blast(found)
    summary = render_document(blast, limit=0)
    return page(
        "identity.html",
        here="/inventory",
        i=facts["identity"],
        names=facts["names"],
        credentials=facts["credentials"],
        proposals=facts["proposals"],
        findings=facts["findings"],
        sightings=facts["sightings"],
        leases=facts["leases"],
        timeline=facts["timeline"],
        picture=render_svg(blast, limit=120),
        blast_summary=f"{len(blast)} {'thing' if len(blast) == 1 else 'things'} reached, score {summary['score']}.",
        blast_link=f"/api/v1/identities/{found}/blast",
    )


async def decisions(surface: Surface, call: Call) -> Response:
    denied = call.flag("denied")
    rows = await with_titles(surface.control, await surface.control.latest_decisions(limit=100, denied=denied))
    return page("decisions.html", here="/decisions", rows=[decision_row(each) for each in rows], denied=denied)


async def decision(surface: Surface, call: Call) -> Response:
    [record] = await with_titles(surface.control, [await surface.control.decision(call.path["decision"])])
    facts = msgspec.json.format(msgspec.json.encode(record["facts"]), indent=2).decode()
    return page("decision.html", here="/decisions", d=decision_row(record), facts=facts)


async def decision_stream(surface: Surface, call: Call) -> Response:
    async def lines() -> AsyncIterator[bytes]:
        async with surface.control.bus.subscribe() as queue:
            yield b"retry: 2000\n\n"
            while True:
                try:
                    event = await asyncio.wait_for(queue.get(), 15)
                except TimeoutError:
                    yield b": still here\n\n"
                    continue
                if event.type == "access.decision.made":
                    html = partial(
                        "decision_row.html", d=decision_row((await with_titles(surface.control, [dict(event.data)]))[0])
                    ).body
                    yield b"event: decision\ndata: " + bytes(html).replace(b"\n", b" ") + b"\n\n"

    return StreamingResponse(lines(), media_type="text/event-stream", headers=HEADERS)


async def findings(surface: Surface, call: Call) -> Response:
    severity, text = call.query.get("severity", ""), call.query.get("text", "")[:200]
    rows, counts, incidents = await surface.control.store.read(
        lambda unit: (
            unit.inventory.findings(limit=500, severity=severity, text=text),
            unit.inventory.finding_counts(),
            incident_rows(unit, limit=50),
        )
    )
    subjects = {each.subject for each in rows if each.subject}
    known = await surface.control.store.read(lambda unit: unit.inventory.resolve(subjects))
    return page("findings.html", here="/findings", rows=rows, counts=counts, severity=severity, text=text,
                incidents=incidents, known=known)  # fmt: skip


async def leases(surface: Surface, call: Call) -> Response:
    rows = await surface.control.store.read(lambda unit: lease_rows(unit, ended=True, limit=300))
    return page("leases.html", here="/leases", rows=rows)


async def ledger(surface: Surface, call: Call) -> Response:
    before = call.integer("before", 0, most=2**53) or None
    rows = await surface.control.store.read(lambda unit: unit.ledger.latest(100, before=before))
    if before is not None and not rows:
        raise NotFound("ledger.entry.unknown", "no older entries")
    older = rows[-1].leaf_index if rows and rows[-1].leaf_index > 0 else None
    return page("ledger.html", here="/ledger-entries", rows=rows, older=older, s=await surface.control.summary())
