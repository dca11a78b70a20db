"""Commands on grants: ask, answer, take back, break the glass, review."""

from __future__ import annotations

import sys
from typing import Annotated, Any

from cyclopts import Parameter

from remit.surface.cli.durations import seconds_of
from remit.surface.cli.options import Listing, Where
from remit.surface.cli.output import emit, plain, say, show_table

_Task = Annotated[str, Parameter(help="Name of a registered task.")]
_Need = Annotated[list[str], Parameter(help="SYSTEM://TARGET[/DATABASE]?role=ROLE", negative=())]


def request(
    *,
    task: _Task,
    need: _Need,
    reason: Annotated[str, Parameter(help="For whoever approves it.")],
    lasting: Annotated[
        str, Parameter(name="--for", help="How long it holds from its approval: 30m, 2h; at most 12h.")
    ] = "1h",
    pending: Annotated[str, Parameter(help="How long it waits for an answer: 30m, 1h, 2d; at most 7d.")] = "24h",
    seconds: Annotated[int, Parameter(help="The same as --for, in seconds.")] = 0,
    where: Listing | None = None,
) -> None:
    """Ask for a grant. When it is approved, one `remit run` of that task with those needs uses it."""
    where = where or Listing()
    life = seconds or seconds_of(lasting)
    body = {"task": task, "needs": need, "reason": reason, "seconds": life, "pending_seconds": seconds_of(pending)}
    answer = where.admin.post("/api/v1/grants", body, signed=True)
    if where.format != "table":
        emit(answer, where.format)
    elif answer["state"] == "approved":
        say(f"{answer['id']} is approved by policy until {answer['expires']}")
    else:
        say(f"asked for {answer['id']}; {plain(_whom(answer))}: `remit approve {answer['id']}`")
        if answer["outlook"]:
            say(f"[yellow]policy would refuse it even then[/yellow]: {plain(answer['outlook'])}")


def _whom(answer: dict[str, Any]) -> str:
    missing = [one if one != "anyone" else "another person" for one in answer["missing"]]
    return f"{'; '.join(missing) or 'nobody'} must approve it by {answer['expires']}"


def request_ls(
    *,
    all: Annotated[bool, Parameter(negative=(), help="Ended ones, and runs by policy alone, too.")] = False,
    task: Annotated[str, Parameter(help="Of this task.")] = "",
    limit: int = 100,
    where: Listing | None = None,
) -> None:
    """List requests and approvals, newest first."""
    where = where or Listing()
    rows = where.admin.get("/api/v1/grants", all=int(all), task=task, limit=limit)
    if where.format != "table":
        emit(rows, where.format)
        return
    _table(rows)


def _table(rows: list[dict[str, Any]]) -> None:
    shown = [
        {**each, "needs": ", ".join(each["needs"]), "state": _state(each),
         "by": ", ".join(one["approver"] for one in each["approvals"]) or ("policy" if each["decision"] else "")}
        for each in rows
    ]  # fmt: skip
    columns = [("id", "grant"), ("task", "task"), ("needs", "needs"), ("state", "state"), ("expires", "ends")]
    show_table(
        shown,
        [*columns, ("reason", "reason"), ("requested_by", "asked by"), ("by", "approved by")],
        empty="nothing waits",
    )


def _state(row: dict[str, Any]) -> str:
    used = " (in use)" if row["used"] and row["state"] == "approved" else ""
    return f"{row['state']}{used}" + (" BREAK-GLASS" if row["kind"] == "break-glass" else "")


def request_show(grant: str, /, *, where: Listing | None = None) -> None:
    """One request: what is asked for, who must approve it still, what changed, its leases and its history."""
    where = where or Listing()
    answer = where.admin.get(f"/api/v1/grants/{grant}")
    if where.format != "table":
        emit(answer, where.format)
        return
    say(plain(f"{answer['id']}: {_state(answer)}"))
    say(plain(_asks(answer)))
    if answer["life_seconds"] is not None:
        say(f"holds for {answer['life_seconds']} s from its approval; now it ends {answer['expires']}")
    say(plain(f"digest {answer['digest']}"))
    for one in answer["missing"]:
        say(f"still needed: {plain(one)}")
    if answer["changed"]:
        say(f"[red]not what was approved[/red]: {plain(answer['changed'])}")
    if answer["outlook"]:
        say(f"[yellow]policy would refuse it[/yellow]: {plain(answer['outlook'])}")
    show_table(
        answer["leases"], [("principal", "credential"), ("target", "target"), ("state", "state")], empty="no leases"
    )
    show_table(answer["history"], [("time", "when"), ("type", "what"), ("actor", "who")], empty="")


def _asks(answer: dict[str, Any]) -> str:
    return f"{answer['task']} ({answer['identity']}) asks for {', '.join(answer['needs'])}: {answer['reason']}"


def request_withdraw(
    grant: str,
    /,
    *,
    reason: Annotated[str, Parameter(help="Why, for the ledger.")] = "",
    where: Listing | None = None,
) -> None:
    """Take a request or an approval back: as who asked, who approved, or the owner. A run's leases end at once.

    Exits 1 when a lease could not be revoked and proved yet.
    """
    where = where or Listing()
    answer = where.admin.post(f"/api/v1/grants/{grant}/withdraw", {"reason": reason}, signed=True)
    if where.format != "table":
        emit(answer, where.format)
    else:
        say(f"{grant} is {answer['state']}")
        show_table(
            answer["leases"], [("principal", "credential"), ("target", "target"), ("state", "state")], empty="no leases"
        )
    if any(each["state"] not in ("revoked", "failed") for each in answer["leases"]):
        sys.exit(1)


def request_review(
    grant: str,
    /,
    *,
    finding: Annotated[str, Parameter(help="What was done, whether it was needed, what follows.")],
    where: Where | None = None,
) -> None:
    """Review an emergency after it is over, as somebody else; without, its identity is suspended."""
    (where or Where()).admin.post(f"/api/v1/grants/{grant}/review", {"finding": finding}, signed=True)
    say(f"{grant} is reviewed")


def request_constant(*, where: Listing | None = None) -> None:
    """Tasks that are elevated more often in a week than the settings allow: automation to redesign."""
    where = where or Listing()
    answer = where.admin.get("/api/v1/elevation/constant")
    if where.format != "table":
        emit(answer, where.format)
        return
    for each in answer["tasks"]:
        say(f"[bold]{plain(each['task'])}[/bold] was elevated {each['count']} times this week: automation to redesign")
        say(plain(each["schedule"]))
        print(each["proposal"])
    if not answer["tasks"]:
        say(f"no task was elevated more than {answer['more_than']} times this week")


def approve(
    grant: str = "",
    /,
    *,
    deny: Annotated[str, Parameter(help="Deny it instead, for this reason.")] = "",
    print_signature: Annotated[
        bool, Parameter(negative=(), help="Sign, and print the signature for the console; it is good for 60 seconds.")
    ] = False,
    where: Listing | None = None,
) -> None:
    """Approve exactly this grant with your own key, never as who asked for it; without one, list those that wait."""
    where = where or Listing()
    if not grant:
        waiting = where.admin.get("/api/v1/grants")
        if where.format != "table":
            emit(waiting, where.format)
        else:
            _table(waiting)
        return
    shown = where.admin.get(f"/api/v1/grants/{grant}")
    if print_signature:
        from remit.surface.cli.person import signature_of

        print(signature_of(where.admin, f"/api/v1/grants/{grant}/approve", {"digest": shown["digest"]}))
        return
    say(plain(_asks(shown)))
    verb, body = ("deny", {"reason": deny}) if deny else ("approve", {"digest": shown["digest"]})
    answer = where.admin.post(f"/api/v1/grants/{grant}/{verb}", body, signed=True)
    if answer["state"] == "requested":
        say(f"{grant} has your approval; {plain(_whom(answer))}")
    else:
        say(f"{grant} is {answer['state']}")


def break_glass(
    *,
    task: _Task,
    need: _Need,
    reason: Annotated[str, Parameter(help="What happened, and why nobody can be asked.")],
    lasting: Annotated[str, Parameter(name="--for", help="How long: 30m; at most 1h.")] = "30m",
    where: Listing | None = None,
) -> None:
    """Give a task a grant by your own signature alone, for an hour at most. Policies that forbid still forbid.

    Everybody is alerted first, by two channels at least, or nothing is given. Another person reviews it afterwards
    (`remit request review`), or the identity is suspended.
    """
    where = where or Listing()
    body = {"task": task, "needs": need, "reason": reason, "seconds": seconds_of(lasting)}
    declared = where.admin.post("/api/v1/break-glass", body, signed=True)
    approved = {"digest": declared["digest"]}
    answer = where.admin.post(f"/api/v1/grants/{declared['id']}/approve", approved, signed=True)
    if where.format != "table":
        emit(answer, where.format)
    else:
        say(f"[bold red]the glass is broken[/bold red]: {answer['id']} holds until {answer['expires']}")
        say(f"everybody was alerted; another person reviews it: `remit request review {answer['id']} --finding …`")
