"""Commands on network segments: plan, apply, probe, and the places that they are built from."""

from __future__ import annotations

import sys
from typing import Annotated, Any, Literal, TypeAlias
from urllib.parse import quote

from cyclopts import Parameter

from remit.kernel.errors import Rejected
from remit.surface.cli.options import Listing, Where
from remit.surface.cli.output import emit, plain, say, show_table

_PLACES = "/api/v1/segment-places"
Form: TypeAlias = Annotated[
    Literal["nftables", "kubernetes", "pg_hba"], Parameter(name="--for", help="The language of the place.")
]


def plan(
    target: str,
    /,
    *,
    form: Form = "nftables",
    running: Annotated[
        bool, Parameter(help="Only what grants in force allow, not what policy would permit.", negative=())
    ] = False,
    where: Listing | None = None,
) -> None:
    """Print the rules around a target: who may come from where and why, and nobody else. Nothing changes."""
    where = where or Listing()
    _show_plan(where.admin.get(_path(target), form=form, running="1" if running else ""), where)


def apply(
    target: str,
    /,
    *,
    form: Form = "nftables",
    follow: Annotated[
        bool, Parameter(help="Open only for grants in force, and close when a task ends.", negative=())
    ] = False,
    file: Annotated[str, Parameter(help="pg_hba: the file that the server reads, on this machine.")] = "",
    dry_run: Annotated[bool, Parameter(help="Print what would hold; change nothing.", negative=())] = False,
    where: Listing | None = None,
) -> None:
    """Let the rules hold, try them at once, and put everything back where what should work does not."""
    where = where or Listing()
    body = {"form": form, "follow": follow, "file": file, "dry_run": dry_run}
    done = where.admin.post(f"{_path(target)}/apply", body, signed=not dry_run)
    if dry_run:
        _show_plan(done, where)
    elif where.format != "table":
        emit(done, where.format)
    else:
        say(plain(f"applied: {form} rules of {target}{', following grants' if follow else ''}"))
        _show_probe(done["probe"])


def probe(target: str, /, *, form: Form = "nftables", where: Listing | None = None) -> None:
    """Connect from where it should work and from where it should not, and compare the rules with what was applied.

    Exits 1 when anything failed, 2 when it could not be measured.
    """
    where = where or Listing()
    found = where.admin.post(f"{_path(target)}/probe", {"form": form})
    if where.format != "table":
        emit(found, where.format)
    else:
        _show_probe(found)
    raise SystemExit({"pass": 0, "fail": 1}.get(found["verdict"], 2))


def ls(*, where: Listing | None = None) -> None:
    """List the rules that hold, and what was seen of them."""
    where = where or Listing()
    rows = where.admin.get("/api/v1/segments")
    if where.format != "table":
        emit(rows, where.format)
        return
    columns = [("target", "target"), ("form", "for"), ("follow", "follows"), ("time", "applied"), ("actor", "by"),
               ("verdict", "probe"), ("probed", "probed")]  # fmt: skip
    shown = [
        {**row, "verdict": (row["probe"] or {}).get("verdict"), "probed": (row["probe"] or {}).get("time")}
        for row in rows
    ]
    show_table(shown, columns, empty="no network rules are applied: `remit segment plan TARGET`")


def rm(target: str, /, *, form: Form = "nftables", where: Where | None = None) -> None:
    """Take our rules away; what others wrote stays."""
    (where or Where()).admin.post(f"{_path(target)}/remove", {"form": form}, signed=True)
    say(plain(f"removed the {form} rules of {target}"))


def place(
    subject: str,
    /,
    *,
    source: Annotated[
        list[str] | None, Parameter(name="--from", help="A network, e.g. 10.0.0.0/24.", negative=())
    ] = None,
    namespace: Annotated[str, Parameter(help="The Kubernetes namespace of its pods.")] = "",
    label: Annotated[list[str] | None, Parameter(help="KEY=VALUE of its pods.", negative=())] = None,
    remove: Annotated[bool, Parameter(help="Forget the place.", negative=())] = False,
    where: Where | None = None,
) -> None:
    """Register where a task comes from (`task:NAME`), or a target is (`target:NAME`). You sign it."""
    admin = (where or Where()).admin
    if remove:
        admin.delete(f"{_PLACES}/{quote(subject, safe='')}", signed=True)
        say(plain(f"forgot the place of {subject}"))
        return
    pairs = [each.partition("=") for each in label or ()]
    if wrong := [key for key, equals, _ in pairs if not equals]:
        raise Rejected("access.segment.place", f"`{wrong[0][:64]}` is no KEY=VALUE")
    labels = {key: value for key, _, value in pairs}
    body = {"subject": subject, "addresses": source or [], "namespace": namespace, "labels": labels}
    admin.post(_PLACES, body, signed=True)
    say(plain(f"registered the place of {subject}"))


def places(*, where: Listing | None = None) -> None:
    """List registered places."""
    where = where or Listing()
    rows = where.admin.get(_PLACES)
    if where.format != "table":
        emit(rows, where.format)
        return
    shown = [
        {**row, "addresses": ", ".join(row["addresses"]),
         "labels": ", ".join(f"{key}={value}" for key, value in row["labels"].items())}
        for row in rows
    ]  # fmt: skip
    columns = [("subject", "of"), ("addresses", "networks"), ("namespace", "namespace"), ("labels", "labels"),
               ("created_by", "by")]  # fmt: skip
    show_table(shown, columns, empty="no places are registered")


def _path(target: str) -> str:
    return f"/api/v1/targets/{quote(target, safe='')}/segment"


def _show_plan(planned: dict[str, Any], where: Listing) -> None:
    if where.format != "table":
        emit(planned, where.format)
        return
    sys.stdout.write(planned["text"])
    sys.stdout.flush()


def _show_probe(found: dict[str, Any]) -> None:
    columns = [("what", "from"), ("expected", "should be"), ("verdict", "verdict"), ("detail", "what happened")]
    show_table(found["checks"], columns, title=f"{found['target']} ({found['form']}): {found['verdict']}")
