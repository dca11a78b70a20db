"""`remit resource`: what can be reached, and how sensitive it is."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from cyclopts import Parameter

from remit.surface.cli.options import Listing
from remit.surface.cli.output import emit, plain, say, show_table

_COLUMNS = [("name", "resource"), ("kind", "kind"), ("title", "title"), ("class", "sensitivity")]
Class = Literal["public", "internal", "confidential", "restricted", "unknown"]


def resource_ls(
    *,
    text: Annotated[str, Parameter(help="Only those with this in their name or title.")] = "",
    system: Annotated[str, Parameter(help="Only those of this system.")] = "",
    sensitivity: Annotated[str, Parameter(help="Only those of this class.")] = "",
    unconfirmed: Annotated[bool, Parameter(help="Only those that nobody classified.", negative=())] = False,
    limit: int = 100,
    where: Listing | None = None,
) -> None:
    """List resources. A sensitivity that no person confirmed is a source's word: policies take it as restricted."""
    where = where or Listing()
    asked = {"text": text, "system": system, "sensitivity": sensitivity, "limit": str(limit)}
    found = where.admin.get("/api/v1/resources", **asked, **({"unconfirmed": "1"} if unconfirmed else {}))
    if where.format != "table":
        emit(found["rows"], where.format)
        return
    show_table([_shown(each) for each in found["rows"]], _COLUMNS, empty="no such resource")
    if found["total"] > len(found["rows"]):
        say(f"{len(found['rows'])} of {found['total']}: narrow it, or raise --limit")


def classify(
    *resources: str,
    as_: Annotated[Class, Parameter(name="--as", help="`unknown` takes the word back.")],
    reason: Annotated[str, Parameter(help="Why: it is in the ledger.")],
    where: Listing | None = None,
) -> None:
    """Say how sensitive resources are, by their names. Signed by you: a lower class lets policies allow more."""
    where = where or Listing()
    body = {"resources": list(resources), "sensitivity": None if as_ == "unknown" else as_, "reason": reason}
    found = where.admin.post("/api/v1/resources/classify", body, signed=True)
    if where.format != "table":
        emit(found, where.format)
        return
    for each in found:
        say(plain(f"{each['title']}: {_shown(each)['class']}"))


def _shown(row: dict[str, Any]) -> dict[str, Any]:
    said = row["sensitivity"]
    told = "unknown" if said is None else said if row["sensitivity_confirmed"] else f"{said} (not confirmed)"
    return {**row, "class": told}
