"""Fakes that implement the token service's real ports, its contract for rows, and a service of its own on them."""

from __future__ import annotations

import asyncio
import copy
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar
from urllib.parse import urlencode

from cryptography.hazmat.primitives.asymmetric import ec

from remit.kernel.canonical import Json
from remit.kernel.clock import ManualClock
from remit.kernel.errors import Denied, RemitError
from remit.kernel.events import Event
from remit.kernel.ids import new_id
from remit.kernel.unit import Store
from remit.trust import jose
from remit.trust.model import Entry, Evidence, PresentedSvid, Selector
from remit.trust.service import TrustService
from remit.trust.spiffe import SpiffeId, TrustDomain
from remit.trust.testing import NOON, KeyedAttester, MemoryTrustRows, MemoryUnit, PlainSealer
from remit.trust.tokens.clients import request_client
from remit.trust.tokens.model import Answer, Client, GrantAsk, Places, Spend, TokenGrant
from remit.trust.tokens.ports import TokenRows, TokenUnit
from remit.trust.tokens.service import Presented, TokenService

T = TypeVar("T")
PLACES = Places(issuer="https://remit.test", base="http://127.0.0.1:8420", mtls="https://127.0.0.1:8421")
API, OTHER = "https://orders.test", "https://stock.test"
ALICE, BOB, CAROL = (f"spiffe://remit.test/{name}" for name in ("alice", "bob", "carol"))
IDENTITY = "id_01K00000000000000000000001"


@dataclass(slots=True)
class MemoryTokenRows:
    """The rows of tokens in dictionaries."""

    client_rows: dict[str, Client] = field(default_factory=dict)
    spent: dict[str, datetime] = field(default_factory=dict)
    grants: dict[str, TokenGrant] = field(default_factory=dict)

    def clients(self) -> Sequence[Client]:
        return [self.client_rows[one] for one in sorted(self.client_rows)]

    def put_client(self, client: Client) -> None:
        self.client_rows[client.id] = client

    def remove_client(self, client_id: str) -> bool:
        return self.client_rows.pop(client_id, None) is not None

    def spend(self, spend: Spend) -> bool:
        if spend.key in self.spent:
            return False
        self.spent[spend.key] = spend.until
        return True

    def add_grant(self, grant: TokenGrant) -> None:
        self.grants[grant.id] = grant

    def grant(self, grant_id: str) -> TokenGrant | None:
        return self.grants.get(grant_id)

    def forget(self, before: datetime, *, limit: int = 10_000) -> int:
        old = [key for key, until in self.spent.items() if until <= before][:limit]
        over = [one.id for one in self.grants.values() if one.expires <= before][: limit - len(old)]
        for key in old:
            del self.spent[key]
        for one in over:
            del self.grants[one]
        return len(old) + len(over)


class MemoryTokenUnit(MemoryUnit):
    """A unit of work with the rows of tokens."""

    def __init__(self, rows: MemoryTrustRows, tokens: MemoryTokenRows, now: datetime) -> None:
        super().__init__(rows, now)
        self.tokens: TokenRows = tokens


class MemoryTokenStore:
    """A store in memory: a unit that raises changes nothing. `fail` makes the next writes raise it."""

    def __init__(self, clock: ManualClock) -> None:
        self.trust, self.tokens = MemoryTrustRows(), MemoryTokenRows()
        self.events: list[Event] = []
        self.writes = 0
        self.fail: RemitError | None = None
        self._clock = clock

    async def write(self, work: Callable[[MemoryTokenUnit], T]) -> T:
        await asyncio.sleep(0)
        if self.fail is not None:
            raise self.fail
        trust, tokens = copy.deepcopy(self.trust), copy.deepcopy(self.tokens)
        unit = MemoryTokenUnit(trust, tokens, self._clock.now())
        answer = work(unit)
        self.trust, self.tokens = trust, tokens
        self.events += unit.events
        self.writes += 1
        return answer

    async def read(self, query: Callable[[MemoryTokenUnit], T]) -> T:
        await asyncio.sleep(0)
        return query(MemoryTokenUnit(copy.deepcopy(self.trust), copy.deepcopy(self.tokens), self._clock.now()))

    def told(self, type: str) -> list[Mapping[str, Json]]:
        """The data of what was recorded of one type, in order."""
        return [event.data for event in self.events if event.type == type]


@dataclass(slots=True)
class ListedGrants:
    """Gives each subject the scopes and types of details that `allowed` lists; what is `ended` stands no more."""

    allowed: dict[str, frozenset[str]] = field(default_factory=dict)
    types: frozenset[str] = frozenset()
    life: timedelta = timedelta(hours=1)
    asked: list[GrantAsk] = field(default_factory=list)
    ended: set[str] = field(default_factory=set)

    async def grant(self, ask: GrantAsk) -> TokenGrant:
        self.asked.append(ask)
        given = tuple(scope for scope in ask.scopes if scope in self.allowed.get(ask.subject, ()))
        details = tuple(each for each in ask.details if each["type"] in self.types)
        if not given and not details:
            raise Denied("trust.token.denied", f"nothing lets `{ask.subject}` have this")
        return TokenGrant(
            id=new_id("gr", ask.now),
            identity=IDENTITY,
            subject=ask.subject,
            actors=ask.actors,
            resources=ask.resources,
            scopes=given,
            details=details,
            anchor=ask.named,
            decisions=("dc_1",),
            method=ask.proof.method,
            attested=ask.proof.attested,
            attested_at=ask.proof.attested_at,
            created=ask.now,
            expires=ask.now + self.life,
        )

    async def stands(self, grant_id: str, subject: str, actors: Sequence[str]) -> bool:
        return grant_id not in self.ended


@dataclass(slots=True)
class ListedRevocations:
    """Knows what was put on its lists."""

    revoked: set[str] = field(default_factory=set)
    blocked: set[str] = field(default_factory=set)
    by: list[tuple[str, str]] = field(default_factory=list)

    def is_revoked(
        self,
        *,
        id: str = "",
        spiffe_id: str = "",
        identity: str = "",
        authority: str = "",
        grant: str = "",
        issued_at: datetime | None = None,
    ) -> bool:
        return bool(self.revoked & {id, spiffe_id, identity, authority, grant} - {""})

    def is_blocked(self, *, spiffe_id: str = "", identity: str = "", grant: str = "") -> bool:
        return bool(self.blocked & {spiffe_id, identity, grant} - {""})

    async def revoke_token(self, token_id: str, *, actor: str) -> None:
        self.revoked.add(token_id)
        self.by.append((token_id, actor))


@dataclass(slots=True)
class ListedProofs:
    """Believes platforms' tokens that it knows, each once."""

    known: dict[str, Entry] = field(default_factory=dict)

    async def prove(self, token: str, audiences: frozenset[str], now: datetime) -> tuple[Evidence, tuple[Entry, ...]]:
        entry = self.known.pop(token, None)
        evidence = Evidence(attestor="oidc", selectors=frozenset(), facts={"sub": "job"}, observed=now)
        return evidence, (entry,) if entry is not None else ()


@dataclass(slots=True)
class TokenHouse:
    """A token service on rows in memory, beside the trust service whose SVIDs it believes."""

    clock: ManualClock
    store: MemoryTokenStore
    trust: TrustService
    tokens: TokenService
    grants: ListedGrants
    revocations: ListedRevocations
    proofs: ListedProofs
    keys: dict[str, ec.EllipticCurvePrivateKey] = field(default_factory=dict)

    # Who asks.

    def certificate(self, spiffe_id: str, *, serial: int = 0) -> PresentedSvid:
        """A certificate of this workload that a listener verified: the same each time, or by its serial."""
        from remit.trust.validate import thumbprint

        number = serial or len(spiffe_id)
        keyring = self.trust.keeper.keyring
        now = self.clock.now()
        der = keyring.x509.sign(
            SpiffeId.parse(spiffe_id), ec.generate_private_key(ec.SECP256R1()).public_key(),
            serial=number, not_before=now, not_after=now + timedelta(hours=1),
        )  # fmt: skip
        return PresentedSvid(
            spiffe_id=SpiffeId.parse(spiffe_id), certificate=der, serial=number, thumbprint=thumbprint(der),
            issued=now, expires=now + timedelta(hours=1),
        )  # fmt: skip

    def jwt_svid(self, spiffe_id: str, audience: str | list[str] = PLACES.issuer, **changed: Any) -> str:
        """A JWT-SVID under the trust domain's key."""
        now = int(self.clock.now().timestamp())
        audiences = [audience] if isinstance(audience, str) else audience
        claims = {"sub": spiffe_id, "aud": audiences, "iat": now, "exp": now + 300, "jti": new_id("t", NOON), **changed}
        return self.trust.keeper.keyring.jwt.sign({name: v for name, v in claims.items() if v is not None})

    def assertion(self, client: Client, *, headers: Mapping[str, Json] | None = None, **changed: Any) -> str:
        """A client assertion under the client's key (RFC 7523)."""
        now = int(self.clock.now().timestamp())
        claims = {
            "iss": client.id, "sub": client.id, "aud": PLACES.issuer, "iat": now, "exp": now + 60,
            "jti": new_id("t", NOON), **changed,
        }  # fmt: skip
        kept = {name: value for name, value in claims.items() if value is not None}
        return jose.sign(
            kept, self.keys[client.id], {"kid": str(client.keys[0]["kid"]), "typ": "JWT", **(headers or {})}
        )

    async def keyed_client(self, name: str = "keyed", **settings: Any) -> Client:
        """A client with a key of its own, which may have the scope `read`."""
        key = ec.generate_private_key(ec.SECP256R1())
        request = request_client(name=name, identity=IDENTITY, keys=[jose.jwk_of(key.public_key())], **settings)
        client = await self.tokens.register_client(request, actor="person:ann")
        self.keys[client.id] = key
        self.grants.allowed[client.subject] = frozenset({"read"})
        return client

    async def server(self, spiffe_id: str = BOB, resource: str = API, **settings: Any) -> Client:
        """A registered workload that serves a resource."""
        request = request_client(
            name=spiffe_id.rpartition("/")[2], identity=IDENTITY, spiffe_id=spiffe_id, resources=[resource], **settings
        )
        return await self.tokens.register_client(request, actor="person:ann")

    # What they ask.

    async def ask(
        self, *, svid: PresentedSvid | None = None, dpop: Sequence[str] = (), **form: str | Sequence[str]
    ) -> Answer:
        """A token request; client credentials for `API` with the scope `read` unless said otherwise."""
        asked = {"grant_type": "client_credentials", "scope": "read", "resource": API, **form}
        return await self.tokens.token(Presented(raw=_encoded(asked), svid=svid, dpop=tuple(dpop)), PLACES)

    async def exchange(
        self,
        token: str,
        *,
        svid: PresentedSvid | None = None,
        kind: str = "access_token",
        dpop: Sequence[str] = (),
        **form: str | Sequence[str],
    ) -> Answer:
        """A token exchange; `kind` is the last part of the subject token's type."""
        asked = {
            "grant_type": "urn:ietf:params:oauth:grant-type:token-exchange",
            "subject_token": token,
            "subject_token_type": f"urn:ietf:params:oauth:token-type:{kind}",
            **form,
        }
        return await self.tokens.token(Presented(raw=_encoded(asked), svid=svid, dpop=tuple(dpop)), PLACES)

    async def look(self, token: str, *, svid: PresentedSvid | None = None, **how: Any) -> dict[str, Json]:
        """Introspect."""
        return await self.tokens.introspect(Presented(raw=_encoded({"token": token}), svid=svid, **how), PLACES)

    def dpop(
        self,
        key: ec.EllipticCurvePrivateKey,
        *,
        headers: Mapping[str, Json] | None = None,
        url: str = f"{PLACES.issuer}/oauth2/token",
        **changed: Any,
    ) -> str:
        """A DPoP proof for the token endpoint."""
        claims = {
            "jti": new_id("t", NOON), "htm": "POST", "htu": url, "iat": int(self.clock.now().timestamp()),
            "nonce": self.tokens.nonce(), **changed,
        }  # fmt: skip
        kept = {name: value for name, value in claims.items() if value is not None}
        return jose.sign(kept, key, {"typ": "dpop+jwt", "jwk": jose.jwk_of(key.public_key()), **(headers or {})})

    def claims(self, answer: Answer) -> Mapping[str, Json]:
        """What an issued token says, verified under the published keys."""
        profile = jose.Profile(types=frozenset({"at+jwt", "txntoken+jwt"}), required=frozenset({"exp", "iat", "jti"}))
        keys = {str(each["kid"]): jose.key_of_jwk(each) for each in _listed(self.tokens.keys.jwks())}
        found = jose.verify(answer.token, keys, profile, now=self.clock.now(), issuer=PLACES.issuer, audience=None)
        return found.claims


@asynccontextmanager
async def token_house() -> AsyncIterator[TokenHouse]:
    """A house in which alice, bob and carol may read and write, and alice may pay."""
    clock = ManualClock(NOON)
    store: Any = MemoryTokenStore(clock)
    attester, domain = KeyedAttester(), TrustDomain("remit.test")
    trust = TrustService(store, sealer=PlainSealer(), attester=attester, clock=clock, trust_domain=domain)
    grants = ListedGrants({who: frozenset({"read", "write"}) for who in (ALICE, BOB, CAROL)}, frozenset({"payment"}))
    revocations, proofs = ListedRevocations(), ListedProofs()
    tokens = TokenService(
        store, attester=attester, clock=clock, trust_domain=domain, keyring=lambda: trust.keeper.keyring, svids=trust,
        grants=grants, revocations=revocations, proofs=proofs, nonce_key=b"nonce",
    )  # fmt: skip
    await trust.open()
    await tokens.open()
    yield TokenHouse(clock, store, trust, tokens, grants, revocations, proofs)
    await tokens.close()
    await trust.close()


def example_client(number: int = 1) -> Client:
    """A well-formed client, not signed; `number` makes id and name its own."""
    key = ec.derive_private_key(number, ec.SECP256R1()).public_key()
    return Client(
        id=f"cl_01K0000000000000000000{number:04d}",
        name=f"client {number}",
        identity=IDENTITY,
        keys=({**jose.jwk_of(key), "kid": f"k{number}"},),
        resources=(f"https://{number}.test",),
        sensitivity="internal",
        may_act=BOB,
        created=NOON,
        created_by="person:ann",
        signature="signed",
    )


def example_grant(number: int = 1, *, expires: datetime = NOON + timedelta(minutes=15)) -> TokenGrant:
    """A well-formed grant, not signed."""
    return TokenGrant(
        id=f"gr_01K0000000000000000000{number:04d}",
        identity=IDENTITY,
        subject=ALICE,
        actors=(BOB,),
        resources=(API,),
        scopes=("read",),
        details=({"type": "payment", "actions": ["pay"], "amount": 7},),
        decisions=("dc_1", "dc_2"),
        method="x509-svid",
        attested=True,
        attested_at=NOON,
        created=NOON,
        expires=expires,
        signature="signed",
    )


class TokenRowsContract(ABC):
    """What every implementation of `TokenRows` keeps, through the store that carries it."""

    @abstractmethod
    def store(self) -> AbstractAsyncContextManager[Store[TokenUnit]]:
        """An empty store, open for as long as the block lasts."""

    def run(self, *steps: Callable[[TokenRows], Any]) -> list[Any]:
        """Run each step in a unit of work of its own."""

        async def all_steps() -> list[Any]:
            async with self.store() as store:
                return [await store.write(lambda unit, step=step: step(unit.tokens)) for step in steps]  # type: ignore[misc]

        return asyncio.run(all_steps())

    def test_a_client_comes_back_as_it_was(self) -> None:
        client = example_client()
        *_, found = self.run(lambda rows: rows.put_client(client), lambda rows: rows.clients())
        assert list(found) == [client]

    def test_clients_come_by_id_and_go_one_by_one(self) -> None:
        first, second = example_client(1), example_client(2)
        *_, found, gone, again, left = self.run(
            lambda rows: rows.put_client(second),
            lambda rows: rows.put_client(first),
            lambda rows: rows.clients(),
            lambda rows: rows.remove_client(first.id),
            lambda rows: rows.remove_client(first.id),
            lambda rows: rows.clients(),
        )
        assert (list(found), gone, again, list(left)) == ([first, second], True, False, [second])

    def test_a_proof_is_spent_once(self) -> None:
        spend, other = Spend(key="a" * 64, until=NOON), Spend(key="b" * 64, until=NOON)
        answers = self.run(*(lambda rows, one=one: rows.spend(one) for one in (spend, other, spend)))
        assert answers == [True, True, False]

    def test_a_grant_comes_back_as_it_was(self) -> None:
        grant = example_grant()
        _, found, unknown = self.run(
            lambda rows: rows.add_grant(grant), lambda rows: rows.grant(grant.id), lambda rows: rows.grant("gr_x")
        )
        assert (found, unknown) == (grant, None)

    def test_what_has_ended_is_forgotten_and_nothing_else(self) -> None:
        later = NOON + timedelta(hours=1)
        old, new = example_grant(1, expires=NOON), replace(example_grant(2, expires=later), attested_at=None)
        spent, fresh = Spend(key="a" * 64, until=NOON), Spend(key="b" * 64, until=later)
        *_, gone, first, second, again, still = self.run(
            *(lambda rows, one=one: rows.add_grant(one) for one in (old, new)),
            *(lambda rows, one=one: rows.spend(one) for one in (spent, fresh)),
            lambda rows: rows.forget(NOON.astimezone(UTC)),
            lambda rows: rows.grant(old.id),
            lambda rows: rows.grant(new.id),
            lambda rows: rows.spend(spent),
            lambda rows: rows.spend(fresh),
        )
        assert (gone, first, second, again, still) == (2, None, new, True, False)


def example_entry_of(spiffe_id: str) -> Entry:
    """An entry that names this SPIFFE ID."""
    return Entry(
        id="en_01K00000000000000000000001",
        spiffe_id=SpiffeId.parse(spiffe_id),
        selectors=frozenset({Selector.parse("oidc:sub:job")}),
        x509_ttl=timedelta(hours=1),
        jwt_ttl=timedelta(minutes=5),
        created=NOON,
    )


def _encoded(form: Mapping[str, str | Sequence[str]]) -> bytes:
    return urlencode({name: value for name, value in form.items() if value}, doseq=True).encode()


def _listed(jwks: Mapping[str, Json]) -> list[dict[str, Json]]:
    found = jwks["keys"]
    assert isinstance(found, list)
    return [dict(each) for each in found if isinstance(each, Mapping)]
