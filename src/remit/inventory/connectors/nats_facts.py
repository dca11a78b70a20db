"""What NATS' claims say, as facts: pure.

A user is named by its account and public key, as the secret scan names a JWT; its other name is the key alone, by
which a seed that lies somewhere is the same identity. Who has the seed of an account, or of one of its signing keys,
makes any user of it; who has the operator's makes any account.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final, TypeAlias, assert_never

from remit.inventory.connectors.endpoint import shown
from remit.inventory.connectors.files.keys import sha256
from remit.inventory.connectors.port import Scan
from remit.inventory.model import (
    CredentialFact,
    CredentialKind,
    EdgeFact,
    Fact,
    FindingFact,
    IdentityFact,
    IdentityKind,
    Place,
    Relation,
    ResourceFact,
    Severity,
)
from remit.inventory.use.live import live_list
from remit.inventory.use.model import Session, Use
from remit.kernel.errors import Rejected
from remit.kernel.ids import Name, name
from remit.providers.nats.nkeys import is_public
from remit.providers.nats.store import Claims, Present

_MOST_KEYS: Final = 50
_MOST_SUBJECTS: Final = 50
_EVERYTHING: Final = (">", "*.>")


@dataclass(frozen=True, slots=True, kw_only=True)
class Operator:
    """An operator's own claims."""

    claims: Mapping[str, Any]
    path: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    """An account that the operator signed."""

    claims: Mapping[str, Any]
    path: str


@dataclass(frozen=True, slots=True, kw_only=True)
class User:
    """A user whom `account` signed, and where it is connected."""

    account: str
    claims: Mapping[str, Any]
    path: str
    live: tuple[Present, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Live:
    """Everybody who is connected."""

    sessions: tuple[Present, ...]
    life: str
    """Names the server's life: connections are counted anew in each."""


Raw: TypeAlias = Operator | Account | User | Live


@dataclass(frozen=True, slots=True, kw_only=True)
class Chain:
    """Who signs for whom, from the operator down; what is outside of it counts for nothing."""

    operator: str
    operators: tuple[Claims, ...]
    accounts: Mapping[str, Claims]
    signers: Mapping[str, str]
    """Account by each key that signs users of it."""
    scopes: Mapping[str, Mapping[str, Any]]
    """By signing key: the template of the rights of all whom it signs."""
    system: str
    """The system account, where the operator names it."""
    strange: tuple[str, ...] = field(default=())
    """Paths of accounts that another operator signed."""

    @classmethod
    def of(cls, operators: Sequence[Claims], accounts: Sequence[Claims], *, given: str = "") -> Chain:
        """Raises `Rejected` (`inventory.nats.operator`) where nothing says whose directory it is."""
        own = [each for each in operators if not given or each.claims.get("sub") == given]
        issuers = Counter(str(each.claims.get("iss")) for each in accounts)
        if given and not is_public(given, "O"):
            raise _unknown("the key given as `operator` is none")
        if not given and len({each.claims.get("sub") for each in own}) > 1:
            raise _unknown("the directory has several operators")
        head = own[0].claims if own else {}
        keys = {given, str(head.get("sub") or ""), *_keys(_nats(head).get("signing_keys"))} - {""}
        if not keys:
            if len(issuers) != 1:
                raise _unknown("no JWT of an operator is there, and not one key alone signed the accounts")
            keys = set(issuers)
        known = {id(each) for each in accounts if each.claims.get("iss") in keys and is_public(_sub(each), "A")}
        mine = [each for each in accounts if id(each) in known]
        newest = {_sub(each): each for each in sorted(mine, key=lambda each: _number(each.claims.get("iat")))}
        signers: dict[str, str] = {}
        scopes: dict[str, Mapping[str, Any]] = {}
        for public, account in newest.items():
            signers[public] = public
            for entry in _listed(_nats(account.claims).get("signing_keys")):
                key = entry.get("key") if isinstance(entry, dict) else entry
                if isinstance(key, str) and is_public(key, "A"):
                    signers.setdefault(key, public)
                    if isinstance(entry, dict) and isinstance(entry.get("template"), dict):
                        scopes[key] = entry["template"]
        return cls(
            operator=given or str(head.get("sub") or "") or min(keys),
            operators=tuple(own[:1]),
            accounts=newest,
            signers=signers,
            scopes=scopes,
            system=str(_nats(head).get("system_account") or ""),
            strange=tuple(each.path for each in accounts if id(each) not in known),
        )

    def account_of(self, claims: Mapping[str, Any]) -> str | None:
        """The account of a user, if one of its keys signed it."""
        found = self.signers.get(str(claims.get("iss")))
        said = _nats(claims).get("issuer_account")
        fits = is_public(str(claims.get("sub")), "U") and (not said or said == found)
        return found if fits else None


class Translation:
    """One run's records as facts."""

    def __init__(self, chain: Chain, scan: Scan) -> None:
        self._chain = chain
        self._now = scan.now

    def facts(self, raw: Raw) -> Iterator[Fact]:
        match raw:
            case Operator():
                yield from self._operator(raw)
            case Account():
                yield from self._account(raw)
            case User():
                yield from self._user(raw)
            case Live():
                yield from self._live(raw)
            case _:
                assert_never(raw)

    def _operator(self, raw: Operator) -> Iterator[Fact]:
        place = self._place(raw.path)
        title = shown(raw.claims.get("name") or "operator")
        yield ResourceFact(name=self._server(), kind="nats-operator", title=title, place=place)
        keys = [self._chain.operator, *_keys(_nats(raw.claims).get("signing_keys"))]
        for key in keys[:_MOST_KEYS]:
            if is_public(key, "O"):
                role = "operator" if key == self._chain.operator else "signing key of operator"
                yield from self._key("operator", key, f"{role} {title}", raw.claims, place)
                yield self._reach(
                    _nkey("operator", key), self._server(), "signs its accounts", ("SIGN ACCOUNTS",), place
                )

    def _account(self, raw: Account) -> Iterator[Fact]:
        public, nats, place = str(raw.claims["sub"]), _nats(raw.claims), self._place(raw.path)
        title = shown(raw.claims.get("name") or public[:12])
        resource = _account_name(public)
        yield ResourceFact(
            name=resource, kind="nats-account", title=title, place=place,
            attributes={"system": public == self._chain.system, "signing_keys": len(_listed(nats.get("signing_keys")))},
        )  # fmt: skip
        yield self._reach(self._server(), resource, "signed by the operator", ("SIGN",), place)
        others = _keys(nats.get("signing_keys"))
        for key in [public, *others][:_MOST_KEYS]:
            if is_public(key, "A"):
                role = "account" if key == public else "signing key of account"
                yield from self._key("account", key, f"{role} {title}", raw.claims, place)
                yield self._reach(_nkey("account", key), resource, "signs its users", ("SIGN USERS",), place)
        if not others:
            yield FindingFact(
                rule="nats.account-without-signing-key",
                severity=Severity.LOW,
                title=f"account {title} signs its users with its own key",
                detail="the key that cannot be replaced without replacing the account is used every day",
                next_step="add one with `nsc edit account --sk generate`, and put the account's seed away",
                place=place,
                subject=resource,
            )

    def _key(self, kind: str, key: str, title: str, claims: Mapping[str, Any], place: Place) -> Iterator[Fact]:
        who = _nkey(kind, key)
        yield IdentityFact(
            name=who, kind=IdentityKind.SERVICE_ACCOUNT, title=title[:200], place=place,
            attributes={"privileged": True, "public_key": key},
        )  # fmt: skip
        yield self._credential(key, who, title, claims, place)

    def _user(self, raw: User) -> Iterator[Fact]:
        public, place = str(raw.claims["sub"]), self._place(raw.path)
        nats = {**_nats(raw.claims), **self._chain.scopes.get(str(raw.claims.get("iss")), {})}
        who = name("nats", raw.account, "user", public)
        title = shown(raw.claims.get("name") or public[:12])
        revoked, system = self._revoked(raw), raw.account == self._chain.system
        publish, hear = self._rights(raw.account, nats, "pub"), self._rights(raw.account, nats, "sub")
        account = shown(self._chain.accounts[raw.account].claims.get("name") or raw.account[:12])
        seen = max((each.since for each in raw.live if each.since), default=None)
        yield IdentityFact(
            name=who, kind=IdentityKind.SERVICE_ACCOUNT, title=f"{title} of {account}"[:200], place=place,
            aliases=(_nkey("user", public),),
            attributes={
                "public_key": public, "account": account, "bearer": nats.get("bearer_token") is True,
                "revoked": revoked, "can_login": not revoked and not self._ended(raw.claims),
                "privileged": True if system else None, "last_used": seen.isoformat() if seen else None,
                "consumers": ", ".join(sorted({shown(_consumer(each), 80) for each in raw.live})[:10]) or None,
            },
        )  # fmt: skip
        yield self._credential(public, who, f"key of user {title}", raw.claims, place)
        if not revoked:
            actions = tuple(
                f"{verb} {each}" for verb, (allowed, _) in (("PUB", publish), ("SUB", hear)) for each in allowed
            )
            denied = tuple(
                f"{verb} {each}" for verb, (_, no) in (("not PUB", publish), ("not SUB", hear)) for each in no
            )
            yield self._reach(
                who, _account_name(raw.account), f"rights of {title}", actions[:_MOST_SUBJECTS], place,
                conditions=(*denied, *_limits(nats))[:_MOST_SUBJECTS],
                cut=f"nsc revocations add-user --account '{account}' --user-public-key {public} && nsc push",
            )  # fmt: skip
            yield from self._findings(raw, who, title, nats, publish[0], hear[0], place)

    def _findings(
        self, raw: User, who: Name, title: str, nats: Mapping[str, Any], publish: Sequence[str], hear: Sequence[str],
        place: Place,
    ) -> Iterator[FindingFact]:  # fmt: skip
        if not raw.claims.get("exp"):
            yield FindingFact(
                rule="nats.user-never-expires", severity=Severity.MEDIUM, title=f"user {title} never expires",
                detail="its JWT has no `exp`: who gets its seed has it until somebody revokes it",
                place=place, subject=who,
                next_step="give it an end with `nsc edit user --expiry 30d`, or leases by `remit target add nats`",
            )  # fmt: skip
        if nats.get("bearer_token") is True:
            yield FindingFact(
                rule="nats.bearer-user", severity=Severity.HIGH, title=f"the JWT of user {title} opens by itself",
                detail="a bearer token is not bound to a seed: whoever sees it once is the user",
                place=place, subject=who,
                next_step="use `nsc edit user --bearer=false` where the client can sign the server's challenge",
            )  # fmt: skip
        if any(each in _EVERYTHING for each in publish) and any(each in _EVERYTHING for each in hear):
            system = raw.account == self._chain.system
            every = "in the system account it commands every server"
            yield FindingFact(
                rule="nats.user-unrestricted", severity=Severity.HIGH if system else Severity.MEDIUM,
                title=f"user {title} publishes and hears everything",
                detail=every if system else "no subject of the account is kept from it", place=place, subject=who,
                next_step="name its subjects with `nsc edit user --allow-pub … --allow-sub …`",
            )  # fmt: skip

    def _rights(self, account: str, nats: Mapping[str, Any], verb: str) -> tuple[list[str], list[str]]:
        """What is allowed and what is denied; nothing said means the account's default, and then everything."""
        default = _nats(self._chain.accounts[account].claims).get("default_permissions")
        own = _mapping(nats.get(verb))
        if not own and not _mapping(nats.get("pub")) and not _mapping(nats.get("sub")):
            own = _mapping(_mapping(default).get(verb))
        allowed = [shown(each, 120) for each in _listed(own.get("allow"))[:_MOST_SUBJECTS]]
        denied = [shown(each, 120) for each in _listed(own.get("deny"))[:_MOST_SUBJECTS]]
        return allowed or [">"], denied

    def _revoked(self, raw: User) -> bool:
        """Whether the account takes back what was issued to the key until then, or to all."""
        said = _mapping(_nats(self._chain.accounts[raw.account].claims).get("revocations"))
        until = max(_number(said.get(str(raw.claims.get("sub")))), _number(said.get("*")))
        return until > 0 and _number(raw.claims.get("iat")) <= until

    def _ended(self, claims: Mapping[str, Any]) -> bool:
        ends = _moment(claims.get("exp"))
        return ends is not None and ends < self._now

    def _live(self, raw: Live) -> Iterator[Fact]:
        sessions = [
            Session(
                use=Use(
                    name=_nkey("user", each.user), moment=each.since or self._now, address=shown(each.address, 80),
                    program=shown(each.name or each.program, 80),
                ),
                number=each.number,
            )
            for each in raw.sessions
        ]  # fmt: skip
        yield from live_list("nats", self._chain.operator, sessions, self._now, life=raw.life)

    def _credential(self, key: str, who: Name, title: str, claims: Mapping[str, Any], place: Place) -> CredentialFact:
        mine = claims.get("sub") == key
        return CredentialFact(
            fingerprint=sha256(key.encode()),
            kind=CredentialKind.PRIVATE_KEY,
            title=title[:200],
            place=place,
            identity=who,
            issued=_moment(claims.get("iat")) if mine else None,
            expires=_moment(claims.get("exp")) if mine else None,
            attributes={"public_key": key},
        )

    def _reach(
        self, source: Name, target: Name, evidence: str, actions: tuple[str, ...], place: Place, *,
        conditions: tuple[str, ...] = (), cut: str = "",
    ) -> EdgeFact:  # fmt: skip
        return EdgeFact(
            source=source, relation=Relation.CAN_REACH, target=target, evidence=evidence, place=place, actions=actions,
            conditions=conditions, cut=cut or "issue a new JWT without that key, and push it to the servers",
        )  # fmt: skip

    def _server(self) -> Name:
        return name("nats", self._chain.operator, "operator", self._chain.operator)

    def _place(self, path: str) -> Place:
        return Place(system=f"nats:{self._chain.operator[:16]}", path=shown(path, 400))


def _nkey(kind: str, public: str) -> Name:
    """As the secret scan calls the seed of that key."""
    return name("nats", "nkey", kind, public)


def _account_name(public: str) -> Name:
    return name("nats", public, "account", public)


def _consumer(each: Present) -> str:
    return f"{each.name or each.program} @ {each.address}"


def _limits(nats: Mapping[str, Any]) -> tuple[str, ...]:
    """From where and when alone it may come."""
    said = [f"from {shown(each, 60)}" for each in _listed(nats.get("src"))[:10]]
    said += [
        f"from {shown(each.get('start'), 20)} to {shown(each.get('end'), 20)}"
        for each in _listed(nats.get("times"))[:10]
        if isinstance(each, dict)
    ]
    kinds = [shown(each, 20) for each in _listed(nats.get("allowed_connection_types"))[:10]]
    return (*said, *([f"by {', '.join(kinds)}"] if kinds else []))


def _keys(said: object) -> list[str]:
    """Signing keys, scoped ones too."""
    found = [each.get("key") if isinstance(each, dict) else each for each in _listed(said)]
    return [each for each in found if isinstance(each, str)]


def _nats(claims: Mapping[str, Any]) -> Mapping[str, Any]:
    return _mapping(claims.get("nats"))


def _sub(each: Claims) -> str:
    return str(each.claims.get("sub"))


def _mapping(said: object) -> Mapping[str, Any]:
    return said if isinstance(said, dict) else {}


def _listed(said: object) -> list[Any]:
    return said if isinstance(said, list) else []


def _number(said: object) -> int:
    return said if isinstance(said, int) and not isinstance(said, bool) else 0


def _moment(said: object) -> datetime | None:
    seconds = _number(said)
    return datetime.fromtimestamp(seconds, UTC) if 0 < seconds < 253_402_300_000 else None


def _unknown(why: str) -> Rejected:
    return Rejected(
        "inventory.nats.operator",
        f"nobody knows whose directory it is: {why}",
        next_step="name the operator's public key with `--set operator=O…`",
    )
