"""The console's list of identities: views, filters and order stand in the address, so that each can be shared."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final
from urllib.parse import parse_qs, parse_qsl, urlencode

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from remit.inventory.records import COUNTED, IdentityFilter
from remit.kernel.errors import Rejected
from remit.surface.api.callers import authenticate
from remit.surface.api.route import Call
from remit.surface.api.routes.inventory import FILTERS, filter_of
from remit.surface.api.routes.sources import forget_view, keep_view
from remit.surface.console.render import HEADERS, page, partial

if TYPE_CHECKING:
    from remit.surface.context import Surface

COLUMNS: Final = (
    ("title", "Identity"), ("kind", "Kind"), ("system", "System"), ("environment", "Environment"),
    ("owner", "Owner"), ("state", "State"), ("tier", "Tier"), ("last_used", "Last used"), ("last_seen", "Last seen"),
)  # fmt: skip
BUILT_IN: Final = (
    ("everything", ""),
    ("unowned", "unowned=1"),
    ("privileged", "privileged=1"),
    ("exposed", "exposed=1"),
    ("dormant", "finding=%2A.dormant%2A"),
    ("never used", "finding=%2A.never%2A"),
    ("shared", "finding=%2A.shared%2A"),
    ("expiring", "expiring=30"),
    ("tier too lax", "finding=tier.%2A"),
)
"""Views that every installation has: name and filter."""
_PAGE_SIZE: Final = 100
_NOT_A_FILTER: Final = frozenset({"sort", "offset", "limit", "at"})
_MAX_FORM_BYTES: Final = 8 * 1024


async def overview(surface: Surface, call: Call) -> Response:
    """The whole page."""

    def look(unit: Any) -> tuple[Any, ...]:
        rules = unit.inventory.finding_rules()
        connectors = sorted({each.connector for each in unit.inventory.sources()})
        return unit.inventory.facets(), unit.discovery.views(), rules, connectors

    facets, views, rules, connectors = await surface.control.store.read(look)
    now = _filters(call.query)
    built_in = [
        {"name": name, "query": query, "here": _filters(dict(parse_qsl(query))) == now} for name, query in BUILT_IN
    ]
    saved = [{**each, "here": _filters(dict(parse_qsl(each["query"]))) == now} for each in views]
    return page(
        "inventory.html", here="/inventory", facets=facets, built_in=built_in, saved=saved, rules=rules,
        connectors=connectors, q=call.query, **await _rows(surface, call),
    )  # fmt: skip


async def rows(surface: Surface, call: Call) -> Response:
    """The rows alone, as they are typed for; the address of the page follows, so that the view can be shared."""
    answer = partial("inventory_rows.html", **await _rows(surface, call))
    answer.headers["HX-Replace-Url"] = "/inventory?" + _link(call)
    return answer


async def save_view(surface: Surface, request: Request) -> Response:
    """Save what is filtered now under a name."""
    fields = await _form(surface, request)
    kept = await keep_view(surface.control, fields.get("name", ""), fields.get("query", ""), by="console")
    return RedirectResponse(f"/inventory?{kept['query']}", status_code=303, headers=HEADERS)


async def drop_view(surface: Surface, request: Request) -> Response:
    """Delete a view."""
    fields = await _form(surface, request)
    await forget_view(surface.control, fields.get("name", ""))
    return RedirectResponse("/inventory", status_code=303, headers=HEADERS)


async def _form(surface: Surface, request: Request) -> dict[str, str]:
    raw = b""
    async for chunk in request.stream():
        raw += chunk
        if len(raw) > _MAX_FORM_BYTES:
            raise Rejected("surface.body.too_large", "the form is larger than 8 KiB")
    await authenticate(surface, request, raw, public=False)
    return {key: values[0] for key, values in parse_qs(raw.decode("ascii", "replace"), max_num_fields=4).items()}


async def _rows(surface: Surface, call: Call) -> dict[str, Any]:
    query = {key: value for key, value in call.query.items() if key != "at"} | {"limit": str(_PAGE_SIZE)}
    wanted = filter_of(Call(surface=surface, caller=call.caller, path={}, query=query))
    found, total = await surface.control.store.read(lambda unit: unit.inventory.list_identities(wanted))
    more = total > COUNTED and wanted.offset + len(found) >= COUNTED
    last = wanted.offset + len(found)
    # A number that was not counted to its end is said as such, and pages go on behind it.
    following = len(found) == _PAGE_SIZE and (last < total or more)
    return {
        "f": {**_plain(wanted), "sort": call.query.get("sort", "title")},
        "rows": [surface.control.standing.words.lay(each) for each in found],
        "total": f"{total:,}" if total <= COUNTED or _counted(wanted) else f"more than {COUNTED:,}",
        "first": min(wanted.offset + 1, last),
        "last": last,
        "columns": COLUMNS,
        "sorted": wanted.sort,
        "descending": wanted.descending,
        "links": {key: _link(call, sort=_toggle(key, wanted), offset="") for key, _ in COLUMNS},
        "previous": _link(call, offset=str(max(0, wanted.offset - _PAGE_SIZE))) if wanted.offset else "",
        "following": _link(call, offset=str(last)) if following else "",
        "view": urlencode(_filters(call.query)),
    }


def _counted(wanted: IdentityFilter) -> bool:
    """Whether the number is one that is kept, and not `COUNTED` + 1 for more."""
    given = [wanted.kind, wanted.system, wanted.state, wanted.environment, wanted.unowned, wanted.privileged]
    others = (
        wanted.text,
        wanted.owner,
        wanted.exposed,
        wanted.include_gone,
        wanted.finding,
        wanted.connector,
        wanted.tier,
        wanted.service,
        wanted.autonomy,
    )
    return sum(map(bool, given)) <= 1 and not any(others) and wanted.expires_before is None


def _filters(query: Any) -> list[tuple[str, str]]:
    """What narrows the list, in one order."""
    return sorted((key, value) for key, value in query.items() if value and key in FILTERS and key not in _NOT_A_FILTER)


def _plain(wanted: IdentityFilter) -> dict[str, Any]:
    return {name: getattr(wanted, name) for name in IdentityFilter.__dataclass_fields__}


def _toggle(key: str, wanted: IdentityFilter) -> str:
    return f"-{key}" if wanted.sort == key and not wanted.descending else key


def _link(call: Call, **changes: str) -> str:
    query = {**call.query, **changes}
    return urlencode({key: value for key, value in query.items() if value and key in FILTERS})
