"""What an agent holds: fetched ahead, served while the control plane is away, gone the moment it is withdrawn."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding

from remit.kernel.clock import ManualClock
from remit.kernel.errors import Denied, Unavailable
from remit.surface.agent.remote.reports import Reports
from remit.surface.agent.remote.source import RemoteSource
from remit.trust.attestors.unix import UnixAttestor
from remit.trust.bundle import Bundle
from remit.trust.issue import renewal
from remit.trust.model import Entry, Evidence, JwtSvid, Selector, X509Svid
from remit.trust.spiffe import SpiffeId, TrustDomain
from remit.trust.testing import NOON

NODE = Selector("node", "agent", "join_token/web")
UID = Selector("unix", "uid", "1000")


@dataclass(slots=True)
class Stage:
    """A source whose control plane is this object."""

    clock: ManualClock = field(default_factory=lambda: ManualClock(NOON))
    away: bool = False
    asked: list[str] = field(default_factory=list)
    reports: Reports = field(default_factory=Reports)
    source: RemoteSource = field(init=False)

    def __post_init__(self) -> None:
        self.source = RemoteSource(
            Bundle(trust_domain=TrustDomain("remit.test"), sequence=1, refresh_hint=timedelta(0), x509_roots=(b"x",)),
            attestors=(UnixAttestor(),),
            clock=self.clock,
            fetch_x509=self.fetch_x509,
            fetch_jwt=self.fetch_jwt,
            handed=lambda evidence, svids: self.reports.note(
                evidence, svids, at=self.clock.now(), offline=self.away
            ),
        )  # fmt: skip

    async def fetch_x509(self, entries: Sequence[Entry], evidence: Evidence) -> None:
        self._answer()
        self.asked += [entry.id for entry in entries]
        self.source.keep(self.svid(entry.id) for entry in entries)

    async def fetch_jwt(
        self, entries: Sequence[Entry], evidence: Evidence, audience: Sequence[str]
    ) -> Sequence[JwtSvid]:
        self._answer()
        now = self.clock.now()
        return [
            JwtSvid(
                spiffe_id=entry.spiffe_id, entry=entry.id, authority="au_1", token_id=f"t{len(self.asked)}",
                token="a.b.c", audience=tuple(audience), issued=now, expires=now + timedelta(minutes=5),
            )
            for entry in entries
        ]  # fmt: skip

    def _answer(self) -> None:
        if self.away:
            raise Unavailable("agent.server.away", "away")

    def given(self, *entries: Entry) -> None:
        self.source.update(node=frozenset({NODE}), entries=entries, authorities=("au_1",))

    def svid(self, entry_id: str, *, serial: int = 7, authority: str = "au_1") -> X509Svid:
        now = self.clock.now()
        return X509Svid(
            spiffe_id=SpiffeId.parse("spiffe://remit.test/job"), entry=entry_id, authority=authority, serial=serial,
            certificate=b"c", key=b"k", issued=now, expires=now + timedelta(hours=1),
        )  # fmt: skip

    def seen(self, *selectors: Selector) -> Evidence:
        return Evidence(attestor="unix", selectors=frozenset(selectors or (UID,)), facts={}, observed=self.clock.now())


def an_entry(number: int = 1, *selectors: Selector) -> Entry:
    return Entry(
        id=f"en_{number}", spiffe_id=SpiffeId.parse("spiffe://remit.test/job"),
        selectors=frozenset(selectors or (NODE, UID)), x509_ttl=timedelta(hours=1), jwt_ttl=timedelta(minutes=5),
        created=NOON,
    )  # fmt: skip


def run(work: Callable[[Stage], Coroutine[Any, Any, None]]) -> None:
    asyncio.run(work(Stage()))


def test_a_process_gets_what_was_fetched_ahead_and_nobody_is_asked() -> None:
    async def work(it: Stage) -> None:
        it.given(an_entry())
        it.source.keep([it.svid("en_1")])
        it.away = True
        assert [one.entry for one in (await it.source.x509_svids(it.seen())).svids] == ["en_1"]
        assert it.asked == []

    run(work)


def test_two_processes_of_one_entry_share_its_svid() -> None:
    async def work(it: Stage) -> None:
        it.given(an_entry())
        first = await it.source.x509_svids(it.seen())
        second = await it.source.x509_svids(it.seen(UID, Selector("unix", "path", "/bin/x")))
        assert first.svids == second.svids
        assert it.asked == ["en_1"]

    run(work)


def test_a_process_that_shows_less_than_the_entry_asks_has_no_identity() -> None:
    async def work(it: Stage) -> None:
        it.given(an_entry())
        with pytest.raises(Denied):
            await it.source.x509_svids(it.seen(Selector("unix", "uid", "7")))

    run(work)


def test_what_has_expired_is_not_served_while_the_control_plane_is_away() -> None:
    async def work(it: Stage) -> None:
        it.given(an_entry())
        await it.source.x509_svids(it.seen())
        it.away = True
        it.clock.advance(timedelta(minutes=59))
        assert (await it.source.x509_svids(it.seen())).svids
        it.clock.advance(timedelta(minutes=2))
        with pytest.raises(Unavailable):
            await it.source.x509_svids(it.seen())

    run(work)


def test_a_stream_is_not_asked_to_look_again_at_once_when_a_renewal_is_overdue() -> None:
    async def work(it: Stage) -> None:
        it.given(an_entry())
        await it.source.x509_svids(it.seen())
        it.clock.advance(timedelta(minutes=50))
        assert (await it.source.x509_svids(it.seen())).renew > it.clock.now()

    run(work)


def test_an_entry_that_is_withdrawn_takes_its_svid_with_it() -> None:
    async def work(it: Stage) -> None:
        it.given(an_entry())
        await it.source.x509_svids(it.seen())
        version = it.source.version
        it.given()
        assert not it.source.svids
        assert it.source.version > version
        with pytest.raises(Denied):
            it.source.require(it.seen())

    run(work)


def test_an_svid_that_comes_for_an_entry_that_went_is_not_kept() -> None:
    async def work(it: Stage) -> None:
        it.given(an_entry())
        it.source.keep([it.svid("en_2")])
        assert not it.source.svids

    run(work)


def test_a_revoked_serial_is_let_go_and_fetched_anew() -> None:
    async def work(it: Stage) -> None:
        it.given(an_entry())
        it.source.keep([it.svid("en_1", serial=7)])
        it.source.update(crls=[crl_of(7)])
        assert not it.source.svids
        assert [one.id for one in it.source.due()] == ["en_1"]

    run(work)


def test_what_a_tainted_authority_signed_is_due_and_served_until_it_is_replaced() -> None:
    async def work(it: Stage) -> None:
        it.given(an_entry())
        it.source.keep([it.svid("en_1", authority="au_1")])
        it.source.update(authorities=("au_2",))
        assert [one.id for one in it.source.due()] == ["en_1"]
        assert (await it.source.x509_svids(it.seen())).svids

    run(work)


def test_an_svid_is_due_from_half_of_its_life() -> None:
    async def work(it: Stage) -> None:
        it.given(an_entry())
        it.source.keep([it.svid("en_1")])
        assert it.source.due() == []
        it.clock.advance(renewal(it.source.svids["en_1"]) - it.clock.now())
        assert [one.id for one in it.source.due()] == ["en_1"]

    run(work)


def test_a_token_of_before_is_better_than_none_while_the_control_plane_is_away() -> None:
    async def work(it: Stage) -> None:
        it.given(an_entry())
        (token,) = await it.source.jwt_svids(it.seen(), ["billing"])
        it.away = True
        assert await it.source.jwt_svids(it.seen(), ["billing"]) == (token,)
        with pytest.raises(Unavailable):
            await it.source.jwt_svids(it.seen(), ["another"])
        it.clock.advance(timedelta(minutes=5))
        with pytest.raises(Unavailable):
            await it.source.jwt_svids(it.seen(), ["billing"])

    run(work)


def test_an_agent_that_was_ended_serves_nothing() -> None:
    async def work(it: Stage) -> None:
        it.given(an_entry())
        await it.source.x509_svids(it.seen())
        it.source.end()
        with pytest.raises(Denied):
            await it.source.x509_svids(it.seen())

    run(work)


def test_what_a_process_got_is_reported_once_and_says_whether_it_was_cut_off() -> None:
    async def work(it: Stage) -> None:
        it.given(an_entry())
        await it.source.x509_svids(it.seen())
        it.away = True
        await it.source.x509_svids(it.seen())
        await it.source.x509_svids(it.seen(UID, Selector("unix", "path", "/bin/x")))
        assert [one.offline for one in it.reports.batch()] == [False, True]
        it.reports.told(2)
        assert len(it.reports) == 0

    run(work)


def crl_of(serial: int) -> bytes:
    key = ec.generate_private_key(ec.SECP256R1())
    revoked = x509.RevokedCertificateBuilder(serial_number=serial, revocation_date=NOON).build()
    builder = x509.CertificateRevocationListBuilder(
        issuer_name=x509.Name([]),
        last_update=NOON,
        next_update=NOON + timedelta(days=1),
        revoked_certificates=[revoked],
    )
    return builder.sign(key, hashes.SHA256()).public_bytes(Encoding.DER)
