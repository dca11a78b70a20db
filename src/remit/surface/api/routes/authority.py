"""Authorities and what nests under them: which keys sign, and who decides that they do.

A step that changes what is signed or believed needs a registered person, as putting policies in force does. One is
enough: a compromised key is ended at once, whoever is awake; and no step gives anybody an identity that an entry does
not. Which control plane may have an intermediate does: that is signed, in the journal of authority, and in the ledger.
"""

from __future__ import annotations

from base64 import b64decode, b64encode
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any

import msgspec

from remit.kernel.errors import NotFound, Rejected
from remit.surface.api.route import Call, Route
from remit.trust.authority.downstream import Downstream
from remit.trust.authority.learn import is_learned
from remit.trust.authority.lifecycle import find
from remit.trust.authority.upstream.remit import PATH as DOWNSTREAM_PATH
from remit.trust.model import Authority, AuthorityKind, AuthorityState
from remit.trust.ports import IssuedFilter

_TAG = "trust"
_MAX_REQUEST = 16 * 1024


class Step(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A step in an authority's life; `dry_run` says what would happen, and changes nothing."""

    dry_run: bool = False


class NewDownstream(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A control plane that may have intermediates of ours, by the SPIFFE ID that it shows."""

    spiffe_id: str
    lifetime_seconds: int = 86_400


class IntermediateRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A PKCS#10 request in DER, base64, and how long the intermediate should live."""

    request: str
    lifetime_seconds: int = 86_400


# -- authorities


async def list_authorities(call: Call) -> Any:
    return [await _shown(call, each) for each in call.control.trust.authorities()]


async def prepare_authority(call: Call) -> Any:
    kind, trust = _kind(call), call.control.trust
    if _step(call).dry_run:
        waiting = _of(call, kind, AuthorityState.PREPARED)
        return await _plan(call, "prepare", waiting, "it is prepared already" if waiting else "one would be made")
    return await _shown(call, await trust.prepare_authority(kind, actor=call.caller.actor))


async def rotate_authority(call: Call) -> Any:
    kind, trust = _kind(call), call.control.trust
    if _step(call).dry_run:
        signing = _of(call, kind, AuthorityState.ACTIVE)
        return await _plan(call, "rotate", signing, "it would sign no more; what it signed stays valid")
    actor = await _approved(call, "rotate", kind.value)
    return await _shown(call, await trust.rotate_authority(kind, actor=actor))


async def activate_authority(call: Call) -> Any:
    return await _change(call, "activate", "it would sign from now on", call.control.trust.activate_authority)


async def taint_authority(call: Call) -> Any:
    said = "what it signed would be issued anew now; it stays in the bundle"
    return await _change(call, "taint", said, call.control.trust.taint_authority)


async def revoke_authority(call: Call) -> Any:
    said = "it would leave the bundle and lose its key: what it signed is refused from then on"
    return await _change(call, "revoke", said, call.control.trust.revoke_authority)


async def _change(call: Call, verb: str, said: str, change: Callable[..., Awaitable[None]]) -> Any:
    chosen = find(call.control.trust.authorities(), call.path["authority"])
    if _step(call).dry_run:
        return await _plan(call, verb, chosen, said)
    actor = await _approved(call, verb, chosen.id)
    await change(chosen.id, actor=actor)
    await call.control.synchronise()
    return await _shown(call, find(call.control.trust.authorities(), chosen.id))


async def _approved(call: Call, verb: str, subject: str) -> str:
    """The person who decides; their own signature is in the ledger before anything is done."""
    by = call.require_person(f"to {verb} an authority")
    actor = f"person:{by.name}"
    await call.control.store.write(
        lambda unit: unit.record(
            "governance.approval.signed", actor=actor, subject=subject,
            data={"step": f"authority {verb}", "approval": by.evidence()},
        )
    )  # fmt: skip
    return actor


async def _plan(call: Call, verb: str, authority: Authority | None, said: str) -> Any:
    found = {"dry_run": True, "step": verb, "would": said}
    return {**found, **(await _shown(call, authority) if authority is not None else {"id": "", "unexpired": 0})}


async def _shown(call: Call, authority: Authority) -> dict[str, Any]:
    """An authority, with how many unexpired SVIDs and tokens hang on it."""
    where = IssuedFilter(now=call.control.clock.now(), authority=authority.id)
    return {
        "id": authority.id,
        "kind": authority.kind.value,
        "state": authority.state.value,
        "upstream": "root" if is_learned(authority) else "signed" if authority.chain else "",
        "created": authority.created,
        "activated": authority.activated,
        "expires": authority.expires,
        "ended": authority.ended,
        "unexpired": await call.control.store.read(lambda unit: unit.trust.count_issued(where)),
    }


def _kind(call: Call) -> AuthorityKind:
    try:
        return AuthorityKind(call.path["kind"])
    except ValueError:
        raise NotFound(
            "trust.authority.kind",
            f"`{call.path['kind'][:40]}` is no kind of authority",
            next_step=f"use one of: {', '.join(AuthorityKind)}",
        ) from None


def _of(call: Call, kind: AuthorityKind, state: AuthorityState) -> Authority | None:
    return next((one for one in call.control.trust.authorities() if one.kind is kind and one.state is state), None)


def _step(call: Call) -> Step:
    assert isinstance(call.body, Step)
    return call.body


# -- downstreams


async def allow_downstream(call: Call) -> Any:
    body: NewDownstream = call.body
    by = call.require_person("to allow an intermediate authority")
    made = await call.control.downstreams.allow(
        body.spiffe_id, actor=f"person:{by.name}", lifetime=timedelta(seconds=body.lifetime_seconds)
    )
    return _downstream(made)


async def list_downstreams(call: Call) -> Any:
    return [_downstream(each) for each in await call.control.downstreams.list()]


async def withdraw_downstream(call: Call) -> Any:
    return _downstream(await call.control.downstreams.withdraw(call.path["downstream"], actor=call.caller.actor))


def _downstream(found: Downstream) -> dict[str, Any]:
    return {
        "id": found.id,
        "spiffe_id": str(found.spiffe_id),
        "lifetime_seconds": int(found.lifetime.total_seconds()),
        "created": found.created,
        "by": found.by,
    }


async def sign_downstream(call: Call) -> Any:
    body: IntermediateRequest = call.body
    if len(body.request) > _MAX_REQUEST or body.lifetime_seconds <= 0:
        raise Rejected("trust.request.malformed", "this is no certificate request that we sign: its size or its life")
    try:
        request = b64decode(body.request, validate=True)
    except ValueError:
        raise Rejected(
            "trust.request.malformed", "this is no certificate request that we sign: it is no base64"
        ) from None
    lifetime = timedelta(seconds=min(body.lifetime_seconds, 366 * 86_400))
    chain = await call.control.downstreams.mint(call.require_svid(), request, lifetime)
    return {"chain": [b64encode(each).decode() for each in chain]}


async def upstream_roots(call: Call) -> Any:
    await call.control.downstreams.require(call.require_svid())
    return {"roots": [b64encode(each).decode() for each in call.control.trust.bundle.x509_roots]}


_AUTHORITIES = "/api/v1/authorities"

ROUTES = [
    Route(method="GET", path=_AUTHORITIES, summary="Authorities: which keys sign", handler=list_authorities, tag=_TAG),
    Route(
        method="POST",
        path=f"{_AUTHORITIES}/{{kind}}/prepare",
        summary="Make and publish the next authority",
        handler=prepare_authority,
        body=Step,
        tag=_TAG,
    ),
    Route(
        method="POST",
        path=f"{_AUTHORITIES}/{{kind}}/rotate",
        summary="Let a new authority sign at once",
        handler=rotate_authority,
        body=Step,
        tag=_TAG,
    ),
    Route(
        method="POST",
        path=f"{_AUTHORITIES}/{{authority}}/activate",
        summary="Let a prepared authority sign",
        handler=activate_authority,
        body=Step,
        tag=_TAG,
    ),
    Route(
        method="POST",
        path=f"{_AUTHORITIES}/{{authority}}/taint",
        summary="Issue anew what an authority signed",
        handler=taint_authority,
        body=Step,
        tag=_TAG,
    ),
    Route(
        method="POST",
        path=f"{_AUTHORITIES}/{{authority}}/revoke",
        summary="Withdraw an authority from the bundle",
        handler=revoke_authority,
        body=Step,
        tag=_TAG,
    ),
    Route(
        method="POST",
        path="/api/v1/downstreams",
        summary="Let a control plane below have intermediates",
        handler=allow_downstream,
        body=NewDownstream,
        tag=_TAG,
    ),
    Route(
        method="GET",
        path="/api/v1/downstreams",
        summary="Control planes below",
        handler=list_downstreams,
        tag=_TAG,
    ),
    Route(
        method="DELETE",
        path="/api/v1/downstreams/{downstream}",
        summary="Let a control plane below have no more intermediates",
        handler=withdraw_downstream,
        tag=_TAG,
    ),
    Route(
        method="POST",
        path=DOWNSTREAM_PATH,
        summary="Sign an intermediate for the control plane that calls",
        handler=sign_downstream,
        body=IntermediateRequest,
        mtls=True,
        tag=_TAG,
    ),
    Route(
        method="GET",
        path=DOWNSTREAM_PATH,
        summary="The roots that a control plane below publishes",
        handler=upstream_roots,
        mtls=True,
        tag=_TAG,
    ),
]
