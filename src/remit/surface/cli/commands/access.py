"""Commands on targets, tasks and leases."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter

from remit.kernel.errors import NotFound, Rejected
from remit.surface.cli.options import Listing, Where
from remit.surface.cli.output import console, emit, plain, say, show_table


def target_add(
    system: str,
    /,
    *,
    name: Annotated[str, Parameter(help="How needs name it: postgres://NAME?role=…")],
    url: Annotated[str, Parameter(help="postgres://ADMIN@HOST[:PORT]/DATABASE, without a password.")],
    role: Annotated[
        list[str], Parameter(help="ROLE=GROUP: a role as needs name it, and the group role on the target.", negative=())
    ],
    option: Annotated[list[str] | None, Parameter(help="KEY=VALUE for the broker.", negative=())] = None,
    password_stdin: Annotated[
        bool, Parameter(negative=(), help="Read the admin's password from standard input.")
    ] = False,
    where: Listing | None = None,
) -> None:
    """Add a system on which credentials are minted.

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
        empty="no targets: `remit target add postgres --name … --url … --role read=GROUP`",
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
        bool, Parameter(name="--print", negative=(), help="Only print the SQL, for a database owner to read and run.")
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


def task_add(
    name: str,
    /,
    *command: Annotated[str, Parameter(allow_leading_hyphen=True)],
    identity: Annotated[str, Parameter(help="The identity that it runs as; default: one made for the task.")] = "",
    user: Annotated[str, Parameter(help="Name or uid of the user who may run it; default: you.")] = "",
    where: Listing | None = None,
) -> None:
    """Register a task: `remit task add NAME -- CMD…`. The program's digest is part of what is approved."""
    where = where or Listing()
    body = {
        "name": name,
        "identity": identity,
        "argv": list(command),
        "cwd": str(Path.cwd()),
        "path": os.environ.get("PATH", ""),
        "user": user,
    }
    answer = where.admin.post("/api/v1/tasks", body, signed=True)
    if where.format != "table":
        emit(answer, where.format)
    else:
        say(f"registered {answer['name']}: {plain(answer['program']['script'] or answer['program']['executable'])}")


def task_ls(*, where: Listing | None = None) -> None:
    """List task definitions."""
    where = where or Listing()
    rows = where.admin.get("/api/v1/tasks")
    if where.format != "table":
        emit(rows, where.format)
        return
    shown = [{**row, "path": row["program"]["path"], "sha256": row["program"]["sha256"][:16]} for row in rows]
    show_table(
        shown,
        [("name", "task"), ("path", "program"), ("sha256", "sha256"), ("identity", "identity"), ("created_by", "by")],
        empty="no tasks: `remit task add NAME -- CMD`",
    )


def task_rm(name: str, /, *, where: Where | None = None) -> None:
    """Remove a task definition; its running tasks are not ended."""
    (where or Where()).admin.delete(f"/api/v1/tasks/{name}", signed=True)
    say(f"removed {plain(name)}")


def request(
    *,
    task: Annotated[str, Parameter(help="Name of a registered task.")],
    need: Annotated[list[str], Parameter(help="SYSTEM://TARGET[/DATABASE]?role=ROLE", negative=())],
    reason: Annotated[str, Parameter(help="For whoever approves it.")],
    seconds: Annotated[int, Parameter(help="How long it holds, from now; at most 12 hours.")] = 3600,
    where: Listing | None = None,
) -> None:
    """Ask a person for a grant. When it is approved, `remit run` of that task with those needs uses it."""
    where = where or Listing()
    body = {"task": task, "needs": need, "reason": reason, "seconds": seconds}
    answer = where.admin.post("/api/v1/grants", body, signed=True)
    if where.format != "table":
        emit(answer, where.format)
    else:
        say(f"asked for {answer['id']}; another person runs `remit approve {answer['id']}`")


def approve(
    grant: str = "",
    /,
    *,
    deny: Annotated[str, Parameter(help="Deny it instead, for this reason.")] = "",
    where: Listing | None = None,
) -> None:
    """Approve exactly this grant, never as who asked for it; without one, list those that wait."""
    where = where or Listing()
    waiting = where.admin.get("/api/v1/grants")
    if not grant:
        if where.format != "table":
            emit(waiting, where.format)
            return
        rows = [{**each, "needs": ", ".join(each["needs"])} for each in waiting]
        columns = [("id", "grant"), ("task", "task"), ("needs", "needs"), ("state", "state"), ("expires", "ends")]
        show_table(rows, [*columns, ("reason", "reason"), ("requested_by", "asked by")], empty="nothing waits")
        return
    shown = next((each for each in waiting if each["id"] == grant), None)
    if shown is None:
        raise NotFound("access.grant.unknown", f"no grant `{grant}` waits", next_step="`remit approve` lists them")
    asked = f"{shown['task']} ({shown['identity']}) asks for {', '.join(shown['needs'])}: {shown['reason']}"
    say(plain(asked))
    verb, body = ("deny", {"reason": deny}) if deny else ("approve", {"digest": shown["digest"]})
    answer = where.admin.post(f"/api/v1/grants/{grant}/{verb}", body, signed=True)
    say(f"{grant} is {answer['state']}")


def leases(
    *,
    all: Annotated[bool, Parameter(negative=(), help="Ended ones too.")] = False,
    target: str = "",
    limit: int = 100,
    where: Listing | None = None,
) -> None:
    """List leases. `revoking` and `unproved` are not contained yet."""
    where = where or Listing()
    rows = where.admin.get("/api/v1/leases", all=int(all), target=target, limit=limit)
    if where.format != "table":
        emit(rows, where.format)
        return
    columns = [
        ("principal", "credential"),
        ("target", "target"),
        ("task", "task"),
        ("state", "state"),
        ("created", "since"),
        ("expires", "expires"),
        ("trouble", "trouble"),
        ("id", "id"),
    ]
    show_table(rows, columns, empty="no live leases")


def revoke(
    subject: str,
    /,
    *,
    reason: str = "revoked by hand",
    dry_run: Annotated[
        bool, Parameter(negative=(), help="Say what would be revoked and who depends on it; change nothing.")
    ] = False,
    where: Listing | None = None,
) -> None:
    """Revoke a lease (ls_…), all leases of an identity, or a static credential by its fingerprint, and prove it.

    Exits 1 when a revocation could not be carried out or proved yet.
    """
    where = where or Listing()
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
        if answer["dependents"]:
            say(f"[bold]depends on it[/bold]{' (dry run: nothing was changed)' if dry_run else ''}:")
            show_table(answer["dependents"], [("title", "who"), ("relation", "how"), ("place", "where")])
    if not dry_run and any(each["state"] != "revoked" for each in answer["revoked"]):
        sys.exit(1)
