"""SVIDs from the control plane, for keys that are made here and stay here."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec

from remit.kernel.clock import Clock
from remit.kernel.errors import Misconfigured, RemitError, Unavailable
from remit.surface.agent.remote import wire
from remit.surface.agent.remote.server import Server
from remit.surface.agent.remote.source import RemoteSource
from remit.trust.authority.x509 import private_bytes, public_info
from remit.trust.bundle import Bundle
from remit.trust.model import Entry, Evidence, JwtSvid, X509Svid
from remit.trust.spiffe import TrustDomain
from remit.trust.validate import identity_of

_log = logging.getLogger("remit.agent")
MAX_AHEAD = 1_000
"""SVIDs that are held ready; those of further entries are fetched when a process asks."""
_IDLE_SECONDS = 30.0
_AGAIN_SECONDS = 5.0


class Fetcher:
    """Asks for what is missing, in batches; `source` is where it goes."""

    source: RemoteSource

    def __init__(self, server: Server, *, clock: Clock, connected: Callable[[], bool]) -> None:
        self._server = server
        self._clock = clock
        self._connected = connected
        self._lock = asyncio.Lock()

    async def x509(self, entries: Sequence[Entry], evidence: Evidence) -> None:
        """Bring SVIDs of these entries for a process that waits; `Unavailable` while the control plane is away."""
        async with self._lock:
            held = self.source.svids
            wanted = [one for one in entries if one.id not in held or held[one.id].expires <= self._clock.now()]
            if wanted:
                self._require_connected()
                await self._bring(wanted, wire.Seen.of(evidence))

    async def ahead(self) -> float:
        """Bring what is missing or due before anybody asks; returns the seconds after which to look again."""
        due = self.source.due()
        held = self.source.svids
        room = max(0, MAX_AHEAD - len(held))
        missing = [one for one in due if one.id not in held]
        wanted = [one for one in due if one.id in held] + missing[:room]
        if not wanted:
            return _IDLE_SECONDS
        if not self._connected():
            return _AGAIN_SECONDS
        try:
            async with self._lock:
                complete = await self._bring(wanted, None)
        except RemitError as error:
            _log.warning("SVIDs are fetched later: %s", error)
            return _AGAIN_SECONDS
        return _IDLE_SECONDS if complete else _AGAIN_SECONDS

    async def jwt(self, entries: Sequence[Entry], evidence: Evidence, audience: Sequence[str]) -> Sequence[JwtSvid]:
        """JWT-SVIDs for a process; `Unavailable` while the control plane is away."""
        self._require_connected()
        by_id = {entry.id: entry for entry in entries}
        answers = await self._server.sign_jwt(list(by_id), audience, wire.Seen.of(evidence))
        return tuple(
            JwtSvid(
                spiffe_id=by_id[one.entry].spiffe_id,
                entry=one.entry,
                authority=one.authority,
                token_id=one.token_id,
                token=one.token,
                audience=tuple(audience),
                issued=one.issued,
                expires=one.expires,
                hint=by_id[one.entry].hint,
            )
            for one in answers
            if one.entry in by_id
        )

    async def _bring(self, entries: Sequence[Entry], seen: wire.Seen | None) -> bool:
        """Fetch and keep; tells whether every entry got its SVID."""
        complete = True
        for at in range(0, len(entries), wire.MAX_BATCH):
            batch = entries[at : at + wire.MAX_BATCH]
            keys = [ec.generate_private_key(ec.SECP256R1()) for _ in batch]
            requests = [
                wire.SvidRequest(entry=entry.id, public_key=public_info(key.public_key()), seen=seen)
                for entry, key in zip(batch, keys, strict=True)
            ]
            answers = await self._server.sign(requests)
            made = [_svid(*one) for one in zip(batch, keys, answers, strict=True)]
            complete = complete and None not in made
            self.source.keep(one for one in made if one is not None)
        return complete

    def _require_connected(self) -> None:
        if not self._connected():
            raise Unavailable(
                "agent.server.away",
                "the control plane is away, and this agent holds no SVID for it",
                retry_after=timedelta(seconds=5),
            )


def bundles_of(documents: Mapping[str, bytes]) -> dict[str, Bundle]:
    """Foreign bundles by the name of their trust domain."""
    return {name: Bundle.parse(TrustDomain.parse(name), raw) for name, raw in documents.items()}


def _svid(entry: Entry, key: ec.EllipticCurvePrivateKey, answer: wire.SvidAnswer) -> X509Svid | None:
    if answer.problem or not answer.chain:
        _log.info("no SVID for %s: %s", entry.spiffe_id, answer.problem)
        return None
    leaf = x509.load_der_x509_certificate(answer.chain[0])
    if identity_of(leaf) != entry.spiffe_id or leaf.public_key() != key.public_key():
        raise Misconfigured("agent.server.unlike", "the control plane sent a certificate that was not asked for")
    return X509Svid(
        spiffe_id=entry.spiffe_id,
        entry=entry.id,
        authority=answer.authority,
        serial=leaf.serial_number,
        certificate=answer.chain[0],
        chain=b"".join(answer.chain[1:]),
        key=private_bytes(key),
        issued=leaf.not_valid_before_utc,
        expires=leaf.not_valid_after_utc,
        hint=entry.hint,
    )
