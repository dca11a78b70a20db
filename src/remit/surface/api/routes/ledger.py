"""How is it proved? Entries, tiles, checkpoint, proofs."""

from __future__ import annotations

import re
from typing import Any

from remit.kernel.errors import NotFound
from remit.surface.api.route import Call, Route, Text

_TAG = "ledger"
_TILE = re.compile(r"(checkpoint|key\.pub|tile/(entries|\d{1,2})/(x\d{3}/){0,6}\d{3}(\.p/\d{1,3})?)")


async def entries(call: Call) -> Any:
    limit = call.integer("limit", 50, most=1000)
    before = call.integer("before", 0, most=2**53) or None
    prefix, subject = call.query.get("type", ""), call.query.get("subject") or None
    rows = await call.control.store.read(
        lambda unit: unit.ledger.latest(limit, before=before, type_prefix=prefix, subject=subject)
    )
    return [
        {"leaf": row.leaf_index, "id": row.id, "time": row.time, "type": row.type, "actor": row.actor,
         "subject": row.subject, "data": row.data}
        for row in rows
    ]  # fmt: skip


async def tile(call: Call) -> Any:
    path = call.path["path"]
    if _TILE.fullmatch(path) is None:
        raise NotFound("ledger.tile.unknown", "no such tile")
    file = call.control.settings.data.ledger / path
    try:
        body = file.read_bytes()
    except OSError:
        raise NotFound("ledger.tile.unknown", "no such tile") from None
    kind = "text/plain; charset=utf-8" if path in ("checkpoint", "key.pub") else "application/octet-stream"
    return Text(body=body, media_type=kind)


async def prove(call: Call) -> Any:
    return await call.control.prove(call.integer("leaf", 0, most=2**53))


ROUTES = [
    Route(method="GET", path="/api/v1/ledger/entries", summary="The latest entries", handler=entries, tag=_TAG,
          query={"limit": "at most 1000", "before": "older than this leaf", "type": "prefix of the type",
                 "subject": "about this subject"}),
    Route(method="GET", path="/api/v1/ledger/proof", summary="Inclusion proof of one entry", handler=prove, tag=_TAG,
          query={"leaf": "its index"}),
    Route(method="GET", path="/ledger/{path:path}", summary="C2SP tlog-tiles", handler=tile, public=True, tag=_TAG),
]  # fmt: skip
