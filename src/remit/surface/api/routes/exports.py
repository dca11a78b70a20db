"""The inventory in the forms that others read."""

from __future__ import annotations

from typing import Any

import msgspec

from remit import __version__
from remit.inventory.exports import csv_table, ocsf, opengraph
from remit.kernel.errors import NotFound
from remit.surface.api.route import Call, Route, Text

FORMS = ("csv", "credentials-csv", "ocsf", "opengraph")


async def export(call: Call) -> Text:
    form = call.path["form"]
    match form:
        case "csv":
            lines = await call.control.store.read(
                lambda unit: "".join(csv_table.identities_csv(each for each in unit.inventory.all_identities()))
            )
            return _file(lines, "text/csv; charset=utf-8", "identities.csv")
        case "credentials-csv":
            lines = await call.control.store.read(
                lambda unit: "".join(csv_table.credentials_csv(unit.inventory.all_credentials()))
            )
            return _file(lines, "text/csv; charset=utf-8", "credentials.csv")
        case "ocsf":
            now = call.control.clock.now()
            return _file(
                await call.control.store.read(lambda unit: _ocsf(unit, now)), "application/x-ndjson", "remit.ocsf.jsonl"
            )
        case "opengraph":
            graph = await call.control.graphs.now()
            body = "".join(opengraph.write(graph.nodes, graph.edges))
            return _file(body, "application/json", "remit.opengraph.json")
        case _:
            raise NotFound(
                "inventory.export.unknown", f"no form is called `{form[:40]}`", next_step=f"use {', '.join(FORMS)}"
            )


def _ocsf(unit: Any, now: Any) -> str:
    lines = []
    page: list[Any] = []
    for record in unit.inventory.all_identities():
        page.append(record)
        if len(page) == 500:
            lines += _events(unit, page, now)
            page = []
    return "".join([*lines, *_events(unit, page, now)])


def _events(unit: Any, records: list[Any], now: Any) -> list[str]:
    there = [each for each in records if each.present and each.merged_into is None]
    held: dict[str, list[Any]] = {}
    for credential in unit.inventory.credentials_of([each.id for each in there]):
        held.setdefault(credential.identity, []).append(credential)
    events = (ocsf.user_inventory(each, held.get(each.id, ()), now, product=__version__) for each in there)
    return [msgspec.json.encode(each).decode() + "\n" for each in events]


def _file(body: str, media_type: str, name: str) -> Text:
    return Text(body=body, media_type=media_type, headers={"content-disposition": f'attachment; filename="{name}"'})


ROUTES = [
    Route(
        method="GET",
        path="/api/v1/exports/{form}",
        summary="The whole inventory as csv, credentials-csv, ocsf or opengraph",
        handler=export,
        tag="inventory",
    )
]
