"""Tokens in one installation: the decision point gives their grants, and everything else says whether they still count.

A grant is decided once, durably, and then holds for minutes: each token under it is decided again, in memory, over the
facts of its own moment. Whatever would now be refused gets a new, recorded decision instead of a token.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Final, TypeVar

from remit.access.model import Decision, Entity, Request
from remit.access.policy.decide import LIVE
from remit.access.policy.obligations import ISSUERS, lifetime_of
from remit.kernel.canonical import Json, digest
from remit.kernel.errors import Denied, Misconfigured
from remit.kernel.ids import is_id, new_id
from remit.storage.database import Database
from remit.trust import jose
from remit.trust.model import Entry, Evidence
from remit.trust.proofs import Proof, ProofDesk, Question
from remit.trust.tokens import GrantAsk, Lifetimes, TokenGrant, TokenService
from remit.trust.tokens.clients import is_genuine

if TYPE_CHECKING:
    from remit.trust.tokens import Client
    from remit.wiring.control import ControlPlane

K = TypeVar("K")
GRANTED: Final = "trust.token.granted"
SIGNED_AS: Final = "token-grant"
GRANT_LIFE: Final = timedelta(minutes=15)
MAX_KEPT: Final = 8192
ISSUE, EXCHANGE = "token:issue", "token:exchange"
_ACCESS_TTL, _TRANSACTION_TTL = (10, 3600), (10, 600)


def make_tokens(control: ControlPlane, nonce_key: bytes) -> TokenService:
    """The token service over the control plane; not open yet. Raises `Misconfigured` (`trust.token.settings`)."""
    settings = control.settings.tokens
    for value, (least, most) in ((settings.access_ttl, _ACCESS_TTL), (settings.transaction_ttl, _TRANSACTION_TTL)):
        if not least <= value <= most:
            raise Misconfigured(
                "trust.token.settings",
                f"a token's life of {value} s is not between {least} and {most} s",
                next_step="correct `tokens.access_ttl` and `tokens.transaction_ttl`",
            )
    control.trust.name_issuer(settings.issuer)
    control.token_grants = PolicyGrants(control, longest=timedelta(seconds=settings.access_ttl))
    return TokenService(
        control.store,
        attester=control.witness,
        clock=control.clock,
        trust_domain=control.trust.trust_domain,
        keyring=lambda: control.trust.keeper.keyring,
        svids=control.trust,
        grants=control.token_grants,
        revocations=TokenRevocations(control),
        proofs=DeskProofs(control),
        status=control.revocations.status,
        nonce_key=nonce_key,
        lifetimes=Lifetimes(
            access=timedelta(seconds=settings.access_ttl), transaction=timedelta(seconds=settings.transaction_ttl)
        ),
        require_nonce=not settings.dpop_without_nonce,
    )


class PolicyGrants:
    """Implements `GrantSource` by the decision point: one decision for each scope at each resource."""

    def __init__(self, control: ControlPlane, *, longest: timedelta) -> None:
        self._control = control
        self._store: Database = control.store
        self._longest = longest
        """A grant that ends before a token of this life would is given anew."""
        self._by_ask: OrderedDict[tuple[object, ...], TokenGrant] = OrderedDict()
        self._by_id: OrderedDict[str, TokenGrant] = OrderedDict()
        self._making: dict[tuple[object, ...], asyncio.Lock] = {}
        self._named: tuple[int, Mapping[str, str]] = (-1, {})

    async def grant(self, ask: GrantAsk) -> TokenGrant:
        """See `GrantSource`. A grant that was given before, and would be given again, is used again."""
        proven = await self._proven(ask)
        key = _key(ask, proven)
        kept = self._usable(key, ask, proven)
        if kept is not None:
            return kept
        lock = self._making.setdefault(key, asyncio.Lock())
        try:
            async with lock:
                return self._usable(key, ask, proven) or await self._make(key, ask, proven)
        finally:
            if not lock.locked():
                self._making.pop(key, None)

    async def stands(self, grant_id: str, subject: str, actors: Sequence[str]) -> bool:
        """See `GrantSource`: signed here, in force, with its anchor, and everybody on it in service."""
        grant = await self._find(grant_id)
        now = self._control.clock.now()
        if grant is None or now >= grant.expires or (grant.subject, grant.actors) != (subject, tuple(actors)):
            return False
        if grant.anchor and not self._anchored(grant.anchor, now):
            return False
        return all(self._in_service(one) for one in (grant.identity, *grant.actors))

    # Deciding.

    async def _make(self, key: tuple[object, ...], ask: GrantAsk, proven: dict[str, Json]) -> TokenGrant:
        asked = self._requests(ask, proven)
        decided = await asyncio.gather(*(self._control.decisions.decide(one, fulfils=ISSUERS) for _, one in asked))
        refused = {what for (what, _), decision in zip(asked, decided, strict=True) if not decision.allowed}
        scopes = tuple(scope for scope in ask.scopes if ("scope", scope) not in refused)
        details = tuple(each for at, each in enumerate(ask.details) if ("detail", str(at)) not in refused)
        if not scopes and not details:
            raise _denied(next(one for one in decided if not one.allowed))
        allowed = tuple(one.id for one in decided if one.allowed)
        life = lifetime_of(owed for one in decided if one.allowed for owed in one.obligations)
        grant = await self._keep(ask, proven, scopes, details, allowed, life)
        _put(self._by_ask, key, grant)
        return grant

    async def _keep(
        self,
        ask: GrantAsk,
        proven: Mapping[str, Json],
        scopes: tuple[str, ...],
        details: tuple[Mapping[str, Json], ...],
        decisions: tuple[str, ...],
        life: int | None,
    ) -> TokenGrant:
        """Sign the grant and write it, with its ledger entry; it ends after `life` seconds, where a permit says so."""
        if life is not None and life < 1:
            raise Denied("trust.token.denied", "no token: the permit lets it live no time at all")
        anchor = self._control.feed.cell.current().grants.get(ask.named) if ask.named else None
        ends = ask.now + max(GRANT_LIFE, 2 * self._longest)
        if life is not None:
            ends = min(ends, ask.now + timedelta(seconds=life))
        attested_at = proven.get("attested_at")
        grant = TokenGrant(
            id=new_id("gr", ask.now),
            identity=self.identity_of(ask.subject),
            subject=ask.subject,
            actors=ask.actors,
            resources=ask.resources,
            scopes=scopes,
            details=details,
            anchor=ask.named,
            decisions=decisions,
            method=str(proven["attestation_method"]),
            attested=proven["attested"] is True,
            attested_at=_moment(attested_at),
            created=ask.now,
            expires=min(ends, anchor.expires) if anchor is not None else ends,
        )
        grant = replace(grant, signature=self._control.witness.sign(SIGNED_AS, grant.as_json()))

        def work(unit: Any) -> None:
            unit.tokens.add_grant(grant)
            unit.record(
                GRANTED,
                actor=ask.proof.client_id,
                subject=grant.identity or grant.subject,
                data={**grant.as_json(), "digest": grant.digest},
            )

        await self._store.write(work)
        _put(self._by_id, grant.id, grant)
        return grant

    def _usable(self, key: tuple[object, ...], ask: GrantAsk, proven: dict[str, Json]) -> TokenGrant | None:
        """The grant that was given for this before, if it lasts and the decision point would give all of it now."""
        grant = self._by_ask.get(key)
        if grant is None:
            return None
        lasts = grant.expires - ask.now > self._longest or (grant.anchor and grant.expires > ask.now)
        blocked = self._control.revocations.is_blocked(grant=grant.id)
        given = replace(ask, scopes=grant.scopes, details=grant.details)
        pdp = self._control.pdp
        if not lasts or blocked or not all(pdp.evaluate_fast(one) for _, one in self._requests(given, proven)):
            self._by_ask.pop(key, None)
            return None
        self._by_ask.move_to_end(key)
        return grant

    def _requests(self, ask: GrantAsk, proven: dict[str, Json]) -> list[tuple[tuple[str, str], Request]]:
        """What the decision point is asked: of the subject, and of who acts for it."""
        subject = Entity(type="identity", id=self.identity_of(ask.subject) or ask.subject)
        asked = [(subject, ISSUE, proven)]
        if ask.actors:
            actor = Entity(type="identity", id=self.identity_of(ask.actors[0]) or ask.actors[0])
            # An approved grant is its subject's: it says nothing of who acts.
            mine = {**self._facts(ask, _attestation(ask)), "on_behalf_of": ask.subject}
            asked.append((actor, EXCHANGE, mine))
        purposes: list[tuple[tuple[str, str], dict[str, Json]]] = [
            (("scope", scope), {"scope": scope}) for scope in ask.scopes
        ]
        purposes += [(("detail", str(at)), _detail(each)) for at, each in enumerate(ask.details)]
        resources = [Entity(type=ask.resource_kind, id=name) for name in ask.resources]
        return [
            (what, Request(subject=who, action=action, resource=resource, proven={**facts, **purpose}))
            for resource in resources
            for what, purpose in purposes
            for who, action, facts in asked
        ]

    async def _proven(self, ask: GrantAsk) -> dict[str, Json]:
        """What is proven of the subject, now or when the presented token began."""
        facts: dict[str, Json]
        if ask.source is not None:
            facts = _attestation(replace(ask, proof=ask.source))
        else:
            before = await self._find(ask.before)
            if before is None:
                raise Denied("trust.token.denied", "the grant of the presented token is not known any more")
            facts = {"attested": before.attested, "attestation_method": before.method}
            if before.attested_at is not None:
                facts["attested_at"] = int(before.attested_at.timestamp())
        return {**self._facts(ask, facts), **({"grant": ask.named} if ask.named else {})}

    def _facts(self, ask: GrantAsk, attestation: dict[str, Json]) -> dict[str, Json]:
        return {
            **attestation,
            "client": ask.proof.client_id,
            "sender_constraint": ask.confirmation,
            "actors": list(ask.actors),
        }

    # Looking up.

    def identity_of(self, subject: str) -> str:
        """The inventory's identity that a subject is: by itself, by its entries, or by its name; empty for none."""
        if is_id("id", subject):
            return subject
        trust = self._control.trust
        if self._named[0] != trust.version:
            self._named = (trust.version, _identities(trust.entries()))
        known = self._named[1].get(subject)
        if known is not None:
            return known
        facts = self._control.feed.cell.current().identity(subject)
        return facts.id if facts is not None else ""

    async def attestation(self, grant_id: str) -> dict[str, Json]:
        """What was proven of the subject when the grant of a token was made; nothing for one that is not known."""
        found = await self._find(grant_id)
        if found is None:
            return {"attested": False}
        facts: dict[str, Json] = {"attested": found.attested, "attestation_method": found.method}
        return {**facts, "attested_at": int(found.attested_at.timestamp())} if found.attested_at is not None else facts

    async def _find(self, grant_id: str) -> TokenGrant | None:
        grant = self._by_id.get(grant_id)
        if grant is None and is_id("gr", grant_id):
            grant = await self._store.read(lambda unit: unit.tokens.grant(grant_id))
            if grant is None or not self._control.witness.verify(SIGNED_AS, grant.as_json(), grant.signature):
                return None
            _put(self._by_id, grant_id, grant)
        return grant

    def _anchored(self, name: str, now: datetime) -> bool:
        anchor = self._control.feed.cell.current().grants.get(name)
        return anchor is not None and anchor.usable and now < anchor.expires

    def _in_service(self, subject: str) -> bool:
        snapshot = self._control.feed.cell.current()
        facts = snapshot.identity(self.identity_of(subject) or subject)
        return facts is not None and facts.state in LIVE and facts.id not in snapshot.quarantined


class TokenRevocations:
    """Implements `tokens.ports.Revocations` by the revocations of the installation."""

    def __init__(self, control: ControlPlane) -> None:
        self._control = control

    def is_revoked(self, **known: Any) -> bool:
        return self._control.revocations.is_revoked(**known)

    def is_blocked(self, **known: str) -> bool:
        return self._control.revocations.is_blocked(**known)

    async def revoke_token(self, token_id: str, *, actor: str) -> None:
        await self._control.revocations.revoke_token(token_id, actor=actor)


class DeskProofs:
    """Implements `tokens.ports.PlatformProofs` by the proof desk: the attestor that believes the token's issuer."""

    def __init__(self, control: ControlPlane) -> None:
        self._desk: ProofDesk = control.proofs
        self._trust = control.trust

    async def prove(self, token: str, audiences: frozenset[str], now: datetime) -> tuple[Evidence, tuple[Entry, ...]]:
        """Ask the attestor that the token looks like; whom it believes, and for which audience, is its own affair."""
        claims = jose.read(token, _LOOSE).claims
        name = next((each for each, mark in _MARKS if mark in claims and each in self._desk.attestors), "oidc")
        # A bucket for each bearer: one that floods the desk does not shut the others out.
        source = "tokens:" + digest({"iss": str(claims.get("iss")), "sub": str(claims.get("sub"))})[7:23]
        shown = await self._desk.present([Proof(attestor=name, payload={"token": token})], source=source)
        assert not isinstance(shown, Question), "a token is never a question"
        return shown, self._trust.match(shown)


_MARKS: Final = (("k8s_psat", "kubernetes.io"), ("github", "job_workflow_ref"), ("gitlab", "project_path"))
"""Claims by which each platform's tokens are known, before anything of them is believed."""
_LOOSE: Final = jose.Profile(
    headers=jose.HEADERS | {"x5t", "x5t#S256"}, algorithms=jose.ALGORITHMS | {"EdDSA"}, required=frozenset()
)


def served(clients: Sequence[Client], attester: Any) -> list[tuple[str, str]]:
    """The resources that registered clients serve, each with its sensitivity."""
    return [(name, one.sensitivity) for one in clients if is_genuine(one, attester) for name in one.resources]


def _identities(entries: Sequence[Entry]) -> dict[str, str]:
    """SPIFFE ID → identity, where its entries agree on one."""
    found: dict[str, set[str]] = {}
    for entry in entries:
        if entry.identity:
            found.setdefault(str(entry.spiffe_id), set()).add(entry.identity)
    return {spiffe_id: next(iter(ids)) for spiffe_id, ids in found.items() if len(ids) == 1}


def _attestation(ask: GrantAsk) -> dict[str, Json]:
    proof = ask.proof
    facts: dict[str, Json] = {"attested": proof.attested, "attestation_method": proof.method}
    if proof.attested_at is not None:
        facts["attested_at"] = int(proof.attested_at.timestamp())
    return facts


def _detail(each: Mapping[str, Json]) -> dict[str, Json]:
    def texts(*names: str) -> list[Json]:
        found = [each.get(name) for name in names]
        return [one for listed in found if isinstance(listed, list) for one in listed if isinstance(one, str)]

    return {
        "authorization_type": str(each["type"]),
        "authorization_actions": texts("actions", "privileges"),
        "authorization_locations": texts("locations"),
    }


def _key(ask: GrantAsk, proven: Mapping[str, Json]) -> tuple[object, ...]:
    """Names what is asked, but for the moment: the facts of the moment are judged each time."""
    details = digest([dict(each) for each in ask.details]) if ask.details else ""
    return (
        ask.subject,
        ask.actors,
        ask.resources,
        ask.resource_kind,
        ask.scopes,
        details,
        ask.named,
        ask.proof.client_id,
        ask.confirmation,
        ask.proof.method,
        proven["attestation_method"],
        proven["attested"],
    )


def _put(kept: OrderedDict[K, TokenGrant], key: K, grant: TokenGrant) -> None:
    kept[key] = grant
    kept.move_to_end(key)
    while len(kept) > MAX_KEPT:
        kept.popitem(last=False)


def _moment(seconds: Json) -> datetime | None:
    return jose.moment({"at": seconds}, "at") if isinstance(seconds, int) else None


def _denied(decision: Decision) -> Denied:
    why = "; ".join(one.text for one in decision.reasons)[:300]
    needed = "; ".join(decision.needed)[:300]
    return Denied(
        "trust.token.denied",
        f"no token: {why} (`{decision.id}`)",
        next_step=needed or f"`remit explain {decision.id}` says what would have allowed it",
    )
