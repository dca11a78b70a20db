"""Commands on tasks: what may run under a name, and runs far from here."""

from __future__ import annotations

import os
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from remit.kernel.errors import Rejected
from remit.surface.cli.commands.workload import _HERE, _SERVER, Agent
from remit.surface.cli.options import Listing, Where
from remit.surface.cli.output import emit, plain, say, show_table

if TYPE_CHECKING:
    from remit.client.identity import Identity

_STATE = Annotated[Path, Parameter(help="File that keeps the run's key, for its user alone.")]
_RUN = Path("remit-run.json")
_PROOF = Annotated[
    list[str] | None, Parameter(help="KIND[:OPTION=VALUE,…]: the platform's proof, e.g. github.", negative=())
]


def task_add(
    name: str,
    /,
    *command: Annotated[str, Parameter(allow_leading_hyphen=True)],
    identity: Annotated[str, Parameter(help="The identity that it runs as; default: one made for the task.")] = "",
    user: Annotated[str, Parameter(help="Name or uid of the user who may run it; default: you.")] = "",
    ci: Annotated[
        list[str] | None, Parameter(help="A CI job: a selector that it proves, repeated for each.", negative=())
    ] = None,
    kubernetes: Annotated[
        list[str] | None, Parameter(help="A pod: a selector that it proves, repeated for each.", negative=())
    ] = None,
    image: Annotated[
        list[str] | None, Parameter(help="Of a pod: the digest of an image that it may run.", negative=())
    ] = None,
    batch: Annotated[bool, Parameter(negative=(), help="A program elsewhere with an SVID of the identity.")] = False,
    agent: Annotated[bool, Parameter(negative=(), help="Runs of an agent, each under an intent.")] = False,
    heartbeat: Annotated[int, Parameter(help="Elsewhere: seconds of silence after which it has ended.")] = 60,
    where: Listing | None = None,
) -> None:
    """Register a task: `remit task add NAME -- CMD…`, or what proves it elsewhere. An approval names its digest."""
    where = where or Listing()
    kinds = [
        kind for kind, given in (("ci", ci), ("kubernetes", kubernetes), ("batch", batch), ("agent", agent)) if given
    ]
    if len(kinds) > 1 or (kinds and command):
        raise Rejected("surface.option.invalid", "a task is a command, or one of --ci, --kubernetes, --batch, --agent")
    if kinds:
        body: dict[str, Any] = {
            "name": name, "identity": identity, "kind": kinds[0], "selectors": [*(ci or ()), *(kubernetes or ())],
            "images": image or [], "heartbeat_seconds": heartbeat,
        }  # fmt: skip
        answer = where.admin.post("/api/v1/tasks/remote", body, signed=True)
        ran = f"{kinds[0]}: {', '.join(answer['program']['selectors']) or 'by an SVID of its identity'}"
    else:
        body = {
            "name": name, "identity": identity, "argv": list(command), "cwd": str(Path.cwd()),
            "path": os.environ.get("PATH", ""), "user": user,
        }  # fmt: skip
        answer = where.admin.post("/api/v1/tasks", body, signed=True)
        ran = answer["program"]["script"] or answer["program"]["executable"]
    if where.format != "table":
        emit(answer, where.format)
    else:
        say(f"registered {answer['name']}: {plain(ran)}")


def task_ls(
    *,
    runs: Annotated[bool, Parameter(negative=(), help="List the runs elsewhere, not the definitions.")] = False,
    all: Annotated[bool, Parameter(negative=(), help="With --runs: ended ones too.")] = False,
    where: Listing | None = None,
) -> None:
    """List task definitions; or runs elsewhere, each with its last sign of life."""
    where = where or Listing()
    if runs:
        rows = where.admin.get("/api/v1/runs", all=int(all))
        columns = [("id", "run"), ("task", "task"), ("kind", "kind"), ("sender", "sender"), ("begun", "since"),
                   ("until", "lost at"), ("why", "ended")]  # fmt: skip
        empty = "nothing runs elsewhere"
    else:
        rows = where.admin.get("/api/v1/tasks")
        columns = [("name", "task"), ("kind", "kind"), ("path", "what runs"), ("sha256", "sha256"),
                   ("identity", "identity"), ("created_by", "by")]  # fmt: skip
        empty = "no tasks: `remit task add NAME -- CMD`"
    if where.format != "table":
        emit(rows, where.format)
        return
    if not runs:
        rows = [{**row, "kind": row["program"]["kind"], "path": row["program"]["path"],
                 "sha256": row["program"].get("sha256", "")[:16]} for row in rows]  # fmt: skip
    show_table(rows, columns, empty=empty)


def task_show(run: str, /, *, where: Listing | None = None) -> None:
    """One run elsewhere: who began it, its heartbeat, its leases."""
    where = where or Listing()
    answer = where.admin.get(f"/api/v1/runs/{run}")
    if where.format != "table":
        emit(answer, where.format)
        return
    for key in ("task", "identity", "kind", "sender", "begun", "until", "ended", "why"):
        if answer[key]:
            say(f"{key}: {plain(str(answer[key]))}")
    show_table(answer["leases"], [("lease", "lease"), ("need", "need"), ("state", "state"), ("reason", "reason")],
               empty="no leases")  # fmt: skip


def task_rm(name: str, /, *, where: Where | None = None) -> None:
    """Remove a task definition; its running tasks are not ended."""
    (where or Where()).admin.delete(f"/api/v1/tasks/{name}", signed=True)
    say(f"removed {plain(name)}")


def task_begin(
    task: str,
    /,
    *,
    need: Annotated[list[str], Parameter(help="SYSTEM://TARGET[/DATABASE]?role=ROLE", negative=())],
    state: _STATE = _RUN,
    seconds: Annotated[int, Parameter(help="How long at most; default: an hour.")] = 0,
    reason: str = "",
    intent: Annotated[str, Parameter(help="Of an agent: the intent that it runs under.")] = "",
    attest: _PROOF = None,
    server: _SERVER = _HERE,
    where: Agent | None = None,
) -> None:
    """Begin a run of a task that is registered as one elsewhere, by this process's SVID; prints credentials as JSON.

    The state file keeps the key that alone continues the run: `remit task heartbeat`, `remit task end`.
    """
    where = where or Agent()
    from remit.client import runs
    from remit.client.identity import Identity
    from remit.client.server import Server

    handle = runs.Handle.read(state) if state.exists() else runs.Handle.new(server)
    if handle.run:
        raise Rejected("client.run.begun", f"`{state}` is of a run that was begun", next_step="`remit task end`")
    if not state.exists():
        handle.write(state, new=True)  # before it is asked for: a repeated begin is the same
    with Identity(where.endpoint) as identity:
        proofs = _proofs(identity, attest or [])
        answer = runs.begin(
            Server(identity, handle.server), handle, task=task, needs=need, seconds=seconds, reason=reason,
            intent=intent, proofs=proofs,
        )  # fmt: skip
    replace(handle, run=answer["run"], heartbeat_seconds=answer["heartbeat_seconds"]).write(state)
    emit(answer, "json")


def task_heartbeat(
    *,
    state: _STATE = _RUN,
    once: Annotated[bool, Parameter(negative=(), help="One beat; without it, beat until the run ends.")] = False,
    where: Agent | None = None,
) -> None:
    """Keep a run alive until it ends or this command is stopped."""
    where = where or Agent()
    from remit.client import runs
    from remit.client.identity import Identity
    from remit.client.server import Server
    from remit.kernel.errors import Unavailable

    handle = runs.Handle.read(state)
    with Identity(where.endpoint) as identity:
        server = Server(identity, handle.server)
        while True:
            try:
                answer = runs.heartbeat(server, handle)
            except Unavailable:
                if once:
                    raise
                time.sleep(min(1.0, handle.heartbeat_seconds / 10))
                continue
            if once:
                emit(answer, "json")
                return
            time.sleep(handle.heartbeat_seconds / 3)


def task_end(*, state: _STATE = _RUN, where: Agent | None = None) -> None:
    """End a run: its credentials are revoked, and the answer says what proved it. Removes the state file."""
    where = where or Agent()
    from remit.client import runs
    from remit.client.identity import Identity
    from remit.client.server import Server

    handle = runs.Handle.read(state)
    with Identity(where.endpoint) as identity:
        answer = runs.end(Server(identity, handle.server), handle)
    state.unlink()
    emit(answer, "json")


def _proofs(identity: Identity, specs: list[str]) -> list[dict[str, Any]]:
    import asyncio

    from remit.surface.cli.commands.agents import _option
    from remit.trust.attestors.provers import KINDS, prover

    async def payload(spec: str) -> dict[str, Any]:
        kind, _, rest = spec.partition(":")
        options = dict(_option(part) for part in rest.split(",") if part)
        if "trust_domain" in KINDS.get(kind, ()):
            options.setdefault("trust_domain", identity.spiffe_id.trust_domain.name)
        made = prover(kind, options)
        return {"attestor": made.id, "payload": dict(await made.payload(identity.spiffe_id.trust_domain.id))}

    return [asyncio.run(payload(spec)) for spec in specs]
