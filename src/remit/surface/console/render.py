"""HTML from templates: autoescaped, with the same headers on every page."""

from __future__ import annotations

from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined, select_autoescape
from markupsafe import Markup, escape
from starlette.responses import HTMLResponse

from remit.kernel.clock import rfc3339
from remit.surface.places import short_place

PAGES = (
    ("/", "Overview"), ("/inventory", "Inventory"), ("/sources", "Sources"), ("/coverage", "Coverage"),
    ("/trust", "Trust"), ("/tasks", "Tasks"),
    ("/decisions", "Decisions"), ("/requests", "Requests"), ("/intents", "Intents"),
    ("/rotations", "Rotations"), ("/standing", "Standing"), ("/rightsizing", "Right-sizing"),
    ("/blast", "Blast radius"), ("/paths", "Paths"), ("/dependencies", "Dependencies"),
    ("/findings", "Findings"), ("/leaks", "Leaks"), ("/leases", "Leases"), ("/ledger-entries", "Ledger"),
)  # fmt: skip
HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "no-store",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
    "connect-src 'self'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'",
}


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent / "templates"),
        autoescape=select_autoescape(["html"]),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["ago"] = _ago
    environment.filters["iso"] = _iso
    environment.filters["clock"] = _clock
    environment.filters["where"] = short_place
    environment.filters["words"] = _words
    return environment


def page(
    template: str, *, status: int = 200, signed_in: bool = True, here: str = "", boundary: str = "", **values: Any
) -> HTMLResponse:
    """A whole page."""
    html = (
        _environment()
        .get_template(template)
        .render(pages=PAGES, signed_in=signed_in, here=here, boundary=boundary, **{"command": "", **values})
    )
    return HTMLResponse(html, status_code=status, headers=HEADERS)


def partial(template: str, **values: Any) -> HTMLResponse:
    """A part of a page."""
    return HTMLResponse(_environment().get_template(template).render(**values), headers=HEADERS)


def _moment(value: datetime | str) -> datetime:
    return datetime.fromisoformat(value) if isinstance(value, str) else value


def _iso(value: datetime | str) -> str:
    return rfc3339(_moment(value))


def _clock(value: datetime | str) -> str:
    return f"{_moment(value).astimezone(UTC):%Y-%m-%d %H:%M:%S}"


def _words(text: str) -> Markup:
    """A sentence of ours: what stands in backticks becomes code."""
    parts = text.split("`")
    if len(parts) % 2 == 0:
        return escape(text)  # an odd backtick is a backtick
    code = Markup("<code>{}</code>")
    return Markup("").join(code.format(part) if at % 2 else escape(part) for at, part in enumerate(parts))


def _ago(value: datetime | str) -> str:
    seconds = (datetime.now(UTC) - _moment(value)).total_seconds()
    for size, unit in ((86_400 * 365, "y"), (86_400, "d"), (3_600, "h"), (60, "min")):
        if abs(seconds) >= size:
            text = f"{abs(seconds) / size:.0f} {unit}"
            break
    else:
        text = f"{abs(seconds):.0f} s"
    return f"{text} ago" if seconds >= 0 else f"in {text}"
