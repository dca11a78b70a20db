"""What can be reached, and how sensitive is it?"""

from __future__ import annotations

from typing import Any

import msgspec

from remit.governance import classification
from remit.inventory.model import Sensitivity
from remit.inventory.records import ResourceFilter
from remit.kernel.errors import Rejected
from remit.surface.api.route import Call, Route

_TAG = "inventory"
_LONGEST = 1_000


class Classify(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`sensitivity` is `public`, `internal`, `confidential` or `restricted`; null takes the word back."""

    resources: list[str]
    sensitivity: str | None
    reason: str


async def list_resources(call: Call) -> Any:
    query = call.query
    wanted = ResourceFilter(
        text=query.get("text", "")[:200],
        system=query.get("system", "")[:40],
        sensitivity=query.get("sensitivity", "")[:20],
        unconfirmed=call.flag("unconfirmed"),
        limit=call.integer("limit", 100, most=10_000),
        offset=call.integer("offset", 0, most=100_000_000),
    )
    rows, total = await call.control.store.read(lambda unit: unit.inventory.list_resources(wanted))
    return {"total": total, "rows": rows}


async def classify(call: Call) -> Any:
    body: Classify = call.body
    if any(len(each) > _LONGEST for each in body.resources):
        raise Rejected("governance.resource.many", f"a name has at most {_LONGEST} characters")
    by = call.require_person("to say how sensitive resources are")
    rows = await call.control.store.write(
        lambda unit: classification.classify(
            unit, body.resources, _sensitivity(body.sensitivity), by=by, reason=body.reason
        )
    )
    await call.control.changed()
    return rows


def _sensitivity(given: str | None) -> Sensitivity | None:
    try:
        return None if given is None else Sensitivity(given)
    except ValueError:
        raise Rejected(
            "governance.resource.sensitivity", f"no sensitivity is called `{given[:40] if given else ''}`",
            next_step="use " + ", ".join(Sensitivity),
        ) from None  # fmt: skip


ROUTES = [
    Route(
        method="GET", path="/api/v1/resources", summary="Resources, with their sensitivity", handler=list_resources,
        query={
            "text": "a part of the name or title", "system": "postgres, aws, …", "sensitivity": "of this class",
            "unconfirmed": "only those whose sensitivity nobody confirmed", "limit": "at most 10,000",
            "offset": "how many to pass over",
        },
        tag=_TAG,
    ),
    Route(
        method="POST", path="/api/v1/resources/classify", summary="Say how sensitive resources are; signed by a person",
        handler=classify, body=Classify, tag=_TAG,
    ),
]  # fmt: skip
