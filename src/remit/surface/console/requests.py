"""The console's pages on requests and approvals.

A session says that somebody administrates this machine, not which person: approving from the console takes the
person's own signature, made where the key is (`remit approve --print-signature`). Opening a page changes nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import parse_qs

import msgspec
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from remit.access.model import GrantState
from remit.kernel.errors import Rejected
from remit.surface.api.callers import authenticate
from remit.surface.api.route import Call
from remit.surface.api.routes.grants import grant_row, grant_view, take_approval
from remit.surface.console.render import HEADERS, page

if TYPE_CHECKING:
    from remit.surface.context import Surface

_MAX_FORM_BYTES = 8 * 1024
_TONES = {"requested": "warn", "approved": "good", "denied": "bad", "voided": "bad"}


async def overview(surface: Surface, call: Call) -> Response:
    """What waits, what holds, what was; emergencies and constant elevation above all."""
    control = surface.control
    found = [grant_row(each) for each in await control.grants.list(asked=True, limit=300)]
    waiting = [each for each in found if each["state"] == GrantState.REQUESTED]
    emergencies = [each for each in found if each["kind"] == "break-glass" and each["approvals"] and not each["review"]]
    others = [each for each in found if each["state"] != GrantState.REQUESTED]
    return page(
        "requests.html",
        here="/requests",
        waiting=waiting,
        emergencies=emergencies,
        rows=others,
        constant=await control.grant_keeper.constant(),
        tones=_TONES,
        review_days=control.settings.grants.review_days,
    )


async def one(surface: Surface, call: Call) -> Response:
    """One request: its terms, who must approve, what is signed, its history."""
    shown = await grant_view(surface.control, await surface.control.grants.get(call.path["grant"]))
    return page("request.html", here="/requests", g=shown, tones=_TONES, body=_body(shown["digest"]).decode())


async def approve(surface: Surface, request: Request) -> Response:
    """Take a signature that was made elsewhere, over exactly what the page showed."""
    grant = request.path_params["grant"]
    raw = await _read(request)
    await authenticate(surface, request, raw, public=False)
    fields = parse_qs(raw.decode("ascii", "replace"), max_num_fields=4)
    digest, signature = fields.get("digest", [""])[0], fields.get("signature", [""])[0].strip()
    body = _body(digest)
    by = await surface.control.verify_person(
        signature, method="POST", path=f"/api/v1/grants/{grant}/approve", body=body
    )
    await take_approval(surface.control, grant, digest, by, body)
    return RedirectResponse(f"/requests/{grant}", status_code=303, headers=HEADERS)


def _body(digest: str) -> bytes:
    """The body that `remit approve --print-signature` signs."""
    return msgspec.json.encode({"digest": digest})


async def _read(request: Request) -> bytes:
    found = b""
    async for chunk in request.stream():
        found += chunk
        if len(found) > _MAX_FORM_BYTES:
            raise Rejected("surface.body.too_large", "the form is larger than 8 KiB")
    return found
