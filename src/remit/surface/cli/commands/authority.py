"""Commands on authorities and downstreams."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from cyclopts import Parameter

from remit.surface.cli.options import Listing, Where
from remit.surface.cli.output import ago, emit, plain, say, show_table

Kind = Literal["x509", "jwt", "token"]
DryRun = Annotated[bool, Parameter(negative=(), help="Say what would happen and how much hangs on it; change nothing.")]
_COLUMNS = [
    ("kind", "kind"),
    ("state", "state"),
    ("unexpired", "unexpired"),
    ("activated", "signs since"),
    ("expires", "expires"),
    ("upstream", "upstream"),
    ("id", "id"),
]


def ls(*, where: Listing | None = None) -> None:
    """List authorities: which keys sign, which are published beside them, and how many unexpired SVIDs hang on each."""
    where = where or Listing()
    rows = where.admin.get("/api/v1/authorities")
    if where.format != "table":
        emit(rows, where.format)
    else:
        show_table(rows, _COLUMNS, empty="no authorities yet")


def prepare(kind: Kind = "x509", /, *, dry_run: DryRun = False, where: Listing | None = None) -> None:
    """Make and publish the next authority, so that everyone trusts it before it signs."""
    _do(where, f"{kind}/prepare", dry_run, "prepared")


def activate(authority: str, /, *, dry_run: DryRun = False, where: Listing | None = None) -> None:
    """Let a prepared authority sign; the one before stays published. Signed by you."""
    _do(where, f"{authority}/activate", dry_run, "signs now:")


def rotate(kind: Kind = "x509", /, *, dry_run: DryRun = False, where: Listing | None = None) -> None:
    """Let a new authority sign at once; what the one before signed stays valid until its end. Signed by you."""
    _do(where, f"{kind}/rotate", dry_run, "signs now:")


def taint(authority: str, /, *, dry_run: DryRun = False, where: Listing | None = None) -> None:
    """Have all that an old authority signed issued anew and pushed now. Signed by you."""
    _do(where, f"{authority}/taint", dry_run, "tainted")


def revoke(authority: str, /, *, dry_run: DryRun = False, where: Listing | None = None) -> None:
    """Take an authority out of the bundle and destroy its key. Signed by you."""
    _do(where, f"{authority}/revoke", dry_run, "revoked")


def _do(where: Listing | None, path: str, dry_run: bool, done: str) -> None:
    where = where or Listing()
    # Preparing is what the schedule does by itself; a dry run changes nothing.
    signed = not dry_run and not path.endswith("/prepare")
    found = where.admin.post(f"/api/v1/authorities/{path}", {"dry_run": dry_run}, signed=signed)
    if where.format != "table":
        emit(found, where.format)
    elif dry_run:
        say(f"{plain(found['id'] or 'nothing yet')}: {found['would']}; {found['unexpired']} unexpired hang on it")
    else:
        say(f"{done} {plain(found['id'])} ({found['kind']}), {_rest(found)}")
        if found["state"] == "revoked" and found["upstream"] == "signed":
            say("[yellow]note[/yellow] an upstream signed it: revoke it there too, its root still vouches for it")


def _rest(found: dict[str, Any]) -> str:
    return f"{found['unexpired']} unexpired, ends {ago(found['expires'])}"


def downstream_add(
    spiffe_id: str,
    /,
    *,
    lifetime: Annotated[int, Parameter(help="Longest life of one intermediate, in seconds.")] = 86_400,
    where: Listing | None = None,
) -> None:
    """Let the Remit that shows this SPIFFE ID have intermediate authorities of this trust domain. Signed by you."""
    where = where or Listing()
    body = {"spiffe_id": spiffe_id, "lifetime_seconds": lifetime}
    found = where.admin.post("/api/v1/downstreams", body, signed=True)
    if where.format != "table":
        emit(found, where.format)
    else:
        say(f"allowed {plain(found['spiffe_id'])} ({found['id']})")


def downstream_ls(*, where: Listing | None = None) -> None:
    """List the control planes that may have intermediates."""
    where = where or Listing()
    rows = where.admin.get("/api/v1/downstreams")
    if where.format != "table":
        emit(rows, where.format)
    else:
        columns = [("spiffe_id", "SPIFFE ID"), ("lifetime_seconds", "seconds"), ("by", "allowed by"), ("id", "id")]
        show_table(rows, columns, empty="nobody may have an intermediate")


def downstream_rm(downstream: str, /, *, where: Where | None = None) -> None:
    """Let a control plane below have no more intermediates; those that it has go on to their end."""
    (where or Where()).admin.delete(f"/api/v1/downstreams/{downstream}")
    say(f"removed {plain(downstream)}")
