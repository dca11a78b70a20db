"""Commands on owners, people, life cycle and exceptions."""

from __future__ import annotations

from typing import Annotated

from cyclopts import Parameter

from remit.kernel.errors import NotFound
from remit.surface.cli.commands.inventory import path_of
from remit.surface.cli.options import Listing, Where
from remit.surface.cli.output import emit, plain, say, show_table


def own(
    identity: str,
    owner: Annotated[str, Parameter(help="A registered person or team; without one, the proposals are shown.")] = "",
    /,
    *,
    where: Listing | None = None,
) -> None:
    """Show who should answer for an identity, with the evidence, or assign somebody."""
    where = where or Listing()
    if owner:
        where.admin.post(f"{path_of(identity)}/owner", {"owner": owner}, signed=True)
        say(plain(f"{owner} answers for {identity}"))
        return
    rows = where.admin.get(f"{path_of(identity)}/owner")
    if where.format != "table":
        emit(rows, where.format)
    else:
        show_table(
            rows["proposals"],
            [("owner", "proposed"), ("confidence", "confidence"), ("method", "by"), ("evidence", "evidence")],
            empty="nothing suggests an owner: `remit own ID PERSON` assigns one",
        )


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

    Without --public-key a key is made for the person at this terminal and kept in their configuration.
    """
    from remit.surface.cli.person import key_path, make_key

    where = where or Listing()
    admin = where.admin
    about = admin.get("/api/v1/people/about")
    made = ""
    if not public_key:
        _, public_key = make_key(about["instance"], name)
        made = str(key_path(about["instance"]))
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
            ("reason", "reason"),
        ]
        show_table(rows, columns, empty="no exceptions")
