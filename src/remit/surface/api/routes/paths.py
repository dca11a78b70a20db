"""By which ways does one thing reach another, what cuts them at least cost, and does any escape policy?"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from remit.governance.pathproof.bindings import Binding
from remit.governance.pathproof.model import Report
from remit.inventory.graph.paths import MOST_PATHS
from remit.kernel.errors import Rejected
from remit.surface.api.route import Call, Route
from remit.surface.pathproof import report_json, weigh
from remit.wiring.paths import NEAREST, cut_json

_TAG = "inventory"
_LONGEST = 2000
_PROOF = "/api/v1/path-proof"


class NewBinding(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which identities are an enforcement point's own, and on which resources."""

    enforcer: str
    identities: list[str]
    resources: list[str]
    reason: str


class Scope(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One resource, or a class of them."""

    resource: str = ""
    resource_class: str = ""


async def paths(call: Call) -> Any:
    most = max(1, call.integer("most", 5, most=MOST_PATHS))
    return await call.control.paths.between(_given(call, "from"), _given(call, "to"), _given(call, "class"), most=most)


async def into(call: Call) -> Any:
    limit = call.integer("limit", 20, most=NEAREST)
    return await call.control.paths.into(_given(call, "to"), _given(call, "class"), limit=limit)


async def cut(call: Call) -> Any:
    desk = call.control.paths
    found = await desk.cut(_given(call, "from"), _given(call, "to"), _given(call, "class"))
    graph = await desk.graph()
    return {
        **cut_json(found.cut, graph),
        "starts": found.starts,
        "ends": found.ends,
        "breaks": list(found.breaks),
        "unmeasured": found.note,
    }


async def prove(call: Call) -> Any:
    return report_json(await _report(call))


async def _report(call: Call) -> Report:
    return await call.control.path_proofs.prove(_given(call, "resource"), _given(call, "class"), weigh=weigh)


async def certify(call: Call) -> Any:
    body: Scope = call.body
    report, file = await call.control.path_proofs.certify(
        body.resource[:_LONGEST], body.resource_class, weigh=weigh, actor=call.caller.actor
    )
    return {**report_json(report), "file": file.decode() if file is not None else None}


async def certificates(call: Call) -> Any:
    return msgspec.to_builtins(await call.control.path_proofs.certificates())


async def bind(call: Call) -> Any:
    body: NewBinding = call.body
    by = call.require_person("to say which identities are an enforcement point's own")
    made = await call.control.path_proofs.bind(
        enforcer=body.enforcer, identities=_short(body.identities), resources=_short(body.resources),
        reason=body.reason, by=by,
    )  # fmt: skip
    return _shown(made, counts=True)


async def bindings(call: Call) -> Any:
    return [_shown(each, counts=counts) for each, counts in await call.control.path_proofs.bindings()]


async def unbind(call: Call) -> Any:
    return _shown(await call.control.path_proofs.unbind(call.path["binding"], actor=call.caller.actor), counts=False)


def _shown(one: Binding, *, counts: bool) -> dict[str, Any]:
    return {**one.content(), "counts": counts}


def _given(call: Call, key: str) -> str:
    return call.query.get(key, "")[:_LONGEST]


def _short(texts: Sequence[str]) -> list[str]:
    if any(len(each) > _LONGEST for each in texts):
        raise Rejected("governance.proof.binding", f"a name has at most {_LONGEST} characters")
    return list(texts)


_ENDS = {"to": "the end", "class": "all resources of this sensitivity are the end"}
_SCOPE = {"resource": "one resource", "class": "all resources of this sensitivity"}
ROUTES = [
    Route(
        method="GET", path="/api/v1/paths", summary="The shortest and the most likely paths between two ends",
        handler=paths, query={"from": "the start", **_ENDS, "most": f"how many, at most {MOST_PATHS}"}, tag=_TAG,
    ),
    Route(
        method="GET", path="/api/v1/paths/into", summary="Who reaches a node, and the nearest ways", handler=into,
        query={**_ENDS, "limit": f"how many are listed, at most {NEAREST}"}, tag=_TAG,
    ),
    Route(
        method="GET", path="/api/v1/paths/cut", summary="The cheapest cut, and what else it breaks", handler=cut,
        query={"from": "the start; without it everybody who can act", **_ENDS}, tag=_TAG,
    ),
    Route(
        method="GET", path=_PROOF, summary="Whether any path to a resource escapes policy", handler=prove,
        query=_SCOPE, tag="governance",
    ),
    Route(
        method="POST", path=_PROOF, summary="Prove, and issue a certificate where no path is open", handler=certify,
        body=Scope, tag="governance",
    ),
    Route(
        method="GET", path=f"{_PROOF}/certificates", summary="Certificates, and what broke them",
        handler=certificates, tag="governance",
    ),
    Route(
        method="POST", path=f"{_PROOF}/bindings", summary="Say which identities are an enforcement point's own",
        handler=bind, body=NewBinding, tag="governance",
    ),
    Route(method="GET", path=f"{_PROOF}/bindings", summary="Bindings", handler=bindings, tag="governance"),
    Route(
        method="DELETE", path=f"{_PROOF}/bindings/{{binding}}", summary="Forget a binding", handler=unbind,
        tag="governance",
    ),
]  # fmt: skip
