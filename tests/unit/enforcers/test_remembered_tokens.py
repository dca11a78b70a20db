"""JWT-SVIDs that are remembered: as long as nothing could have changed, and never beyond their expiry."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

import pytest

from remit.kernel.errors import Rejected
from remit.surface.enforcers.remembered import RememberedTokens
from remit.trust.model import SvidClaims
from remit.trust.spiffe import SpiffeId, TrustDomain

NOW = datetime(2026, 1, 1, tzinfo=UTC)
OWN = TrustDomain(name="remit.test")


@dataclass
class Verifier:
    """Counts what it verifies; a token is the name of its subject's trust domain and path."""

    stamp: int = 0
    verified: list[tuple[str, str]] = field(default_factory=list)
    revoked: bool = False

    def verify(self, token: str, audience: str) -> SvidClaims:
        self.verified.append((token, audience))
        if self.revoked:
            raise Rejected("trust.jwt_svid.revoked", "the token was revoked")
        subject = SpiffeId.parse(f"spiffe://{token}")
        return SvidClaims(spiffe_id=subject, audience=(audience,), expires=NOW + timedelta(minutes=5), claims={})


def remembered(by: Verifier, *, most: int = 2) -> RememberedTokens:
    return RememberedTokens(by.verify, lambda: by.stamp, own=OWN, most=most)


def test_a_token_is_verified_once_for_each_audience() -> None:
    by = Verifier()
    tokens = remembered(by)
    for audience in ("a", "a", "b", "b"):
        assert tokens.find("remit.test/x", audience, NOW).audience == (audience,)
    assert by.verified == [("remit.test/x", "a"), ("remit.test/x", "b")]


def test_a_revocation_is_heard_at_once() -> None:
    by = Verifier()
    tokens = remembered(by)
    tokens.find("remit.test/x", "a", NOW)
    by.revoked, by.stamp = True, 1
    with pytest.raises(Rejected, match="revoked"):
        tokens.find("remit.test/x", "a", NOW)
    assert len(tokens) == 0


def test_an_expired_token_is_verified_again() -> None:
    by = Verifier()
    tokens = remembered(by)
    tokens.find("remit.test/x", "a", NOW)
    tokens.find("remit.test/x", "a", NOW + timedelta(minutes=5))
    assert len(by.verified) == 2 and len(tokens) == 0


def test_a_token_of_another_domain_is_verified_each_time() -> None:
    by = Verifier()
    tokens = remembered(by)
    for _ in range(3):
        tokens.find("partner.test/x", "a", NOW)
    assert len(by.verified) == 3


def test_those_used_last_are_kept() -> None:
    by = Verifier()
    tokens = remembered(by, most=2)
    for name in ("x", "y", "x", "z", "x"):
        tokens.find(f"remit.test/{name}", "a", NOW)
    assert [token[-1] for token, _ in by.verified] == ["x", "y", "z"] and len(tokens) == 2
