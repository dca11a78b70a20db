"""The service on rows in memory: authorities from the first start on, issuance and its record, what a forger gains."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.verification import Criticality, ExtensionPolicy, PolicyBuilder, Store

from remit.kernel.clock import ManualClock
from remit.kernel.errors import Conflict, Denied, Misconfigured, Rejected, Unavailable
from remit.trust import (
    Authority,
    AuthorityKind,
    AuthorityState,
    Entry,
    Evidence,
    Selector,
    TrustDomain,
    TrustService,
)
from remit.trust.testing import NOON, KeyedAttester, MemoryTrustStore, PlainSealer, example_entry

UID = Selector.parse("unix:uid:1000")


def seen(*more: str, pid: int = 42) -> Evidence:
    return Evidence(
        attestor="unix",
        selectors=frozenset({UID, *(Selector.parse(text) for text in more)}),
        facts={"pid": pid},
        observed=NOON,
    )


@dataclass(slots=True)
class House:
    clock: ManualClock
    store: MemoryTrustStore
    trust: TrustService

    async def register(self, path: str = "/job", **settings: Any) -> Entry:
        return await self.trust.create_entry(
            spiffe_id=f"spiffe://remit.test{path}", selectors=["unix:uid:1000"], actor="person:ann", **settings
        )

    def again(self, *, key: bytes = b"test") -> TrustService:
        """Another service on the same rows, as after a restart; `key` is the installation's."""
        return service(self.store, self.clock, key)

    def authority(self, kind: AuthorityKind, state: AuthorityState = AuthorityState.ACTIVE) -> Authority:
        return next(one for one in self.trust.authorities() if (one.kind, one.state) == (kind, state))


def service(store: MemoryTrustStore, clock: ManualClock, key: bytes = b"test") -> TrustService:
    return TrustService(
        store,
        sealer=PlainSealer(key),
        attester=KeyedAttester(key),
        clock=clock,
        trust_domain=TrustDomain("remit.test"),
    )


@asynccontextmanager
async def house() -> AsyncIterator[House]:
    clock = ManualClock(NOON)
    store = MemoryTrustStore(clock)
    made = House(clock, store, service(store, clock))
    await made.trust.open()
    yield made
    await made.trust.close()


def inside(steps: Callable[[House], Awaitable[None]]) -> None:
    async def run() -> None:
        async with house() as one:
            await steps(one)

    asyncio.run(run())


def leaf(certificate: bytes) -> x509.Certificate:
    return x509.load_der_x509_certificate(certificate)


# Authorities.


def test_the_first_start_makes_one_authority_of_each_kind_and_the_next_makes_none() -> None:
    async def steps(one: House) -> None:
        first = one.trust.authorities()
        second = one.again()
        await second.open()
        assert {(a.kind, a.state) for a in first} == {(kind, AuthorityState.ACTIVE) for kind in AuthorityKind}
        assert second.authorities() == first

    inside(steps)


def test_a_day_of_tending_rotates_without_ever_leaving_a_svid_unverifiable() -> None:
    async def steps(one: House) -> None:
        await one.register()
        for hour in range(60):
            svids = (await one.trust.x509_svids(seen(pid=hour))).svids
            one.clock.advance(timedelta(hours=1) - timedelta(seconds=1))
            await one.trust.tend()
            roots = [leaf(root) for root in one.trust.bundle.x509_roots]
            assert any(leaf(svids[0].certificate).issuer == root.subject for root in roots)
        assert len([a for a in one.trust.authorities() if a.kind is AuthorityKind.X509]) > 3
        assert len(one.trust.bundle.x509_roots) <= 3

    inside(steps)


def test_a_rotation_publishes_the_new_key_beside_the_old_and_raises_the_sequence() -> None:
    async def steps(one: House) -> None:
        before = json.loads(one.trust.bundle_document())
        await one.trust.rotate_authority(AuthorityKind.JWT, actor="person:ann")
        after = json.loads(one.trust.bundle_document())
        assert after["spiffe_sequence"] > before["spiffe_sequence"]
        assert [key for key in before["keys"] if key not in after["keys"]] == []
        assert len(after["keys"]) == len(before["keys"]) + 1

    inside(steps)


def test_a_token_of_an_old_authority_verifies_until_that_is_revoked() -> None:
    async def steps(one: House) -> None:
        await one.register()
        (svid,) = await one.trust.jwt_svids(seen(), ["db"])
        await one.trust.rotate_authority(AuthorityKind.JWT, actor="person:ann")
        assert one.trust.validate_jwt(svid.token, "db").spiffe_id == svid.spiffe_id
        await one.trust.revoke_authority(svid.authority, actor="person:ann")
        with pytest.raises(Rejected) as refused:
            one.trust.validate_jwt(svid.token, "db")
        assert refused.value.code == "trust.jwt_svid.unknown_key"

    inside(steps)


def test_a_revoked_authority_has_no_key_left() -> None:
    async def steps(one: House) -> None:
        old = one.authority(AuthorityKind.X509)
        await one.trust.rotate_authority(AuthorityKind.X509, actor="person:ann")
        assert one.store.rows.keys[old.id] is not None
        await one.trust.revoke_authority(old.id, actor="person:ann")
        assert one.store.rows.keys[old.id] is None

    inside(steps)


def test_the_active_authority_cannot_be_tainted() -> None:
    async def steps(one: House) -> None:
        with pytest.raises(Conflict):
            await one.trust.taint_authority(one.authority(AuthorityKind.X509).id, actor="person:ann")

    inside(steps)


def test_each_step_of_an_authority_is_in_the_ledger() -> None:
    async def steps(one: House) -> None:
        old = one.authority(AuthorityKind.JWT)
        start = len(one.store.events)
        prepared = await one.trust.prepare_authority(AuthorityKind.JWT, actor="person:ann")
        await one.trust.activate_authority(prepared.id, actor="person:ann")
        await one.trust.taint_authority(old.id, actor="person:ann")
        await one.trust.revoke_authority(old.id, actor="person:ann")
        await one.trust.revoke_authority(old.id, actor="person:ann")
        assert [event.type.rpartition(".")[2] for event in one.store.events[start:]] == [
            "prepared",
            "activated",
            "tainted",
            "revoked",
        ]

    inside(steps)


def test_state_without_its_key_is_misconfigured_and_nothing_is_made_anew() -> None:
    async def steps(one: House) -> None:
        rows = dict(one.store.rows.authority_rows)
        with pytest.raises(Misconfigured) as refused:
            await one.again(key=b"another").open()
        assert refused.value.code == "trust.authority.forged"
        assert one.store.rows.authority_rows == rows

    inside(steps)


def test_an_authority_written_into_the_database_is_not_published() -> None:
    async def steps(one: House) -> None:
        forged = replace(one.authority(AuthorityKind.X509), id="au_forged")
        one.store.rows.put_authority(forged, b"key")
        second = one.again()
        await second.open()
        assert forged not in second.authorities()
        assert second.problems == ("authority `au_forged` was not signed by this installation",)

    inside(steps)


def test_the_key_of_one_authority_under_the_name_of_another_is_misconfigured() -> None:
    async def steps(one: House) -> None:
        x509_id, jwt_id = one.authority(AuthorityKind.X509).id, one.authority(AuthorityKind.JWT).id
        one.store.rows.keys[x509_id] = one.store.rows.keys[jwt_id]
        with pytest.raises(Misconfigured):
            await one.again().open()

    inside(steps)


# X.509-SVIDs.


def test_a_leaf_has_the_profile_of_the_standard() -> None:
    async def steps(one: House) -> None:
        await one.register()
        (svid,) = (await one.trust.x509_svids(seen())).svids
        extensions = leaf(svid.certificate).extensions
        names = extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        usage = extensions.get_extension_for_class(x509.KeyUsage)
        purposes = extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
        assert [name.value for name in names] == ["spiffe://remit.test/job"]
        assert (usage.critical, usage.value.digital_signature, usage.value.key_cert_sign) == (True, True, False)
        assert {purpose.dotted_string for purpose in purposes} == {"1.3.6.1.5.5.7.3.1", "1.3.6.1.5.5.7.3.2"}
        assert extensions.get_extension_for_class(x509.BasicConstraints).value.ca is False

    inside(steps)


def test_a_leaf_lives_an_hour_and_is_backdated() -> None:
    async def steps(one: House) -> None:
        await one.register()
        (svid,) = (await one.trust.x509_svids(seen())).svids
        found = leaf(svid.certificate)
        assert found.not_valid_after_utc == NOON + timedelta(hours=1)
        assert NOON - timedelta(minutes=1) <= found.not_valid_before_utc < NOON

    inside(steps)


def test_pyca_verifies_the_chain_against_the_bundle() -> None:
    async def steps(one: House) -> None:
        await one.register()
        found = await one.trust.x509_svids(seen())
        roots = Store([leaf(root) for root in found.bundle.x509_roots])
        anything = ExtensionPolicy.permit_all().require_present(x509.SubjectAlternativeName, Criticality.AGNOSTIC, None)
        verifier = (
            PolicyBuilder()
            .store(roots)
            .time(one.clock.now())
            .extension_policies(ca_policy=ExtensionPolicy.webpki_defaults_ca(), ee_policy=anything)
            .build_client_verifier()
        )
        chain = verifier.verify(leaf(found.svids[0].certificate), []).chain
        assert chain[0].public_bytes(Encoding.DER) == found.svids[0].certificate

    inside(steps)


def test_a_svid_never_outlives_its_authority() -> None:
    async def steps(one: House) -> None:
        await one.register(x509_ttl=timedelta(hours=4))
        one.clock.advance(timedelta(hours=22))
        (svid,) = (await one.trust.x509_svids(seen())).svids
        assert svid.expires <= one.authority(AuthorityKind.X509).expires

    inside(steps)


def test_an_authority_that_nobody_rotated_issues_nothing_after_its_end() -> None:
    async def steps(one: House) -> None:
        await one.register()
        one.clock.advance(timedelta(hours=25))
        with pytest.raises(Unavailable):
            await one.trust.x509_svids(seen())
        with pytest.raises(Unavailable):
            await one.trust.jwt_svids(seen(), ["db"])

    inside(steps)


def test_a_restart_after_a_long_sleep_issues_again() -> None:
    async def steps(one: House) -> None:
        await one.register()
        one.clock.advance(timedelta(days=30))
        second = one.again()
        await second.open()
        assert (await second.x509_svids(seen())).svids

    inside(steps)


# Who gets one.


def test_without_an_entry_a_workload_is_denied() -> None:
    async def steps(one: House) -> None:
        with pytest.raises(Denied) as refused:
            await one.trust.x509_svids(seen())
        assert refused.value.code == "trust.workload.unknown"

    inside(steps)


def test_a_workload_out_of_service_is_denied_and_told_that_it_is() -> None:
    async def steps(one: House) -> None:
        await one.register()
        idle = TrustService(
            one.store, sealer=PlainSealer(b"test"), attester=KeyedAttester(b"test"), clock=one.clock,
            trust_domain=TrustDomain("remit.test"), admission=lambda entry: False,
        )  # fmt: skip
        await idle.open()
        with pytest.raises(Denied, match="is out of service") as refused:
            await idle.x509_svids(seen())
        assert refused.value.code == "trust.workload.unknown"

    inside(steps)


def test_an_entry_written_into_the_database_gives_nobody_an_identity() -> None:
    async def steps(one: House) -> None:
        one.store.rows.add_entry(example_entry())
        second = one.again()
        await second.open()
        assert second.match(seen()) == ()
        assert second.problems == (f"entry `{example_entry().id}` was not signed by this installation",)

    inside(steps)


def test_entries_survive_a_restart() -> None:
    async def steps(one: House) -> None:
        entry = await one.register()
        second = one.again()
        await second.open()
        assert second.match(seen()) == (entry,)

    inside(steps)


def test_an_entry_removed_while_its_svid_was_recorded_yields_none() -> None:
    async def steps(one: House) -> None:
        entry = await one.register()
        issuing = asyncio.create_task(one.trust.x509_svids(seen()))
        await asyncio.sleep(0)
        one.trust._entries.discard(entry.id)
        with pytest.raises(Denied):
            await issuing

    inside(steps)


def test_a_watcher_wakes_on_change() -> None:
    async def steps(one: House) -> None:
        watch = asyncio.create_task(one.trust.changed(one.trust.version))
        await asyncio.sleep(0)
        assert not watch.done()
        await one.register()
        assert await asyncio.wait_for(watch, 60) == one.trust.version

    inside(steps)


# The record.


def test_an_issuance_is_recorded_with_serial_id_and_evidence() -> None:
    async def steps(one: House) -> None:
        await one.register()
        evidence = seen()
        (svid,) = (await one.trust.x509_svids(evidence)).svids
        event = one.store.events[-1]
        assert (event.type, event.subject) == ("trust.svid.issued", "spiffe://remit.test/job")
        assert (event.data["serial"], event.data["evidence"]) == (f"{svid.serial:x}", evidence.digest)

    inside(steps)


def test_a_private_key_is_in_no_record_and_no_repr() -> None:
    async def steps(one: House) -> None:
        await one.register()
        (svid,) = (await one.trust.x509_svids(seen())).svids
        assert svid.key.hex() not in repr(svid) + repr(one.store.events)
        assert repr(svid.key) not in repr(svid) + repr(one.store.events)

    inside(steps)


def test_a_burst_shares_few_writes() -> None:
    async def steps(one: House) -> None:
        await one.register()
        before = one.store.writes
        await asyncio.gather(*(one.trust.x509_svids(seen(pid=number)) for number in range(200)))
        assert one.store.types().count("trust.svid.issued") == 200
        assert one.store.writes - before < 10

    inside(steps)


def test_a_caller_that_goes_away_takes_nobody_with_it() -> None:
    async def steps(one: House) -> None:
        await one.register()
        calls = [asyncio.create_task(one.trust.x509_svids(seen(pid=number))) for number in range(3)]
        await asyncio.sleep(0)
        calls[0].cancel()
        assert [len((await call).svids) for call in calls[1:]] == [1, 1]

    inside(steps)


def test_what_could_not_be_recorded_is_not_remembered_either() -> None:
    async def steps(one: House) -> None:
        await one.register()
        one.store.fail = Unavailable("storage.full", "the disk is full")
        with pytest.raises(Unavailable):
            await one.trust.x509_svids(seen())
        one.store.fail = None
        await one.trust.x509_svids(seen())
        assert one.store.types().count("trust.svid.issued") == 1

    inside(steps)


def test_a_tainted_authority_has_its_svids_replaced_and_an_old_one_has_not() -> None:
    async def steps(one: House) -> None:
        await one.register()
        old = one.authority(AuthorityKind.X509)
        first = (await one.trust.x509_svids(seen())).svids
        await one.trust.rotate_authority(AuthorityKind.X509, actor="person:ann")
        assert (await one.trust.x509_svids(seen())).svids == first
        await one.trust.taint_authority(old.id, actor="person:ann")
        assert (await one.trust.x509_svids(seen())).svids[0].authority != old.id

    inside(steps)


@pytest.mark.parametrize(("minutes", "same"), [(26, True), (34, False)])
def test_a_svid_is_kept_until_about_half_of_its_life(minutes: int, same: bool) -> None:
    async def steps(one: House) -> None:
        await one.register()
        first = (await one.trust.x509_svids(seen())).svids
        one.clock.advance(timedelta(minutes=minutes))
        assert ((await one.trust.x509_svids(seen())).svids == first) is same

    inside(steps)


def test_no_jwt_svid_is_handed_out_twice() -> None:
    async def steps(one: House) -> None:
        await one.register()
        tokens = {(await one.trust.jwt_svids(seen(), ["db"]))[0].token_id for _ in range(3)}
        assert len(tokens) == 3

    inside(steps)


# Binaries.


def test_another_binary_at_the_same_path_is_said_once() -> None:
    async def steps(one: House) -> None:
        entry = await one.register(identity="id_01K00000000000000000000001")
        for pid, letter in enumerate("aabb"):
            await one.trust.x509_svids(seen("unix:path:/bin/a", f"unix:sha256:{letter * 64}", pid=pid))
        changed = [event for event in one.store.events if event.type == "trust.binary.changed"]
        assert [(event.subject, event.data["before"], event.data["now"]) for event in changed] == [
            (entry.identity, "a" * 64, "b" * 64)
        ]

    inside(steps)


def test_another_path_is_another_binary() -> None:
    async def steps(one: House) -> None:
        await one.register()
        await one.trust.x509_svids(seen("unix:path:/bin/a", f"unix:sha256:{'a' * 64}"))
        await one.trust.x509_svids(seen("unix:path:/bin/b", f"unix:sha256:{'b' * 64}"))
        assert "trust.binary.changed" not in one.store.types()

    inside(steps)


# The bundle document.


def test_the_bundle_document_is_a_spiffe_bundle() -> None:
    async def steps(one: House) -> None:
        document = json.loads(one.trust.bundle_document())
        by_use = {key["use"]: key for key in document["keys"]}
        assert set(by_use) == {"x509-svid", "jwt-svid"}
        assert "kid" not in by_use["x509-svid"] and len(by_use["x509-svid"]["x5c"]) == 1
        assert by_use["jwt-svid"]["kid"] == one.authority(AuthorityKind.JWT).id
        assert document["spiffe_refresh_hint"] == 300
        assert document["spiffe_sequence"] == len(AuthorityKind)

    inside(steps)
