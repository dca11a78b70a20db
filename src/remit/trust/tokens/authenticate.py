"""Who is the client? Derived from proof, never from what the request says of itself.

    mutual TLS      the X.509-SVID that the listener verified (RFC 8705)
    JWT-SVID        an assertion of our trust domain, or of a partner's (draft-ietf-oauth-spiffe-client-auth)
    private key     an assertion under a key that an administrator registered (RFC 7523)
    platform        a token of GitHub, GitLab, Kubernetes …, through the entries that name its bearer

An assertion is meant for us alone, lives minutes, and counts once.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Final

from remit.kernel.errors import Rejected, RemitError
from remit.trust import jose
from remit.trust.authority.x509 import BACKDATED
from remit.trust.model import Entry, Evidence, PresentedSvid
from remit.trust.spiffe import TrustDomain
from remit.trust.tokens.clients import ClientIndex
from remit.trust.tokens.model import Client, Confirmation, Places, Proven, Request
from remit.trust.tokens.ports import PlatformProofs, Svids
from remit.trust.tokens.replay import spend_of

JWT_BEARER: Final = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
JWT_SPIFFE: Final = "urn:ietf:params:oauth:client-assertion-type:jwt-spiffe"
ASSERTION_ALGORITHMS: Final = ("ES256", "ES384", "EdDSA", "PS256", "RS256")
LONGEST: Final = timedelta(minutes=5)
"""How old an assertion of a registered key may be, whatever its end: clients' libraries are generous with it."""
_LONGEST_LIFE = timedelta(hours=1)
PRIVATE_KEY_JWT: Final = jose.Profile(
    algorithms=frozenset(ASSERTION_ALGORITHMS),
    types=frozenset({"jwt", "client-authentication+jwt", ""}),
    required=frozenset({"iss", "sub", "aud", "exp", "iat", "jti"}),
    max_age=LONGEST,
    max_lifetime=_LONGEST_LIFE,
    single_audience=True,
)
_ANY: Final = jose.Profile(
    headers=jose.HEADERS | {"x5t", "x5t#S256", "x5c", "x5u", "jku"},
    algorithms=jose.ALGORITHMS | {"EdDSA"},
    types=frozenset({"jwt", "jose", "client-authentication+jwt", ""}),
    required=frozenset(),
)
"""Loose, and used for nothing but to see who is asked to verify a token."""
JWT_SVID: Final = jose.Profile(required=frozenset({"sub", "aud", "exp"}), single_audience=True)
_LONGEST_SVID = timedelta(hours=1)
_LONGEST_ID = 256


class Authenticator:
    """Derives clients from what a request brings along."""

    def __init__(
        self,
        *,
        trust_domain: TrustDomain,
        clients: Callable[[], ClientIndex],
        svids: Svids,
        proofs: PlatformProofs | None,
    ) -> None:
        self._trust_domain = trust_domain
        self._clients = clients
        self._svids = svids
        self._proofs = proofs

    async def authenticate(
        self, request: Request, svid: PresentedSvid | None, places: Places, now: datetime
    ) -> Proven | None:
        """The client; `None` when the request brings no proof at all.

        Raises `Rejected` (`trust.client.invalid`) for a proof that does not hold, whatever is wrong with it;
        `Unavailable` when a platform's anchor does not answer.
        """
        proof = self.by_certificate(svid, now) if svid is not None else None
        if request.assertion or request.assertion_type:
            asserted = await self._asserted(request, places, now)
            if proof is not None and proof.subject != asserted.subject:
                raise invalid("the certificate and the assertion are of two clients")
            proof = asserted
        if proof is not None and request.client_id and request.client_id not in (proof.client_id, proof.subject):
            raise invalid("`client_id` names another client than the one that proved itself")
        return proof

    def by_certificate(self, svid: PresentedSvid, now: datetime) -> Proven:
        """The client that holds a verified X.509-SVID."""
        if svid.expires <= now:
            raise invalid("its certificate has expired")
        return Proven(
            subject=str(svid.spiffe_id),
            method="x509-svid",
            # How a partner looks at its workloads, we do not know.
            attested=svid.spiffe_id.trust_domain == self._trust_domain,
            attested_at=svid.issued + BACKDATED,
            expires=svid.expires,
            client=self._clients().of_spiffe_id(str(svid.spiffe_id)),
            confirmation=Confirmation(x5t=svid.thumbprint),
            credential=f"{svid.serial:x}",
            evidence=f"x5t:{svid.thumbprint}",
        )

    def by_jwt_svid(self, token: str, audiences: frozenset[str], now: datetime) -> Proven:
        """The bearer of a JWT-SVID that is meant for one of these alone, once.

        Raises `Rejected` (`trust.client.audience`, `.lifetime`, `trust.jose.…`, `trust.jwt_svid.…`).
        """
        unverified = jose.read(token, JWT_SVID)
        audience = jose.audiences(unverified.claims)
        if len(audience) != 1 or audience[0] not in audiences:
            raise Rejected("trust.client.audience", "the JWT-SVID is not meant for this token service alone")
        found = self._svids.validate_jwt(token, audience[0])
        if found.expires - now > _LONGEST_SVID:
            raise Rejected("trust.client.lifetime", "the JWT-SVID lives longer than an hour")
        subject, jti = str(found.spiffe_id), found.claims.get("jti")
        digest = _digest(unverified)
        named = jti if isinstance(jti, str) and jti else digest
        return Proven(
            subject=subject,
            method="jwt-svid",
            attested=found.spiffe_id.trust_domain == self._trust_domain,
            attested_at=jose.moment(found.claims, "iat"),
            expires=found.expires,
            client=self._clients().of_spiffe_id(subject),
            spends=(spend_of("jwt-svid", subject, named, found.expires),),
            credential=jti if isinstance(jti, str) else "",
            evidence=digest,
        )

    async def by_platform(self, token: str, places: Places, now: datetime, *, wanted: str = "") -> Proven:
        """The workload that a platform's token names, through our entries. `Rejected`, `Unavailable`."""
        if self._proofs is None:
            raise invalid("no platform is configured to vouch for clients")
        evidence, entries = await self._proofs.prove(token, places.audiences, now)
        entry = _chosen(entries, wanted)
        if entry is None:
            raise invalid("no registration entry names the bearer of this platform's token")
        return _of_evidence(evidence, entry, self._clients().of_spiffe_id(str(entry.spiffe_id)))

    async def _asserted(self, request: Request, places: Places, now: datetime) -> Proven:
        try:
            match request.assertion_type:
                case t if t == JWT_SPIFFE:
                    return self.by_jwt_svid(request.assertion, places.audiences, now)
                case t if t == JWT_BEARER:
                    return await self._by_bearer(request, places, now)
                case _:
                    raise invalid("`client_assertion_type` is none that is accepted")
        except Rejected as why:
            raise _uniform(why) from None

    async def _by_bearer(self, request: Request, places: Places, now: datetime) -> Proven:
        unverified = jose.read(request.assertion, _ANY)
        issuer, subject = unverified.claims.get("iss"), unverified.claims.get("sub")
        client = self._clients().get(issuer) if isinstance(issuer, str) else None
        if client is not None:
            return self._by_key(request.assertion, client, places, now)
        if isinstance(subject, str) and subject.startswith("spiffe://"):
            return self.by_jwt_svid(request.assertion, places.audiences, now)
        return await self.by_platform(request.assertion, places, now, wanted=request.client_id)

    def _by_key(self, assertion: str, client: Client, places: Places, now: datetime) -> Proven:
        """RFC 7523 §3: issuer and subject are the client, the audience is us, and it counts once."""
        found = jose.verify(
            assertion, self._clients().keys(client), PRIVATE_KEY_JWT,
            now=now, issuer=client.id, audience=places.audiences,
        )  # fmt: skip
        if found.claims["sub"] != client.id:
            raise invalid("issuer and subject of the assertion are not both the client")
        if not 0 < len(str(found.claims["jti"])) <= _LONGEST_ID:
            raise invalid("the assertion's `jti` is empty or too long")
        expires = found.expires
        assert expires is not None, "the profile requires it"
        return Proven(
            subject=client.subject,
            method="private_key_jwt",
            attested=False,
            client=client,
            spends=(spend_of("assertion", client.id, str(found.claims["jti"]), expires),),
            evidence=found.digest,
        )


def invalid(why: str) -> Rejected:
    """The client did not prove itself."""
    return Rejected("trust.client.invalid", f"the client did not prove who it is: {why}")


def _uniform(why: RemitError) -> Rejected:
    return why if why.code == "trust.client.invalid" and isinstance(why, Rejected) else invalid(why.message)


def _chosen(entries: tuple[Entry, ...], wanted: str) -> Entry | None:
    if wanted:
        return next((one for one in entries if str(one.spiffe_id) == wanted), None)
    return entries[0] if entries else None


def _of_evidence(evidence: Evidence, entry: Entry, client: Client | None) -> Proven:
    return Proven(
        subject=str(entry.spiffe_id),
        method=evidence.attestor,
        attested=True,
        attested_at=evidence.observed,
        client=client,
        evidence=evidence.digest,
    )


def _digest(unverified: jose.Unverified) -> str:
    return "sha256:" + hashlib.sha256(unverified.signing_input).hexdigest()
