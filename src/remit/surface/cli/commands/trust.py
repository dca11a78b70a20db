"""Commands on registration entries."""

from __future__ import annotations

from typing import Annotated

from cyclopts import Parameter

from remit.surface.cli.options import Listing, Where
from remit.surface.cli.output import emit, plain, say, show_table

_COLUMNS = [("spiffe_id", "SPIFFE ID"), ("selectors", "selectors"), ("x509_ttl", "X.509 ttl"), ("id", "id")]


def entry_create(
    *,
    spiffe_id: Annotated[str, Parameter(help="spiffe://DOMAIN/PATH")],
    selector: Annotated[
        list[str], Parameter(help="TYPE:KEY:VALUE, e.g. unix:uid:1000; all of them must hold.", negative=())
    ],
    hint: Annotated[str, Parameter(help="Told to the workload, to choose among several SVIDs.")] = "",
    identity: Annotated[str, Parameter(help="The identity that it proves: an id or any name of it.")] = "",
    federates_with: Annotated[
        list[str] | None, Parameter(help="Partner whose bundle the workload gets as well.", negative=())
    ] = None,
    where: Listing | None = None,
) -> None:
    """Register a workload. Creating the same entry again changes nothing. Returns when the agent serves it."""
    where = where or Listing()
    body = {
        "spiffe_id": spiffe_id,
        "selectors": selector,
        "hint": hint,
        "identity": identity,
        "federates_with": federates_with or [],
    }
    entry = where.admin.post("/api/v1/entries", body)
    if where.format != "table":
        emit(entry, where.format)
    else:
        _print([entry])


def entry_ls(*, where: Listing | None = None) -> None:
    """List registration entries."""
    where = where or Listing()
    rows = where.admin.get("/api/v1/entries")
    if where.format != "table":
        emit(rows, where.format)
    else:
        _print(rows)


def _print(rows: list[dict[str, object]]) -> None:
    shown = [{**row, "selectors": ", ".join(map(str, row["selectors"]))} for row in rows]  # type: ignore[call-overload]
    show_table(shown, _COLUMNS, empty="no entries: `remit entry create --spiffe-id … --selector unix:uid:1000`")


def entry_rm(entry: str, /, *, where: Where | None = None) -> None:
    """Remove a registration entry: its workloads lose their SVIDs at once."""
    (where or Where()).admin.delete(f"/api/v1/entries/{entry}")
    say(f"removed {plain(entry)}")
