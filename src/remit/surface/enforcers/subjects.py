"""Who sent the request that an enforcement point asks about: a proof says it, verified here.

    token         `Bearer` or `DPoP`: an access token of ours (RFC 9068) that counts now, for the route's audience,
                  with the key that it is bound to; or a JWT-SVID for that audience alone
    certificate   of the TLS that the enforcement point terminates: verified again where it forwards the certificate;
                  where it forwards the name alone, the name, and of the facts those that it vouches for

A token that does not hold is never passed over for a certificate. Headers that name an identity are no proof at all.

Spec: RFC 6750 §2.1, RFC 8705 §3, RFC 9068 §4, RFC 9449 §7; JWT-SVID §4; DESIGN §4.
"""

from __future__ import annotations

import hashlib
from base64 import urlsafe_b64encode
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final, Protocol

from remit.access.enforcers.model import Enforcer
from remit.kernel.canonical import Json
from remit.kernel.clock import Clock
from remit.kernel.errors import Rejected
from remit.surface.enforcers.forwarded import Client, Forwarded
from remit.surface.enforcers.tables import Proof, Table
from remit.trust import jose
from remit.trust.model import PresentedSvid, SvidClaims
from remit.trust.spiffe import SpiffeId
from remit.trust.tokens.dpop import Shown, verify_dpop
from remit.trust.tokens.model import Confirmation, Held, TokenKind
from remit.trust.tokens.present import kind_of, require_possession
from remit.trust.tokens.replay import ReplayWindow

_MOST_KINDS: Final = 2048


class Proofs(Protocol):
    """What verifies proofs; the control plane does."""

    async def standing(self, token: str) -> Held | None:
        """An access token of ours that counts now: signed, in time, not revoked, under a grant in force."""
        ...

    async def attestation(self, held: Held) -> Mapping[str, Json]:
        """What was proven of its subject when it was issued."""
        ...

    def jwt_svid(self, token: str, audience: str) -> SvidClaims: ...
    def svid(self, chain: Sequence[bytes]) -> PresentedSvid: ...
    def facts_of_svid(self, svid: PresentedSvid) -> Mapping[str, Json]: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Sender:
    """Who sent a request, and what is proven of that."""

    subject: str
    facts: Mapping[str, Json] = field(default_factory=dict)
    dpop: bool = False


class Subjects:
    """Finds the sender of a request. Belongs to the event loop."""

    def __init__(self, proofs: Proofs, clock: Clock) -> None:
        self._proofs = proofs
        self._clock = clock
        self._window = ReplayWindow()
        self._kinds: dict[bytes, TokenKind | None] = {}
        """Which of our kinds a token says that it is, by its digest: that hangs on its letters alone."""

    async def find(self, asked: Forwarded, table: Table, enforcer: Enforcer, *, audience: str) -> Sender:
        """The sender. `Rejected`: `surface.enforcer.proof` without any proof, else why one does not hold."""
        if Proof.TOKEN in table.subjects and asked.authorization:
            if not audience:
                raise Rejected("surface.enforcer.audience", "no token is taken for this path")
            return await self._by_token(asked, table, enforcer, audience)
        if Proof.CERTIFICATE in table.subjects and asked.client:
            return self._by_certificate(asked, enforcer)
        raise Rejected("surface.enforcer.proof", "the request brings no proof of who sends it")

    # Tokens.

    async def _by_token(self, asked: Forwarded, table: Table, enforcer: Enforcer, audience: str) -> Sender:
        scheme, token = _credentials(asked.authorization)
        if self._kind_of(token) is None:
            return self._by_jwt_svid(scheme, token, asked, enforcer, audience)
        held = await self._proofs.standing(token)
        if held is None or held.kind is not TokenKind.ACCESS:
            raise Rejected("surface.enforcer.token", "the access token does not count")
        if audience not in held.audience:
            raise Rejected("surface.enforcer.audience", "the access token is meant for another audience")
        if (scheme == "dpop") != bool(held.confirmation.jkt):
            raise Rejected("surface.enforcer.token", "the access token came by another scheme than its own")
        now = self._clock.now()
        shown = _possession(asked, table, token, now)
        certificate = _thumbprint(asked.client) if Proof.CERTIFICATE in table.subjects else ""
        require_possession(held, Confirmation(x5t=certificate, jkt=shown.thumbprint if shown is not None else ""))
        if shown is not None:
            self._window.take([shown.spend], now)
        facts: dict[str, Json] = {
            **await self._proofs.attestation(held),
            "credential": held.token_id,
            "client": held.client_id,
            "scope": " ".join(sorted(held.scopes)),
            "actors": list(held.actors),
            **({"sender_constraint": held.confirmation.kind} if held.confirmation else {}),
            **_vouched(enforcer, {"source_address": asked.source}),
        }
        return Sender(subject=held.subject, facts=facts, dpop=scheme == "dpop")

    def _kind_of(self, token: str) -> TokenKind | None:
        digest = hashlib.sha256(token.encode()).digest()
        if digest not in self._kinds:
            kind = kind_of(token)
            if len(self._kinds) >= _MOST_KINDS:
                self._kinds.clear()
            self._kinds[digest] = kind
        return self._kinds[digest]

    def _by_jwt_svid(self, scheme: str, token: str, asked: Forwarded, enforcer: Enforcer, audience: str) -> Sender:
        if scheme != "bearer":
            raise Rejected("surface.enforcer.token", "a JWT-SVID comes as a bearer token")
        found = self._proofs.jwt_svid(token, audience)
        if found.audience != (audience,):
            raise Rejected("surface.enforcer.audience", "the JWT-SVID is not meant for this audience alone")
        issued, jti = jose.moment(found.claims, "iat"), found.claims.get("jti")
        facts: dict[str, Json] = {
            "attested": True,
            "attestation_method": "jwt-svid",
            **({"attested_at": int(issued.timestamp())} if issued is not None else {}),
            **({"credential": jti} if isinstance(jti, str) and jti else {}),
            **_vouched(enforcer, {"source_address": asked.source}),
        }
        return Sender(subject=str(found.spiffe_id), facts=facts)

    # Certificates.

    def _by_certificate(self, asked: Forwarded, enforcer: Enforcer) -> Sender:
        client = asked.client
        source = _vouched(enforcer, {"source_address": asked.source})
        if client.chain:
            svid = self._proofs.svid(client.chain)
            if client.principal not in ("", str(svid.spiffe_id)) or not _is_digest(client, svid.certificate):
                raise Rejected("surface.enforcer.certificate", "the name and the certificate are of different clients")
            return Sender(subject=str(svid.spiffe_id), facts={**self._proofs.facts_of_svid(svid), **source})
        named = SpiffeId.parse(client.principal)
        stated: dict[str, Json] = {"attested": True, "attestation_method": "x509-svid", "sender_constraint": "mtls"}
        return Sender(subject=str(named), facts={**_vouched(enforcer, stated), **source})


def _credentials(values: Sequence[str]) -> tuple[str, str]:
    scheme, space, token = values[0].partition(" ") if len(values) == 1 else ("", "", "")
    if scheme.lower() not in ("bearer", "dpop") or not space or not token or " " in token:
        raise Rejected("surface.enforcer.token", "`Authorization` is neither one Bearer nor one DPoP token")
    return scheme.lower(), token


def _possession(asked: Forwarded, table: Table, token: str, now: datetime) -> Shown | None:
    if len(asked.dpop) > 1:
        raise Rejected("trust.dpop.invalid", "the DPoP proof does not hold: there are several")
    if not asked.dpop:
        return None
    url = f"{table.scheme}://{asked.host}{asked.path}"
    return verify_dpop(asked.dpop[0], method=asked.method, urls=(url,), now=now, token=token)


def _thumbprint(client: Client) -> str:
    raw = hashlib.sha256(client.chain[0]).digest() if client.chain else bytes.fromhex(client.sha256)
    return urlsafe_b64encode(raw).rstrip(b"=").decode()


def _is_digest(client: Client, certificate: bytes) -> bool:
    return client.sha256 in ("", hashlib.sha256(certificate).hexdigest())


def _vouched(enforcer: Enforcer, stated: Mapping[str, Json]) -> dict[str, Json]:
    return {name: value for name, value in stated.items() if value and name in enforcer.vouches}
