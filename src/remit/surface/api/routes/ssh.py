"""SSH user certificates for workloads, decided for each login name."""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec

from remit.access.model import Decision, Entity, Request
from remit.kernel.clock import rfc3339
from remit.kernel.errors import Denied
from remit.surface.api.route import Call, Route, Text
from remit.trust.model import Issued
from remit.trust.ssh import SshCertificate, SshRequest, request_certificate

_TAG = "trust"
ACTION = "svid:ssh"


class NewCertificate(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An OpenSSH public key, and the logins that its certificate shall be good for."""

    public_key: str
    principals: list[str]
    extensions: list[str] = []
    seconds: int = 0


async def create(call: Call) -> Any:
    """Decide each login for the caller's SVID; all must be allowed."""
    svid, body = call.require_svid(), call.body
    asked = request_certificate(
        public_key=body.public_key, principals=body.principals, extensions=body.extensions, seconds=body.seconds
    )
    decided = await asyncio.gather(*(call.control.decisions.decide(one) for one in _questions(call, asked)))
    refused = next((one for one in decided if not one.allowed), None)
    if refused is not None:
        raise Denied(
            "trust.ssh.denied",
            f"`{svid.spiffe_id}` may not log in as `{refused.request.resource.id}`",
            next_step=f"`remit explain {refused.id}` says why",
        )
    return await _issue(call, asked, decided)


def _questions(call: Call, asked: SshRequest) -> list[Request]:
    svid = call.require_svid()
    identity = call.control.token_grants.identity_of(str(svid.spiffe_id))
    subject = Entity(type="identity", id=identity or str(svid.spiffe_id))
    proven: dict[str, Any] = {
        "attested": svid.spiffe_id.trust_domain == call.control.trust.trust_domain,
        "attestation_method": "x509-svid",
        "attested_at": int(svid.issued.timestamp()),
        "sender_constraint": "mtls",
    }
    return [
        Request(subject=subject, action=ACTION, resource=Entity(type="ssh", id=login), proven=proven)
        for login in asked.principals
    ]


async def _issue(call: Call, asked: SshRequest, decided: list[Decision]) -> Any:
    svid, control = call.require_svid(), call.control
    made = control.ssh.sign(asked, svid.spiffe_id, decision=decided[0].id, now=control.clock.now())
    identity = control.token_grants.identity_of(str(svid.spiffe_id))

    def work(unit: Any) -> None:
        unit.record(
            "trust.ssh.issued", actor=str(svid.spiffe_id), subject=identity or str(svid.spiffe_id),
            data={
                "serial": str(made.serial), "key_id": made.key_id, "principals": list(asked.principals),
                "extensions": list(asked.extensions), "expires": rfc3339(made.expires),
                "decisions": [one.id for one in decided],
            },
        )  # fmt: skip
        unit.trust.note_issued([_issued(made, str(svid.spiffe_id), identity, unit.now)])

    await control.store.write(work)
    return {"certificate": made.text, "serial": str(made.serial), "expires": rfc3339(made.expires)}


def _issued(made: SshCertificate, spiffe_id: str, identity: str, now: Any) -> Issued:
    return Issued(
        id=f"ssh{made.serial:016x}", kind="ssh-cert", spiffe_id=spiffe_id, identity=identity, issued=now,
        expires=made.expires,
    )  # fmt: skip


async def authority(call: Call) -> Any:
    return Text(body=f"{call.control.ssh.public_line} remit@{call.control.instance}\n", media_type="text/plain")


ROUTES = [
    Route(
        method="POST", path="/trust/v1/ssh-certificates", summary="An SSH user certificate for the caller's SVID",
        handler=create, body=NewCertificate, mtls=True, tag=_TAG,
    ),
    Route(
        method="GET", path="/ssh-ca.pub", summary="Public key of the SSH authority (TrustedUserCAKeys)",
        handler=authority, public=True, tag=_TAG,
    ),
]  # fmt: skip
