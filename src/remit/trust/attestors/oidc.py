"""The OIDC attestor: whoever holds a token of an issuer that the operator named, by the claims that they mapped.

Each issuer has a name, and selector keys of its own: `sub` of two issuers are two things, and one key never stands for
both. `oidc:issuer:NAME` is always there.

Spec: OpenID Connect Core 1.0 §2, §3.1.3.7; RFC 8725 §3.8 and §3.9.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from remit.kernel.canonical import Json
from remit.kernel.errors import Misconfigured, Rejected
from remit.trust import jose
from remit.trust.issuers import (
    ClaimKey,
    ClaimKeys,
    Issuer,
    evidence_of,
    read_platform_token,
    text_of,
    token_profile,
    verify_platform_token,
)
from remit.trust.model import Evidence, Selector
from remit.trust.ports import Challenge

_KEY = re.compile(r"[a-z][a-z0-9_]{0,31}")
_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,62}")
_ANY = token_profile(algorithms=jose.ALGORITHMS | {"EdDSA"})


@dataclass(frozen=True, slots=True, kw_only=True)
class OidcIssuer:
    """One issuer, and what of its claims counts."""

    name: str
    issuer: Issuer
    selectors: Mapping[str, str]
    """Selector key → claim (a name, or a JSON pointer)."""


class OidcAttestor:
    """Attests by tokens of any number of issuers."""

    id = "oidc"

    def __init__(self, issuers: Sequence[OidcIssuer]) -> None:
        """`Misconfigured` (`trust.attestor.issuers`): a name, an issuer or a selector key that two share, a bad key."""
        _check(issuers)
        self._issuers = {one.issuer.url: one for one in issuers}
        self._maps = {one.name: ClaimKeys(self.id, _claim_keys([one])) for one in issuers}
        self._keys = ClaimKeys(self.id, _claim_keys(issuers))

    @property
    def keys(self) -> Mapping[str, str]:
        """The selector keys that are mapped, and `issuer`."""
        return self._keys.keys

    def check(self, selector: Selector) -> None:
        """Refuse a selector that it could never produce: `Rejected` (`trust.selector.unknown`, `.malformed`)."""
        self._keys.check(selector)

    async def begin(self, payload: Mapping[str, Json], now: datetime) -> Evidence:
        """Verify the token under the issuer that it names, if that is configured. `Rejected` (`trust.proof.…`)."""
        text = text_of(payload, "token")
        claimed = read_platform_token(text, _ANY).claims.get("iss")
        found = self._issuers.get(claimed) if isinstance(claimed, str) else None
        if found is None:
            raise Rejected(
                "trust.proof.issuer",
                "the proof is of an issuer that is not configured for it",
                next_step="add the issuer to the attestors file, or get the proof of another",
            )
        token = read_platform_token(text, found.issuer.profile)
        verified = await verify_platform_token(token, found.issuer, now)
        return evidence_of(self._maps[found.name], verified, now, more={"issuer": found.name})

    async def finish(self, challenge: Challenge, answer: Mapping[str, Json], now: datetime) -> Evidence:
        """Never called: a token is the whole proof."""
        raise AssertionError("a token is never a question")


def _claim_keys(issuers: Sequence[OidcIssuer]) -> dict[str, ClaimKey]:
    names = "|".join(re.escape(one.name) for one in issuers)
    # The empty name takes no claim: this key comes from the settings alone.
    found = {"issuer": ClaimKey("", "the configured name of the issuer", names or r"(?!)")}
    for one in issuers:
        for key, claim in one.selectors.items():
            found[key] = ClaimKey(claim, f"the claim `{claim}` of `{one.name}`")
    return found


def _check(issuers: Sequence[OidcIssuer]) -> None:
    names, urls, keys = set[str](), set[str](), {"issuer"}
    for one in issuers:
        if _NAME.fullmatch(one.name) is None or one.name in names:
            raise _bad(f"the name `{one.name[:80]}` is malformed, or stands twice")
        if one.issuer.url in urls:
            raise _bad(f"the issuer of `{one.name}` stands twice")
        for key, claim in one.selectors.items():
            if _KEY.fullmatch(key) is None or not claim:
                raise _bad(f"`{key[:80]}` is no selector key, or has no claim")
            if key in keys:
                raise _bad(f"two issuers would give the selector key `{key}`, and nobody could tell whose it is")
            keys.add(key)
        names.add(one.name)
        urls.add(one.issuer.url)


def _bad(why: str) -> Misconfigured:
    return Misconfigured(
        "trust.attestor.issuers",
        f"the issuers of the attestor `oidc` cannot be used: {why}",
        next_step="give each issuer its own name and its own selector keys, for example `ci_sub`",
    )
