"""Platform tokens: what an issuer that the operator named says of a workload, and which of it becomes a selector.

Issuer, audience and keys come from the settings; a token chooses among configured issuers, and adds none. A claim that
is not listed is never more than a claim.

Spec: OpenID Connect Core 1.0 §3.1.3.7; RFC 8725 §3; RFC 6901 (names of claims inside claims).
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final, Protocol

from remit.kernel.canonical import Json
from remit.kernel.errors import Rejected
from remit.trust import jose
from remit.trust.model import Evidence, Selector
from remit.trust.ports import Challenge

MAX_VALUES: Final = 64
"""Selectors made of one claim that is a list."""
MAX_LIFETIME: Final = timedelta(hours=24)
SHARED_HEADERS: Final = frozenset({"alg", "kid", "typ", "x5t", "x5t#S256"})
"""Platforms add the thumbprint of a certificate; it is not looked at."""
PLAIN: Final = r"[^\x00-\x1f\x7f]{1,1024}"


@dataclass(frozen=True, slots=True, kw_only=True)
class PlatformToken:
    """A token that its issuer's key, or its issuer itself, vouched for, whose claims were checked."""

    key: str
    """The name of the key."""
    claims: Mapping[str, Json]
    digest: str

    @classmethod
    def vouched(cls, token: jose.Unverified) -> PlatformToken:
        """The caller MUST have had it verified by its issuer, and checked its claims."""
        return cls(key=token.kid, claims=token.claims, digest=token.digest)


class KeySource(Protocol):
    """Where the keys of one issuer are: `remit.providers` fetches them, trust opens no connection."""

    async def find(self, kid: str) -> Mapping[str, Json] | None:
        """The JWK that the issuer publishes as `kid` now, or `None`. `Unavailable` when nobody can say."""
        ...


def token_profile(
    *, max_lifetime: timedelta = MAX_LIFETIME, algorithms: frozenset[str] = jose.ALGORITHMS
) -> jose.Profile:
    """What a platform's token must be: signed, for one audience, with a beginning and an end that are near."""
    return jose.Profile(
        headers=SHARED_HEADERS,
        algorithms=algorithms,
        types=frozenset({"jwt", ""}),
        required=frozenset({"iss", "sub", "aud", "exp", "iat"}),
        max_lifetime=max_lifetime,
        single_audience=True,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Issuer:
    """One issuer, as the operator configured it."""

    url: str
    """Exactly the claim `iss`."""
    audiences: tuple[str, ...]
    """A token must be for one of these, and for nobody else."""
    keys: KeySource
    required: Mapping[str, frozenset[str]] = field(default_factory=dict)
    """Claims (as in `ClaimKey.claim`) that must have one of these values."""
    profile: jose.Profile = field(default_factory=token_profile)


@dataclass(frozen=True, slots=True)
class ClaimKey:
    """A selector key: the claim that it takes, and what its values look like."""

    claim: str
    """A name, or a JSON pointer (`/kubernetes.io/pod/name`)."""
    says: str
    pattern: str = PLAIN


class ClaimKeys:
    """The selector keys of one attestor, each with its claim."""

    def __init__(self, attestor: str, keys: Mapping[str, ClaimKey]) -> None:
        self.attestor = attestor
        self.keys: Mapping[str, str] = {name: key.says for name, key in keys.items()}
        self._claims = keys
        self._patterns = {name: re.compile(key.pattern) for name, key in keys.items()}

    def check(self, selector: Selector) -> None:
        """Refuse a selector that no token could give: `Rejected` (`trust.selector.unknown`, `.malformed`)."""
        pattern = self._patterns.get(selector.key) if selector.attestor == self.attestor else None
        if pattern is None:
            raise Rejected(
                "trust.selector.unknown",
                f"`{str(selector)[:200]}` has no key of the attestor `{self.attestor}`",
                next_step=f"use one of: {', '.join(self.keys)}",
            )
        if pattern.fullmatch(selector.value) is None:
            raise Rejected(
                "trust.selector.malformed",
                f"`{str(selector)[:200]}` could never match",
                next_step=f"`{self.attestor}:{selector.key}` takes {self.keys[selector.key]}",
            )

    def selectors(self, claims: Mapping[str, Json]) -> tuple[frozenset[Selector], tuple[str, ...]]:
        """The selectors that verified claims give, and which claims are there and give none."""
        found: set[Selector] = set()
        unseen: list[str] = []
        for name, key in self._claims.items():
            values = values_of(claims, key.claim)
            fit = [value for value in values[:MAX_VALUES] if self._patterns[name].fullmatch(value)]
            found.update(Selector(self.attestor, name, value) for value in fit)
            if len(fit) < len(values):
                unseen.append(f"{name}: {len(values) - len(fit)} values of another form, or too many")
        return frozenset(found), tuple(unseen)


async def verify_platform_token(token: jose.Unverified, issuer: Issuer, now: datetime) -> PlatformToken:
    """Verify a token of this issuer: key, signature, issuer, audience, times, required claims.

    Raises `Rejected` (`trust.proof.…`) or whatever the key source raises (`Unavailable`).
    """
    if token.claims.get("iss") != issuer.url:
        raise _issuer()
    jwk = await issuer.keys.find(token.kid) if token.kid else None
    try:
        if jwk is None or not _is_for(jwk, token.algorithm):
            raise Rejected("trust.jose.unknown_key", "the token names no key that its issuer publishes for it")
        key = jose.key_of_jwk(jwk)
        jose.verify(token, key, issuer.profile, now=now, issuer=issuer.url, audience=issuer.audiences)
    except Rejected as why:
        raise refused(why) from None
    for claim, allowed in issuer.required.items():
        if not set(values_of(token.claims, claim)) & allowed:
            raise Rejected(
                "trust.proof.claim",
                f"the token's claim `{claim[:80]}` is not what the settings require",
                next_step="present a token of a workload that is meant here",
            )
    return PlatformToken.vouched(token)


def read_platform_token(text: str, shape: jose.Profile) -> jose.Unverified:
    """Read a token before anything is known of it: only its `iss` may be used, to choose a configured issuer."""
    try:
        return jose.read(text, shape)
    except Rejected as why:
        raise refused(why) from None


def evidence_of(
    keys: ClaimKeys,
    token: PlatformToken,
    now: datetime,
    *,
    more: Mapping[str, str] | None = None,
    claims: Mapping[str, Json] | None = None,
    single_use: bool = True,
) -> Evidence:
    """What a verified token says, as evidence: `more` are selectors of the settings, such as the cluster's name."""
    selectors, unseen = keys.selectors(claims if claims is not None else token.claims)
    selectors |= {Selector(keys.attestor, key, value) for key, value in (more or {}).items()}
    expires = math.ceil(jose.seconds(token.claims, "exp"))
    facts: dict[str, Json] = {
        "issuer": str(token.claims["iss"])[:1024],
        "subject": str(token.claims["sub"])[:1024],
        "key": token.key[:256],
        "token_expires": expires,
    }
    if single_use:
        facts |= {"proof": token.digest, "proof_expires": expires}
    return Evidence(attestor=keys.attestor, selectors=selectors, facts=facts, unseen=unseen, observed=now)


class PlatformAttestor:
    """A proof attestor that takes `{"token": …}` of one issuer. Derive from it: an id, and the claims that it maps."""

    id = ""
    claims: Mapping[str, ClaimKey] = {}

    def __init__(self, issuer: Issuer) -> None:
        self._issuer = issuer
        self._keys = ClaimKeys(self.id, self.claims)

    @property
    def keys(self) -> Mapping[str, str]:
        """The selector keys that it knows, each with one sentence on its value."""
        return self._keys.keys

    def check(self, selector: Selector) -> None:
        """Refuse a selector that it could never produce: `Rejected` (`trust.selector.unknown`, `.malformed`)."""
        self._keys.check(selector)

    async def begin(self, payload: Mapping[str, Json], now: datetime) -> Evidence:
        """Verify the token. `Rejected` (`trust.proof.…`), `Unavailable` when the issuer's keys cannot be had."""
        token = read_platform_token(text_of(payload, "token"), self._issuer.profile)
        return evidence_of(self._keys, await verify_platform_token(token, self._issuer, now), now)

    async def finish(self, challenge: Challenge, answer: Mapping[str, Json], now: datetime) -> Evidence:
        """Never called: a token is the whole proof."""
        raise AssertionError("a platform's token is never a question")


def text_of(payload: Mapping[str, Json], name: str, *, optional: Sequence[str] = ()) -> str:
    """The text `name` of a payload that holds nothing but `optional` texts besides.

    Raises `Rejected` (`trust.proof.malformed`).
    """
    found = payload.get(name)
    known = payload.keys() <= {name, *optional}
    if not known or not isinstance(found, str) or any(not isinstance(value, str) for value in payload.values()):
        raise Rejected(
            "trust.proof.malformed",
            f"the proof is not an object with the text `{name}`",
            next_step=f'send {{"{name}": "…"}}',
        )
    return found


def values_of(claims: Mapping[str, Json], claim: str) -> list[str]:
    """The texts of a claim: itself, a number or truth value as JSON writes it, or those of a list; none otherwise."""
    if not claim:
        return []
    value: Json = claims.get(claim) if not claim.startswith("/") else _pointed(claims, claim)
    listed = value if isinstance(value, list) else [value]
    return [text for text in map(_text, listed) if text is not None]


def refused(why: Rejected) -> Rejected:
    """The refusal of `jose`, in the words of proofs."""
    match why.code:
        case "trust.jose.unknown_key" | "trust.jose.key":
            return Rejected("trust.proof.unknown_key", "the proof is signed by a key that its issuer does not publish")
        case "trust.jose.forged":
            return Rejected("trust.proof.forged", "the proof's signature does not verify")
        case "trust.jose.algorithm":
            return Rejected("trust.proof.algorithm", why.message)
        case "trust.jose.issuer":
            return _issuer()
        case "trust.jose.audience":
            return Rejected(
                "trust.proof.audience",
                "the proof is not meant for us, or not for us alone",
                next_step="ask the platform for a token whose only audience is ours",
            )
        case "trust.jose.expired":
            return Rejected("trust.proof.expired", "the proof has expired", next_step="get a new one")
        case "trust.jose.not_yet_valid":
            return Rejected("trust.proof.not_yet_valid", "the proof is not valid yet", next_step="compare the clocks")
        case "trust.jose.claim":
            return Rejected("trust.proof.claim", why.message)
        case _:
            return Rejected("trust.proof.malformed", why.message)


def _issuer() -> Rejected:
    return Rejected(
        "trust.proof.issuer",
        "the proof is of an issuer that is not configured for it",
        next_step="add the issuer to the attestors file, or get the proof of another",
    )


def _is_for(jwk: Mapping[str, Json], algorithm: str) -> bool:
    """Whether its publisher means a key for verifying this algorithm; what it does not say is no limit."""
    operations = jwk.get("key_ops", ["verify"])
    return jwk.get("alg", algorithm) == algorithm and isinstance(operations, list) and "verify" in operations


def _pointed(claims: Mapping[str, Json], pointer: str) -> Json:
    value: Json = claims
    for part in pointer[1:].split("/"):
        if not isinstance(value, Mapping):
            return None
        value = value.get(part.replace("~1", "/").replace("~0", "~"))
    return value


def _text(value: Json) -> str | None:
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value) if isinstance(value, str | int) else None
