"""Another Remit as the upstream authority: a nested control plane of the same trust domain.

This one is a workload of that one: `remit x509 write --dir FOLDER` beside it keeps its SVID in files, and an operator
there has allowed that SVID's id to have an intermediate (`remit downstream add`).
"""

from __future__ import annotations

from base64 import b64decode, b64encode
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Final

from cryptography.hazmat.primitives.serialization import Encoding

from remit.kernel.errors import Rejected
from remit.providers.upstream import Shown, UpstreamRemit
from remit.trust.agents.model import server_id
from remit.trust.authority.upstream.disk import read_certificates, read_file, read_secret
from remit.trust.bundle import Bundle
from remit.trust.spiffe import TrustDomain
from remit.trust.validate import validate_x509_svid

PATH: Final = "/trust/v1/downstream"
_MAX_CERTIFICATES = 64


class RemitUpstream:
    """Implements `Upstream` over the listener for agents of the Remit at `address` (HOST:PORT)."""

    id = "remit"

    def __init__(self, trust_domain: TrustDomain, *, address: str, folder: Path, now: Callable[[], datetime]) -> None:
        self._trust_domain = trust_domain
        self._now = now
        self._folder = folder
        self._above = UpstreamRemit(address, show=self._shown, verify=self._verify)

    async def mint(self, request: bytes, lifetime: timedelta, now: datetime) -> tuple[bytes, ...]:
        body = {"request": b64encode(request).decode(), "lifetime_seconds": int(lifetime.total_seconds())}
        return _certificates(await self._above.ask("POST", PATH, body), "chain")

    async def roots(self, now: datetime) -> tuple[bytes, ...]:
        return _certificates(await self._above.ask("GET", PATH), "roots")

    async def close(self) -> None:
        return None

    def _shown(self) -> Shown:
        # One resolved directory: the three files are of one moment.
        folder = (self._folder / "svid.pem").resolve().parent
        return Shown(
            identity=read_secret(folder / "key.pem") + read_file(folder / "svid.pem"), roots=self._held(folder)
        )

    def _held(self, folder: Path) -> tuple[bytes, ...]:
        return tuple(one.public_bytes(Encoding.DER) for one in read_certificates(folder / "bundle.pem"))

    def _verify(self, chain: Sequence[bytes]) -> None:
        """The other end must be the control plane of our own trust domain."""
        roots = self._held((self._folder / "bundle.pem").resolve().parent)
        bundle = Bundle(
            trust_domain=self._trust_domain, sequence=0, refresh_hint=timedelta(minutes=5), x509_roots=roots
        )
        found = validate_x509_svid(chain, lambda domain: bundle if domain == self._trust_domain else None, self._now())
        if found.spiffe_id != server_id(self._trust_domain):
            raise Rejected(
                "providers.upstream.untrusted",
                f"the other end is `{found.spiffe_id}`, and not the control plane of `{self._trust_domain}`",
                next_step="correct `upstream.address`",
            )


def _certificates(answer: Mapping[str, Any], name: str) -> tuple[bytes, ...]:
    found = answer.get(name)
    if not isinstance(found, list) or not 1 <= len(found) <= _MAX_CERTIFICATES:
        raise _unreadable(name)
    try:
        return tuple(b64decode(one, validate=True) for one in found)
    except (ValueError, TypeError):
        raise _unreadable(name) from None


def _unreadable(name: str) -> Rejected:
    return Rejected(
        "trust.upstream.unfit",
        f"what the upstream authority signed cannot be used: the Remit above answered no `{name}`",
        next_step="give both the same version of Remit",
    )
