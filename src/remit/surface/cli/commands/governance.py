"""Commands on owners, people, life cycle and exceptions."""

from __future__ import annotations

import shlex
import sys
from typing import Annotated, Any
from urllib.parse import quote

from cyclopts import Parameter

from remit.kernel.errors import NotFound
from remit.surface.cli.commands.inventory import path_of
from remit.surface.cli.options import Listing, Where
from remit.surface.cli.output import emit, plain, say, show_table, visible


def own(
    identity: str = "",
    owner: Annotated[str, Parameter(help="A person, address or team; without one, the likely owners are shown.")] = "",
    /,
    *,
    ask: Annotated[bool, Parameter(help="Ask the next likely owner.", negative=())] = False,
    where: Listing | None = None,
) -> None:
    """Show who should answer for an identity, with the evidence; assign somebody; or list who is asked about what."""
    where = where or Listing()
    if not identity:
        asked = where.admin.get("/api/v1/owners/asked")
        if where.format != "table":
            emit(asked, where.format)
            return
        columns = [
            ("identity", "identity"),
            ("asked", "asked"),
            ("why", "why"),
            ("deadline", "until"),
            ("status", "is"),
        ]
        show_table(asked, columns, empty="nobody is asked; `remit ls --unowned` lists what nobody answers for")
        return
    if owner:
        where.admin.post(f"{path_of(identity)}/owner", {"owner": owner}, signed=True)
        say(plain(f"{owner} answers for {identity}"))
        return
    if ask:
        answer = where.admin.post(f"{path_of(identity)}/owner/ask", {}, signed=True)
        if where.format != "table":
            emit(answer, where.format)
        elif answer["status"] == "open":
            say(plain(f"{answer['asked']} is asked until {answer['deadline']} ({answer['why']})"))
        else:
            say(plain("everybody was asked, and nobody answers for it"))
        return
    rows = where.admin.get(f"{path_of(identity)}/owner/proposals")
    if where.format != "table":
        emit(rows, where.format)
        return
    shown = [
        {
            "owner": each["owner"],
            "score": each["score"],
            "known": "yes" if each["known"] else "no",
            "evidence": "; ".join(f"{one['method']}: {one['text']} ({one['place']})" for one in each["evidence"]),
        }
        for each in rows["proposals"]
    ]
    show_table(
        shown,
        [("owner", "proposed"), ("score", "score"), ("known", "in the directory"), ("evidence", "evidence")],
        empty="nothing suggests an owner: `remit own ID PERSON` assigns one",
    )
    if rows["chain"]:
        say(plain("would be asked, in order: " + ", ".join(each["owner"] for each in rows["chain"])))


def claim(identity: str, /, *, where: Where | None = None) -> None:
    """Answer for an identity yourself."""
    (where or Where()).admin.post(f"{path_of(identity)}/claim", {}, signed=True)
    say(plain(f"you answer for {identity}"))


def lifecycle(identity: str, state: str, /, *, reason: str, where: Where | None = None) -> None:
    """Move an identity to another state of its life: active, rotating, suspended, retired."""
    (where or Where()).admin.post(f"{path_of(identity)}/state", {"state": state, "reason": reason}, signed=True)
    say(plain(f"{identity} is {state}"))


def enrol(
    name: str,
    /,
    *,
    email: str = "",
    public_key: Annotated[str, Parameter(help="64 hex characters; default: make a key for yourself.")] = "",
    where: Listing | None = None,
) -> None:
    """Register a person.

    Without --public-key a key is made for the person at this terminal and kept in their configuration; where somebody
    is registered already, that one registers its public half, which is printed.
    """
    from remit.surface.cli.person import key_path, make_key

    where = where or Listing()
    admin = where.admin
    about = admin.get("/api/v1/people/about")
    made = ""
    if not public_key:
        _, public_key = make_key(about["instance"], name)
        made = str(key_path(about["instance"]))
        if about["persons"]:
            say(plain(f"your key: {made}; you are not registered yet, a registered person runs:"))
            address = ["--email", email] if email else []
            told = shlex.join(["remit", "people", "enrol", name, *address, "--public-key", public_key])
            sys.stdout.write(visible(told) + "\n")
            return
    body = {"name": name, "email": email or f"{name}@localhost", "public_key": public_key}
    admin.post("/api/v1/people", body, signed=bool(about["persons"]))
    say(plain(f"registered {name}" + (f"; your key: {made}" if made else "")))


def people_ls(*, where: Listing | None = None) -> None:
    """List registered persons."""
    where = where or Listing()
    rows = where.admin.get("/api/v1/people")
    if where.format != "table":
        emit(rows, where.format)
    else:
        show_table(
            rows,
            [
                ("name", "person"),
                ("email", "e-mail"),
                ("active", "active"),
                ("enrolled", "since"),
                ("enrolled_by", "by"),
            ],
            empty="nobody is registered: the first command that needs a person enrols you",
        )


def people_leave(
    name: str,
    /,
    *,
    reason: str,
    dry_run: Annotated[bool, Parameter(help="Say what would follow; change nothing.", negative=())] = False,
    where: Listing | None = None,
) -> None:
    """End a person's part: no signature counts any more, and what they answered for needs another owner."""
    where = where or Listing()
    if dry_run:
        owned = where.admin.get("/api/v1/identities", owner=f"person:{name}", limit=1000)
        if where.format != "table":
            emit(owned["rows"], where.format)
            return
        columns = [("title", "needs another owner"), ("tier", "tier"), ("state", "state"), ("id", "id")]
        show_table(owned["rows"], columns, empty="they answer for nothing")
        return
    answer = where.admin.post(f"/api/v1/people/{quote(name, safe='')}/leave", {"reason": reason}, signed=True)
    if where.format != "table":
        emit(answer, where.format)
        return
    say(plain(f"{name} is gone; {answer['count']} identities need another owner: `remit people orphans`"))
    say(plain(f"what they can still know: `remit people exposure {name}`"))


def people_orphans(*, where: Listing | None = None) -> None:
    """Identities whose owner left, and when each is suspended if nobody takes it."""
    where = where or Listing()
    rows = where.admin.get("/api/v1/orphans")
    if where.format != "table":
        emit(rows, where.format)
        return
    columns = [
        ("title", "identity"),
        ("owner", "owner who left"),
        ("deadline", "suspended at"),
        ("identity", "id"),
    ]
    show_table(rows, columns, empty="nobody left anything behind")


def people_exposure(name: str, /, *, where: Listing | None = None) -> None:
    """Secrets that a person can know, to be rotated when they leave. Exits 1 when there are any."""
    where = where or Listing()
    rows = where.admin.get(f"/api/v1/people/{quote(name, safe='')}/exposure")
    if where.format != "table":
        emit(rows, where.format)
    else:
        columns = [("title", "secret"), ("why", "why they know it"), ("place", "where"), ("next_step", "next")]
        show_table(rows, columns, empty="nothing shows that they saw a secret")
    if rows:
        sys.exit(1)


def directory_sync(
    *,
    confirm: Annotated[
        bool, Parameter(help="Take a reading that shows suspiciously few people, by your signature.", negative=())
    ] = False,
    dry_run: Annotated[bool, Parameter(help="Say what would change; change nothing.", negative=())] = False,
    where: Listing | None = None,
) -> None:
    """Read the directory of people now. Whoever it shows no more has left."""
    where = where or Listing()
    body = {"confirm": confirm, "dry_run": dry_run}
    answer = where.admin.post("/api/v1/directory/sync", body, signed=confirm)
    if where.format != "table":
        emit(answer, where.format)
        return
    verb = "would be " if dry_run else ""
    say(f"{answer['joined']} {verb}new, {len(answer['left'])} {verb}gone, {answer['teams']} teams")
    for email in answer["left"][:20]:
        say(plain(f"  left: {email}"))


def directory_ls(*, where: Listing | None = None) -> None:
    """People of the directory, and how fresh it is."""
    where = where or Listing()
    rows: list[dict[str, Any]] = []
    while page := where.admin.get("/api/v1/directory/people", after=rows[-1]["email"] if rows else ""):
        rows += page
    if where.format != "table":
        emit(rows, where.format)
        return
    columns = [("email", "person"), ("display", "name"), ("manager", "led by"), ("left", "left")]
    show_table(rows, columns, empty="no directory was read: `directory.source` in remit.toml names one")
    status = where.admin.get("/api/v1/directory")
    if status["trouble"]:
        say(f"[yellow]not read:[/yellow] {plain(status['trouble'])}")


def exception_request(
    *,
    control: Annotated[str, Parameter(help="The policy or finding rule that is excepted.")],
    identity: Annotated[list[str], Parameter(help="For which identities.", negative=())],
    reason: str,
    days: Annotated[int, Parameter(help="At most 180.")] = 30,
    action: Annotated[list[str], Parameter(help="Exact actions, e.g. lease.", negative=())],
    resource: Annotated[str, Parameter(help="A resource's name, or a prefix that ends in *.")],
    compensating: Annotated[list[str], Parameter(help="What limits the harm meanwhile; at least one.", negative=())],
    where: Listing | None = None,
) -> None:
    """Ask for a temporary exception. Another person approves it; at its end access ends."""
    where = where or Listing()
    body = {"control": control, "identities": identity, "reason": reason, "days": days, "actions": action,
            "resource": resource, "compensating": compensating}  # fmt: skip
    answer = where.admin.post("/api/v1/exceptions", body, signed=True)
    if where.format != "table":
        emit(answer, where.format)
    else:
        say(f"requested {answer['id']}; another person runs `remit exception approve {answer['id']}`")


def exception_approve(exception: str, /, *, where: Where | None = None) -> None:
    """Approve an exception. Never by who asked for it."""
    admin = (where or Where()).admin
    shown = next((each for each in admin.get("/api/v1/exceptions") if each["id"] == exception), None)
    if shown is None:
        raise NotFound(
            "governance.exception.unknown", f"no exception has the id `{exception}`", next_step="`remit exception ls`"
        )
    asked = f"{shown['rule']} for {', '.join(shown['identities'])}: {shown['reason']} (asked by {shown['requester']})"
    say(plain(asked))
    answer = admin.post(f"/api/v1/exceptions/{exception}/approve", {"digest": shown["digest"]}, signed=True)
    say(f"approved {plain(exception)} until {answer['expires']}")


def exception_revoke(exception: str, /, *, reason: str, where: Where | None = None) -> None:
    """End an exception now."""
    (where or Where()).admin.post(f"/api/v1/exceptions/{exception}/revoke", {"reason": reason}, signed=True)
    say(f"ended {plain(exception)}")


def exception_ls(*, where: Listing | None = None) -> None:
    """List exceptions."""
    where = where or Listing()
    rows = where.admin.get("/api/v1/exceptions")
    if where.format != "table":
        emit(rows, where.format)
    else:
        columns = [
            ("id", "exception"),
            ("rule", "control"),
            ("status", "status"),
            ("expires", "ends"),
            ("requester", "asked by"),
            ("approver", "approved by"),
            ("stand", "controls"),
            ("reason", "reason"),
        ]
        shown = [{**row, "stand": _stand(row)} for row in rows]
        show_table(shown, columns, empty="no exceptions")


def _stand(row: dict[str, Any]) -> str:
    """Its compensating controls, each with whether it is tested."""
    return ", ".join(f"{one['text']}: {one['state']}" for one in row["controls"])
