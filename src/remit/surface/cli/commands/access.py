"""Commands on targets, tasks and leases."""

from __future__ import annotations

import sys
from collections import Counter
from typing import Annotated, Any

from cyclopts import Parameter

from remit.kernel.errors import Rejected
from remit.surface.cli.dependents import show_dependents
from remit.surface.cli.options import Listing, Where
from remit.surface.cli.output import console, emit, plain, say, show_table


def target_add(
    system: str,
    /,
    *,
    name: Annotated[str, Parameter(help="How needs name it: SYSTEM://NAME?role=…")],
    url: Annotated[str, Parameter(help="SYSTEM://ADMIN@HOST[:PORT]/DATABASE, without a password.")],
    role: Annotated[
        list[str],
        Parameter(help="ROLE=RIGHTS: a role as needs name it, and its rights in the target's language.", negative=()),
    ],
    option: Annotated[list[str] | None, Parameter(help="KEY=VALUE for the broker.", negative=())] = None,
    password_stdin: Annotated[
        bool, Parameter(negative=(), help="Read the admin's password from standard input.")
    ] = False,
    where: Listing | None = None,
) -> None:
    """Add a target on which credentials are minted: SYSTEM is a broker's name, as `postgres`.

    The admin's password is sealed; a URL with a password is refused.
    """
    where = where or Listing()
    secret = sys.stdin.readline().rstrip("\n") if password_stdin else ""
    body = {
        "system": system,
        "name": name,
        "url": url,
        "secret": secret,
        "roles": _pairs(role),
        "options": _pairs(option or []),
    }
    answer = where.admin.post("/api/v1/targets", body)
    if where.format != "table":
        emit(answer, where.format)
        return
    say(f"added {answer['target']['name']}")
    for check in answer["checks"]:
        mark = "[green]ok  [/green]" if check["ok"] else "[yellow]look[/yellow]"
        console().print(f"{mark} {plain(check['title'])}" + (f" — {plain(check['detail'])}" if check["detail"] else ""))


def _pairs(texts: list[str]) -> dict[str, str]:
    pairs = {}
    for text in texts:
        key, sign, value = text.partition("=")
        if not sign or not key or not value:
            raise Rejected("surface.option.invalid", f"`{text}` is no KEY=VALUE")
        pairs[key] = value
    return pairs


def target_ls(*, where: Listing | None = None) -> None:
    """List targets."""
    where = where or Listing()
    rows = where.admin.get("/api/v1/targets")
    if where.format != "table":
        emit(rows, where.format)
        return
    shown = [{**row, "roles": ", ".join(f"{a}={b}" for a, b in row["roles"].items())} for row in rows]
    show_table(
        shown,
        [
            ("name", "target"),
            ("system", "system"),
            ("host", "host"),
            ("database", "database"),
            ("user", "admin"),
            ("roles", "roles"),
        ],
        empty="no targets: `remit target add SYSTEM --name … --url … --role read=RIGHTS`",
    )


def target_rm(name: str, /, *, where: Where | None = None) -> None:
    """Remove a target that has no live leases."""
    (where or Where()).admin.delete(f"/api/v1/targets/{name}")
    say(f"removed {plain(name)}")


def target_install(
    name: str,
    /,
    *,
    sql: Annotated[
        bool, Parameter(name="--print", negative=(), help="Only print what it would do, for the owner to read and run.")
    ] = False,
    where: Listing | None = None,
) -> None:
    """Install on a target what lets the broker do with the least privilege, and see what leases make there.

    Uses the target's admin credential (a superuser); afterwards the target can be given a login without any right.
    """
    where = where or Listing()
    if sql:
        print(where.admin.text(f"/api/v1/targets/{name}/install"))
        return
    answer = where.admin.post(f"/api/v1/targets/{name}/install")
    if where.format != "table":
        emit(answer, where.format)
    else:
        say(f"installed in {plain(', '.join(answer['databases']))}")


def leases(
    *,
    all: Annotated[bool, Parameter(negative=(), help="Ended ones too.")] = False,
    target: str = "",
    limit: int = 100,
    where: Listing | None = None,
) -> None:
    """List leases, with their age, and the kind of task that each is bound to. It says what is not contained yet."""
    where = where or Listing()
    rows = where.admin.get("/api/v1/leases", all=int(all), target=target, limit=limit)
    if where.format != "table":
        emit(rows, where.format)
        return
    columns = [
        ("principal", "credential"),
        ("target", "target"),
        ("task", "task"),
        ("kind", "kind"),
        ("shown", "state"),
        ("created", "age"),
        ("expires", "expires"),
        ("trouble", "trouble"),
        ("id", "id"),
    ]
    shown = [{**row, "shown": row["state"] if row["contained"] else f"not contained: {row['state']}"} for row in rows]
    show_table(shown, columns, empty="no live leases")
    open_on = Counter(row["target"] for row in rows if not row["contained"])
    if open_on:
        where_to_look = ", ".join(f"{number} on {plain(name)}" for name, number in sorted(open_on.items()))
        say(f"[bold]not contained[/bold]: {where_to_look}; tried until the target answers")


def revoke(
    subject: str,
    /,
    *,
    reason: Annotated[str, Parameter(help="Why; required where more than one SVID or token falls.")] = "",
    dry_run: Annotated[
        bool, Parameter(negative=(), help="Say what would be revoked and who depends on it; change nothing.")
    ] = False,
    wait: Annotated[float, Parameter(help="Wait up to SECONDS (at most 60) until everyone connected has heard.")] = 0,
    unseen: Annotated[
        bool, Parameter(negative=(), help="Revoke a serial or token id that is not known to be valid.")
    ] = False,
    where: Listing | None = None,
) -> None:
    """Revoke before expiry, and prove it.

    A lease (ls_…), all leases of an identity (its name or id), a static credential by its fingerprint. Or what was
    issued, everywhere at once: `serial:HEX`, `jti:ID`, `spiffe://…`, `entry:…`, `identity:…`, `agent:…`, `node:…`,
    `authority:…`, `grant:…`, `owner:NAME`; but for single ones, nothing more is issued to it until `remit restore`.

    Exits 1 when a revocation could not be carried out or proved yet, or `--wait` was too short.
    """
    where = where or Listing()
    from remit.surface.cli.commands.revocation import is_issued, revoke_subject

    if is_issued(subject):
        revoke_subject(subject, reason=reason, dry_run=dry_run, wait=wait, unseen=unseen, where=where)
        return
    reason = reason or "revoked by hand"
    answer: dict[str, Any] = where.admin.post(
        "/api/v1/revoke", {"subject": subject, "reason": reason, "dry_run": dry_run}
    )
    if where.format != "table":
        emit(answer, where.format)
    else:
        show_table(
            answer["revoked"],
            [("what", "credential"), ("target", "target"), ("state", "state"), ("proof", "proof")],
            empty="nothing to revoke",
        )
        if dry_run and "said" in answer:
            show_dependents(answer)
        elif answer["dependents"]:
            say("[bold]depends on it[/bold]:")
            show_table(answer["dependents"], [("title", "who"), ("relation", "how"), ("place", "where")])
    if not dry_run and any(each["state"] != "revoked" for each in answer["revoked"]):
        sys.exit(1)
