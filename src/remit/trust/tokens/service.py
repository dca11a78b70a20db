"""The token service: proof in, a token under a grant out; and what it says of its tokens afterwards.

Transport-free: a surface hands over what a request brought along (`Presented`) and renders what comes back.

Spec: RFC 6749 §4.4 and §5, RFC 7009, RFC 7662, RFC 8693, RFC 8705, RFC 8707, RFC 9068, RFC 9396, RFC 9449;
draft-ietf-oauth-spiffe-client-auth, draft-ietf-oauth-transaction-tokens.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Final

from remit.kernel.canonical import Json
from remit.kernel.clock import Clock
from remit.kernel.errors import Denied, Rejected, RemitError
from remit.kernel.unit import Attester, Store
from remit.trust.authority.keyring import Keyring
from remit.trust.model import PresentedSvid
from remit.trust.spiffe import TrustDomain
from remit.trust.tokens import clients as registration
from remit.trust.tokens.attenuate import offer_exchange, offer_own
from remit.trust.tokens.authenticate import Authenticator, invalid
from remit.trust.tokens.clients import ClientIndex, ClientRequest
from remit.trust.tokens.dpop import Nonces, Shown, verify_dpop
from remit.trust.tokens.exchange import GRANT_TYPE as EXCHANGE
from remit.trust.tokens.exchange import check_request, require_actor, require_bearer, verify_presented
from remit.trust.tokens.form import parse_form, parse_request
from remit.trust.tokens.issue import Order, TokenIssuer
from remit.trust.tokens.journal import Deed, Journal, Refusals
from remit.trust.tokens.keys import KeySource, TokenKeys, svid_jwks
from remit.trust.tokens.model import (
    Answer,
    Client,
    Confirmation,
    Held,
    Places,
    Proven,
    Request,
    Spend,
    TokenKind,
)
from remit.trust.tokens.ports import GrantSource, PlatformProofs, Revocations, StatusIndex, Svids, TokenUnit
from remit.trust.tokens.present import kind_of, require_possession, verify_own
from remit.trust.tokens.replay import ReplayWindow

CLIENT_CREDENTIALS: Final = "client_credentials"
INTROSPECT: Final = "introspect"
"""The scope by which a resource server may introspect with an access token of ours."""
_HOUSEKEEPING = timedelta(minutes=1)
_log = logging.getLogger("remit.tokens")


@dataclass(frozen=True, slots=True, kw_only=True)
class Presented:
    """What one request brought along."""

    raw: bytes = field(repr=False)
    """The form."""
    svid: PresentedSvid | None = None
    """The X.509-SVID of the connection, verified by its listener."""
    dpop: tuple[str, ...] = field(default=(), repr=False)
    """Every header `DPoP`."""
    authorization: str = field(default="", repr=False)
    administrates: bool = False
    """The listener knows that an administrator asks."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Lifetimes:
    """How long tokens live at most."""

    access: timedelta = timedelta(minutes=5)
    transaction: timedelta = timedelta(minutes=2)

    def of(self, kind: TokenKind) -> timedelta:
        return self.access if kind is TokenKind.ACCESS else self.transaction


class TokenService:
    """Tokens of one trust domain. `open` first; its methods belong to the event loop."""

    def __init__(
        self,
        store: Store[TokenUnit],
        *,
        attester: Attester,
        clock: Clock,
        trust_domain: TrustDomain,
        keyring: Callable[[], Keyring],
        svids: Svids,
        grants: GrantSource,
        revocations: Revocations,
        nonce_key: bytes,
        proofs: PlatformProofs | None = None,
        status: StatusIndex | None = None,
        lifetimes: Lifetimes | None = None,
        require_nonce: bool = True,
    ) -> None:
        self.trust_domain = trust_domain
        self._store = store
        self._attester = attester
        self._clock = clock
        self._keyring = keyring
        self._source = KeySource()
        self._grants = grants
        self._revocations = revocations
        self._lifetimes = lifetimes or Lifetimes()
        self._nonces = Nonces(nonce_key)
        self._require_nonce = require_nonce
        self._clients = ClientIndex()
        self._refreshing = asyncio.Lock()
        self._refused: tuple[str, ...] = ()
        self._window = ReplayWindow()
        self._journal = Journal(store)
        self._refusals = Refusals(store)
        self._authenticator = Authenticator(
            trust_domain=trust_domain, clients=lambda: self._clients, svids=svids, proofs=proofs
        )
        self._issuer = TokenIssuer(
            trust_domain=trust_domain,
            keys=lambda: self.keys,
            grants=grants,
            revocations=revocations,
            journal=self._journal,
            status=status,
        )

    # Life.

    async def open(self) -> None:
        """Load the clients."""
        await self.refresh()

    async def close(self) -> None:
        """Write what is under way. Works after a failed `open`."""
        await self._journal.close()
        try:
            await self._refusals.flush()
        except RemitError as error:
            _log.warning("refusals of tokens are not in the ledger: %s", error)

    async def run(self) -> None:
        """Tell the ledger of refusals, and forget what has ended, until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._refusals.run())
            tasks.create_task(self._keep_house())

    async def refresh(self) -> None:
        """Read the clients again, after another node changed them."""
        # One after the other: an older reading that came late would bring back a client that was removed.
        async with self._refreshing:
            rows = await self._store.read(lambda unit: unit.tokens.clients())
            genuine = [one for one in rows if registration.is_genuine(one, self._attester)]
            self._clients = ClientIndex(genuine)
        self._refused = tuple(one.id for one in rows if one not in genuine)

    @property
    def problems(self) -> tuple[str, ...]:
        """What was found in the database and not loaded, because it was not signed here; for `doctor`."""
        return tuple(f"client `{one}` was not registered by this installation" for one in self._refused)

    # Clients.

    def clients(self) -> tuple[Client, ...]:
        """Every client that counts, oldest first."""
        return self._clients.all()

    async def register_client(self, request: ClientRequest, *, actor: str) -> Client:
        """Register a client; it counts when this returns. `Conflict` (`trust.client.exists`)."""
        client = await self._store.write(
            lambda unit: registration.register_client(unit, request, actor=actor, attester=self._attester)
        )
        await self.refresh()
        return client

    async def remove_client(self, client_id: str, *, actor: str) -> Client:
        """Forget a client. `NotFound` (`trust.client.unknown`)."""
        client = await self._store.write(lambda unit: registration.remove_client(unit, client_id, actor=actor))
        await self.refresh()
        return client

    # Keys.

    @property
    def keys(self) -> TokenKeys:
        """What signs and verifies tokens now."""
        return self._source.of(self._keyring())

    def svid_jwks(self) -> dict[str, Json]:
        """The JWK set of JWT-SVIDs."""
        return svid_jwks(self._keyring())

    def nonce(self) -> str:
        """The nonce that a DPoP proof should have now."""
        return self._nonces.current(self._clock.now())

    # Tokens.

    async def token(self, presented: Presented, places: Places) -> Answer:
        """Answer a token request.

        Raises `Rejected` (`trust.token.…`, `trust.client.invalid`, `trust.dpop.…`, `trust.exchange.…`,
        `trust.token.replayed`), `Denied` (`trust.token.…`, `trust.exchange.…`), `Unavailable`; each is noted.
        """
        proof: Proven | None = None
        try:
            now = self._clock.now()
            request = parse_request(parse_form(presented.raw))
            if request.grant_type not in (CLIENT_CREDENTIALS, EXCHANGE):
                raise Rejected("trust.token.grant_type", "`grant_type` is none that is served here")
            shown = self._dpop(presented, places.endpoints("/oauth2/token"), now)
            proof = await self._client(request, presented, places, now)
            order = await self._order(request, proof, shown, places, now)
            proof = order.proof
            self._window.take(order.spends, now)
            return await self._issuer.issue(order)
        except RemitError as error:
            self._refusals.note(error, at="token", client=proof.client_id if proof is not None else "")
            raise

    async def introspect(self, presented: Presented, places: Places) -> dict[str, Json]:
        """What a token says, to a service that it is meant for, or to an administrator; to others `active: false`."""
        proof: Proven | None = None
        try:
            now = self._clock.now()
            form = parse_form(presented.raw)
            proof = await self._asker(presented, form, places, "/oauth2/introspect", now)
            held = await self.standing(form.get("token", ("",))[0], places)
        except RemitError as error:
            self._refusals.note(error, at="introspect", client=proof.client_id if proof is not None else "")
            raise
        if held is None or not (proof is None or proof.names & set(held.audience)):
            return {"active": False}
        kind = "DPoP" if held.confirmation.jkt else "Bearer"
        return {"active": True, "token_type": kind if held.kind is TokenKind.ACCESS else "N_A", **held.claims}

    async def revoke(self, presented: Presented, places: Places) -> None:
        """End a token before its time, for the client that it was issued to, or an administrator.

        What is no token of ours, or counts no more, is no error. Raises `Denied` (`trust.token.foreign`).
        """
        proof: Proven | None = None
        try:
            now = self._clock.now()
            form = parse_form(presented.raw)
            proof = await self._asker(presented, form, places, "/oauth2/revoke", now)
            held = await self.standing(form.get("token", ("",))[0], places)
            if held is None:
                return
            if proof is not None and proof.client_id != held.client_id:
                raise Denied("trust.token.foreign", "the token was issued to another client")
            await self._revocations.revoke_token(
                held.token_id, actor=proof.client_id if proof is not None else "system:admin"
            )
        except RemitError as error:
            self._refusals.note(error, at="revoke", client=proof.client_id if proof is not None else "")
            raise

    async def standing(self, token: str, places: Places) -> Held | None:
        """A token of ours that counts now: signed, unexpired, not revoked, under a grant in force; else `None`."""
        now = self._clock.now()
        try:
            kind = kind_of(token)
            held = verify_own(token, kind, self.keys, issuer=places.issuer, now=now) if kind is not None else None
        except Rejected:
            return None
        return held if held is not None and await self._stands(held) else None

    async def present(
        self,
        presented: Presented,
        places: Places,
        *,
        audience: str,
        scope: str,
        urls: frozenset[str],
        method: str = "POST",
    ) -> Held:
        """The access token of a request's `Authorization`, for a resource server of this process.

        It counts now, is for `audience`, has `scope`, and its sender proved the key that it is bound to, for this
        request (`method` to one of `urls`). Raises `Rejected` (`trust.client.token`, `trust.token.sender`, `.replayed`,
        `trust.dpop.…`), `Denied` (`trust.client.scope`).

        Spec: RFC 6750 §2.1, RFC 8705 §3, RFC 9449 §7.1.
        """
        now = self._clock.now()
        scheme, _, token = presented.authorization.partition(" ")
        held = await self.standing(token.strip(), places) if scheme.lower() in ("bearer", "dpop") else None
        if held is None or held.kind is not TokenKind.ACCESS or audience not in held.audience:
            raise Rejected("trust.client.token", "the access token is not valid here")
        if (scheme.lower() == "dpop") != bool(held.confirmation.jkt):
            raise Rejected("trust.client.token", "the access token came by another scheme than its own")
        shown = self._dpop(presented, urls, now, method=method, token=token.strip())
        x5t = self._authenticator.by_certificate(presented.svid, now).confirmation.x5t if presented.svid else ""
        require_possession(held, Confirmation(x5t=x5t, jkt=shown.thumbprint if shown is not None else ""))
        if scope not in held.scopes:
            raise Denied("trust.client.scope", f"the access token has not the scope `{scope}`")
        await self._spend((shown.spend,) if shown is not None else (), now)
        return held

    # Steps.

    def _dpop(
        self, presented: Presented, urls: frozenset[str], now: datetime, *, method: str = "POST", token: str = ""
    ) -> Shown | None:
        if not presented.dpop:
            return None
        if len(presented.dpop) > 1:
            raise Rejected("trust.dpop.invalid", "the DPoP proof does not hold: there are several")
        nonces = self._nonces if self._require_nonce else None
        return verify_dpop(presented.dpop[0], method=method, urls=urls, now=now, nonces=nonces, token=token)

    async def _client(self, request: Request, presented: Presented, places: Places, now: datetime) -> Proven | None:
        if presented.authorization:
            raise invalid("it comes with a header `Authorization`, and secrets are not used here")
        proof = await self._authenticator.authenticate(request, presented.svid, places, now)
        if proof is not None:
            self._require_unrevoked(proof)
        return proof

    def _require_unrevoked(self, proof: Proven) -> None:
        identity = proof.client.identity if proof.client is not None else ""
        spiffe_id = proof.subject if proof.subject != identity else ""
        if self._revocations.is_revoked(
            id=proof.credential,
            spiffe_id=spiffe_id,
            identity=identity,
            issued_at=proof.attested_at or self._clock.now(),
        ):
            raise invalid("its SVID, or everything of it, is revoked")

    async def _order(
        self, request: Request, proof: Proven | None, shown: Shown | None, places: Places, now: datetime
    ) -> Order:
        held: Held | None = None
        spends: list[Spend] = [shown.spend] if shown is not None else []
        lifetime = self._lifetimes.of(request.wanted)
        if request.grant_type == EXCHANGE:
            held, proof, more = await self._presented(request, proof, shown, places, now)
            spends += more
            offer = offer_exchange(request, proof, held, now=now, lifetime=lifetime)
        elif proof is None:
            raise invalid("it brings no proof at all")
        else:
            offer = offer_own(request, proof, now=now, lifetime=lifetime)
        bound = replace(proof.confirmation, jkt=shown.thumbprint if shown is not None else "")
        return Order(
            request=request,
            offer=offer,
            proof=proof,
            held=held,
            bound=bound if request.wanted is TokenKind.ACCESS else Confirmation(),
            spends=(*spends, *proof.spends),
            places=places,
            now=now,
        )

    async def _presented(
        self, request: Request, proof: Proven | None, shown: Shown | None, places: Places, now: datetime
    ) -> tuple[Held, Proven, Sequence[Spend]]:
        """The subject token, the client, and what the tokens besides its own proof cost."""
        check_request(request)
        held = await self._verify(request.subject_token, request.subject_token_type, proof, places, now)
        if proof is None:
            # Who shows a proof of identity, and nothing else, is its bearer.
            if held.proof is None:
                raise invalid("it brings no proof at all")
            proof = held.proof
        actor = None
        if request.actor_token:
            actor = await self._verify(request.actor_token, request.actor_token_type, proof, places, now)
        require_actor(actor, proof)
        require_bearer(held, proof, replace(proof.confirmation, jkt=shown.thumbprint if shown is not None else ""))
        others = [one.proof for one in (held, actor) if one is not None and one.proof is not None]
        return held, proof, [spend for other in others if other is not proof for spend in other.spends]

    async def _verify(self, token: str, kind: str, bearer: Proven | None, places: Places, now: datetime) -> Held:
        held = await verify_presented(
            token, kind, authenticator=self._authenticator, keys=self.keys, places=places, bearer=bearer, now=now
        )
        if held.proof is not None:
            self._require_unrevoked(held.proof)
        elif not await self._stands(held):
            raise Rejected("trust.exchange.subject", "the presented token is not accepted: it counts no more")
        return held

    async def _stands(self, held: Held) -> bool:
        asked = self._revocations.is_revoked
        # `iat` is cut to the second. What fell in that second is known by its id.
        issued = held.issued + timedelta(microseconds=999_999) if held.issued is not None else None
        if asked(
            id=held.token_id, spiffe_id=held.subject, authority=held.key, grant=held.grant, issued_at=issued
        ) or any(asked(spiffe_id=actor, issued_at=issued) for actor in held.actors):
            return False
        return await self._grants.stands(held.grant, held.subject, held.actors)

    async def _asker(
        self, presented: Presented, form: Mapping[str, Sequence[str]], places: Places, path: str, now: datetime
    ) -> Proven | None:
        """Who asks about a token: a client by its proof or a token of its own, or (`None`) an administrator."""
        if presented.administrates:
            return None
        if presented.authorization:
            urls = places.endpoints(path)
            held = await self.present(presented, places, audience=places.issuer, scope=INTROSPECT, urls=urls)
            client = self._clients.get(held.client_id) or self._clients.of_spiffe_id(held.client_id)
            return Proven(subject=held.subject, method="access-token", attested=False, client=client)
        asked = {name: tuple(values) for name, values in form.items() if name.startswith("client_")}
        proof = await self._client(parse_request(asked), presented, places, now)
        if proof is None:
            raise invalid("it brings no proof at all")
        await self._spend(proof.spends, now)
        return proof

    async def _spend(self, spends: Sequence[Spend], now: datetime) -> None:
        if spends:
            self._window.take(spends, now)
            await self._journal.commit(Deed(spends=tuple(spends)))

    async def _keep_house(self) -> None:
        while True:
            await asyncio.sleep(_HOUSEKEEPING.total_seconds())
            try:
                while await self._store.write(lambda unit: unit.tokens.forget(unit.now)) >= 10_000:
                    await asyncio.sleep(0)
            except RemitError as error:
                _log.warning("what has ended is not forgotten yet: %s", error)
