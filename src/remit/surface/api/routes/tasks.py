"""Tasks far from here: what may run under a name, and the runs that begin, beat and end by their sender's own proof."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import msgspec

from remit.access.tasks.far import StoredRun
from remit.access.tasks.model import Remote
from remit.access.tasks.remote import Begin, Sender
from remit.access.tasks.start import MAX_NEEDS
from remit.kernel.errors import Denied, NotFound, Rejected
from remit.surface.api.route import Call, Route, seconds_of
from remit.trust.model import Selector
from remit.trust.proofs import MAX_PROOFS, Proof, Question
from remit.trust.tokens.dpop import verify_dpop

_TAG = "access"


class NewRemoteTask(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A task that runs elsewhere: its identity, and what proves that it is the one."""

    name: str
    kind: str
    """`ci`, `kubernetes`, `agent` or `batch`."""
    identity: str = ""
    selectors: list[str] = []
    images: list[str] = []
    heartbeat_seconds: int = 60


class Shown(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is shown to one attestor."""

    attestor: str
    payload: dict[str, Any]

    def __repr__(self) -> str:
        return f"Shown({self.attestor!r})"


class NewRun(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a run asks for. `key` is a secret of its own: it makes a repeated begin the same, and the run its own."""

    task: str
    needs: list[str]
    key: str
    ttl_seconds: int = 0
    """How long at most; 0 for an hour."""
    reason: str = ""
    intent: str = ""
    """Of an agent: the intent that it runs under."""
    proofs: list[Shown] = []
    """Of a CI job or a pod: its platform's token."""

    def __repr__(self) -> str:
        return f"NewRun({self.task!r})"


class OfRun(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The key that the run was begun with."""

    key: str

    def __repr__(self) -> str:
        return "OfRun()"


# What runs call, on the listener of agents and workloads.


async def begin(call: Call) -> Any:
    """Begin a run: its credentials. The same key again gives the same answer while it lives."""
    body: NewRun = call.body
    if (
        len(body.needs) > MAX_NEEDS
        or any(len(one) > 512 for one in body.needs)
        or max(map(len, (body.task, body.reason, body.intent))) > 1000
        or len(body.proofs) > MAX_PROOFS
    ):
        raise Rejected("access.run.too_large", f"a run has at most {MAX_NEEDS} needs of 512 characters")
    asked = Begin(
        task=body.task, needs=tuple(body.needs), key=body.key, reason=body.reason, intent=body.intent,
        life=seconds_of(body.ttl_seconds) if body.ttl_seconds else None,
    )  # fmt: skip
    name, runs = _sender(call), call.control.runs
    before = await runs.repeated(name, asked)
    return before if before is not None else await runs.begin(await _proven(call, name, body), asked)


async def heartbeat(call: Call) -> Any:
    """The run lives; what became of its leases."""
    body: OfRun = call.body
    return await call.control.runs.heartbeat(call.path["run"], _sender(call, "heartbeat"), body.key)


async def end(call: Call) -> Any:
    """The run is over; what proved that its credentials are refused."""
    body: OfRun = call.body
    return await call.control.runs.end(call.path["run"], _sender(call, "end"), body.key)


def _sender(call: Call, verb: str = "") -> str:
    """Who calls: an SVID, or the key of a DPoP proof for this very request (RFC 9449 §4)."""
    if call.caller.via != "mtls":
        raise Denied(
            "surface.listener.wrong", "runs call the listener of agents and workloads", next_step="use `trust.listen`"
        )
    if call.caller.svid is not None:
        return str(call.caller.svid.spiffe_id)
    call.control.runs.admit(call.caller.source)
    shown, host = call.headers.get("dpop", ()), call.headers.get("host", ("",))
    if len(shown) != 1 or len(host) != 1:
        raise Denied(
            "surface.proof.missing",
            "a run needs an X.509-SVID, or a DPoP proof beside its platform's token",
            next_step="connect with an SVID, or send the header `DPoP`",
        )
    now, where = call.control.clock.now(), f"https://{host[0]}/api/v1/runs"
    path = f"/{call.path['run']}/{verb}" if verb else ""
    found = verify_dpop(shown[0], method="POST", urls={where + path}, now=now)
    call.control.runs.replays.take([found.spend], now)
    return f"jkt:{found.thumbprint}"


async def _proven(call: Call, name: str, body: NewRun) -> Sender:
    svid = call.caller.svid
    sender = Sender(name=name, identity=await _identity(call, name) if svid else "", method="x509-svid" if svid else "")
    if not body.proofs:
        if svid is None:
            raise Denied(
                "surface.proof.missing", "nothing proves who begins this run", next_step="show a token of its platform"
            )
        return sender
    proofs = [Proof(attestor=one.attestor, payload=one.payload) for one in body.proofs]
    seen = await call.control.proofs.present(proofs, source=call.caller.source)
    if isinstance(seen, Question):
        raise Rejected("access.run.proof", "a run is begun by a proof that asks nothing back")
    return replace(
        sender,
        method="+".join(filter(None, (sender.method, seen.attestor))),
        selectors=tuple(sorted(map(str, seen.selectors))),
    )


async def _identity(call: Call, spiffe_id: str) -> str:
    try:
        return await call.control.resolve(spiffe_id)
    except NotFound:
        return ""


# What people call.


async def add_remote(call: Call) -> Any:
    """Register a task that runs elsewhere."""
    body: NewRemoteTask = call.body
    by = call.require_person("registering a task")
    known = call.control.proofs.attestors
    for text in body.selectors:
        selector = Selector.parse(text)
        if selector.attestor not in known:
            raise Rejected(
                "access.task.malformed",
                f"no proof attestor is called `{selector.attestor}` here, so that nobody could prove `{text[:200]}`",
                next_step="name the platform in the attestors file",
            )
        known[selector.attestor].check(selector)
    recipe = Remote(
        kind=body.kind, selectors=tuple(sorted(set(body.selectors))), images=tuple(sorted(set(body.images))),
        heartbeat=body.heartbeat_seconds,
    )  # fmt: skip
    identity = await call.control.task_identity(body.name, body.identity, owner=by)
    made = await call.control.tasks.register(body.name, identity=identity, program=recipe, actor=f"person:{by.name}")
    return {"name": made.name, "identity": made.identity, "digest": made.digest, "program": recipe.as_json()}


async def list_runs(call: Call) -> Any:
    runs = await call.control.runs.all(ended=call.flag("all"), limit=call.integer("limit", 100, most=1000))
    return [_row(one) for one in runs]


async def show_run(call: Call) -> Any:
    run, leases = await call.control.runs.show(call.path["run"])
    return {**_row(run), "leases": leases}


def _row(run: StoredRun) -> dict[str, Any]:
    return {
        **{key: getattr(run, key) for key in (
            "id", "task", "identity", "kind", "sender", "heartbeat", "beats", "until", "begun", "ended", "why")},
        "grant": run.grant_id,
    }  # fmt: skip


ROUTES = [
    Route(
        method="POST", path="/api/v1/tasks/remote", summary="Register a task that runs elsewhere",
        handler=add_remote, body=NewRemoteTask, tag=_TAG,
    ),
    Route(
        method="POST", path="/api/v1/runs", summary="Begin a run elsewhere", handler=begin, body=NewRun,
        public=True, mtls=True, tag=_TAG,
    ),
    Route(
        method="POST", path="/api/v1/runs/{run}/heartbeat", summary="A run elsewhere lives", handler=heartbeat,
        body=OfRun, public=True, mtls=True, tag=_TAG,
    ),
    Route(
        method="POST", path="/api/v1/runs/{run}/end", summary="A run elsewhere is over", handler=end, body=OfRun,
        public=True, mtls=True, tag=_TAG,
    ),
    Route(
        method="GET", path="/api/v1/runs", summary="Runs elsewhere", handler=list_runs,
        query={"all": "1: ended ones too", "limit": "at most 1000"}, tag=_TAG,
    ),
    Route(method="GET", path="/api/v1/runs/{run}", summary="One run elsewhere", handler=show_run, tag=_TAG),
]  # fmt: skip
