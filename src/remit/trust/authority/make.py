"""Makes the next authority: its key, and its certificate by itself or by an upstream."""

from __future__ import annotations

import os
from collections.abc import Callable
from datetime import datetime

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding

from remit.kernel.ids import new_id
from remit.kernel.unit import Sealer
from remit.trust.authority.ca import make_key, make_request, make_root, verify_chain
from remit.trust.authority.keyring import seal_context
from remit.trust.authority.lifecycle import AuthorityPolicy
from remit.trust.authority.upstream.port import Upstream
from remit.trust.authority.x509 import private_bytes, public_info, serial_number
from remit.trust.model import Authority, AuthorityKind, AuthorityState
from remit.trust.spiffe import TrustDomain


class Maker:
    """Makes authorities of `trust_domain`: under `upstream` where there is one, roots of their own otherwise."""

    def __init__(
        self,
        trust_domain: TrustDomain,
        *,
        sealer: Sealer,
        policy: AuthorityPolicy,
        upstream: Upstream | None = None,
        entropy: Callable[[int], bytes] = os.urandom,
    ) -> None:
        self._trust_domain = trust_domain
        self._sealer = sealer
        self._policy = policy
        self._entropy = entropy
        self.upstream = upstream

    async def make(self, kind: AuthorityKind, now: datetime) -> tuple[Authority, bytes]:
        """A prepared authority, not signed yet, and its sealed key. Raises what the upstream raises."""
        chain: tuple[bytes, ...] = ()
        if kind is not AuthorityKind.X509:
            key = make_key("P-256")
            public, expires = public_info(key.public_key()), now + self._policy.lifetime
        else:
            key = make_key(self._policy.curve)
            public, chain, expires = await self._certified(key, now)
        authority = Authority(
            id=new_id("au", now),
            kind=kind,
            state=AuthorityState.PREPARED,
            public=public,
            chain=chain,
            created=now,
            expires=expires,
        )
        return authority, self._sealer.seal(private_bytes(key), context=seal_context(authority))

    async def _certified(
        self, key: ec.EllipticCurvePrivateKey, now: datetime
    ) -> tuple[bytes, tuple[bytes, ...], datetime]:
        """Our CA certificate, what is above it, and when the first of them ends."""
        serial = serial_number(self._entropy)
        if self.upstream is None:
            root = make_root(self._trust_domain, key, serial=serial, now=now, lifetime=self._policy.lifetime)
            return root.public_bytes(Encoding.DER), (), root.not_valid_after_utc
        request = make_request(self._trust_domain, key, serial=serial)
        answered = await self.upstream.mint(request, self._policy.lifetime, now)
        found = verify_chain(answered, key.public_key(), trust_domain=self._trust_domain, now=now)
        ours, *above = found.certificates
        return ours, tuple(above), found.expires
