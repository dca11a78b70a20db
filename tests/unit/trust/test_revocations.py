"""The cascade on a real database: what falls, what stays blocked, what a restart and a hostile row change."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from sqlalchemy import text

from remit.kernel.errors import Conflict, Denied, NotFound, Rejected
from remit.trust.model import AuthorityKind
from remit.trust.revocation import Subject, cascade
from remit.trust.revocation.cascade import Order
from remit.trust.testing import NOON
from revocation_house import House, inside, issued, itself, seen

IDENTITY = "id_01K00000000000000000000001"


def serials(one: House) -> set[int]:
    """Every serial on any published list."""
    lists = [x509.load_der_x509_crl(each) for each in one.trust.crls()]
    return {revoked.serial_number for each in lists for revoked in each}


def test_a_serial_gets_its_successor_at_once_and_stands_on_the_list(tmp_path: Path) -> None:
    async def steps(one: House) -> None:
        await one.register()
        (first,) = (await one.trust.x509_svids(seen())).svids
        await one.revoke(f"serial:{first.serial:x}", reason="")
        (second,) = (await one.trust.x509_svids(seen())).svids
        assert second.serial != first.serial
        assert serials(one) == {first.serial}

    inside(tmp_path, steps)


def test_a_jwt_svid_is_refused_by_its_id_and_others_are_not(tmp_path: Path) -> None:
    async def steps(one: House) -> None:
        await one.register()
        (first,), (second,) = [await one.trust.jwt_svids(seen(), ["db"]) for _ in range(2)]
        await one.revoke(f"jti:{first.token_id}", reason="")
        with pytest.raises(Rejected) as refused:
            one.trust.validate_jwt(first.token, "db")
        assert refused.value.code == "trust.jwt_svid.revoked"
        assert one.trust.validate_jwt(second.token, "db").spiffe_id == second.spiffe_id

    inside(tmp_path, steps)


def test_an_entry_gets_nothing_until_it_is_restored_and_then_only_new_ones(tmp_path: Path) -> None:
    async def steps(one: House) -> None:
        entry = await one.register()
        (svid,) = (await one.trust.x509_svids(seen())).svids
        (token,) = await one.trust.jwt_svids(seen(), ["db"])
        made = await one.revoke(f"entry:{entry.id}")
        assert made.fell == {"jwt-svid": 1, "x509-svid": 1}
        with pytest.raises(Denied):
            await one.trust.x509_svids(seen())
        one.clock.advance(timedelta(seconds=1))
        await one.service.restore(entry.id, by="person:ann", reason="mended")
        one.clock.advance(timedelta(seconds=1))
        assert (await one.trust.x509_svids(seen())).svids[0].serial != svid.serial
        with pytest.raises(Rejected):
            one.trust.validate_jwt(token.token, "db")
        (fresh,) = await one.trust.jwt_svids(seen(), ["db"])
        assert one.trust.validate_jwt(fresh.token, "db")

    inside(tmp_path, steps)


@pytest.mark.parametrize(
    ("subject", "given"),
    [
        ("spiffe://remit.test/job", {}),
        (f"identity:{IDENTITY}", {"identity": IDENTITY}),
        ("agent:ag_01K00000000000000000000001", {"agent": "ag_01K00000000000000000000001"}),
        ("grant:gr_01K00000000000000000000001", {"grant": "gr_01K00000000000000000000001", "kind": "access-token"}),
    ],
)
def test_each_subject_takes_with_it_what_was_issued_for_it_and_no_more(
    tmp_path: Path, subject: str, given: dict[str, str]
) -> None:
    async def steps(one: House) -> None:
        await one.issue(issued(1, **given), issued(2, spiffe_id="spiffe://remit.test/other"))
        made = await one.revoke(subject)
        index = one.service.index
        assert sum(made.fell.values()) == 1
        assert index.is_revoked(id=issued(1).id)
        assert not index.is_revoked(id=issued(2).id, spiffe_id="spiffe://remit.test/other", issued_at=NOON)

    inside(tmp_path, steps)


def test_what_overlapping_revocations_block_needs_each_of_them_restored(tmp_path: Path) -> None:
    async def steps(one: House) -> None:
        entry = await one.register()
        await one.revoke(f"entry:{entry.id}")
        await one.revoke(str(entry.spiffe_id))
        await one.service.restore(str(entry.spiffe_id), by="person:ann", reason="one")
        assert one.trust.match(seen()) == ()
        await one.service.restore(entry.id, by="person:ann", reason="other")
        assert one.trust.match(seen()) == (entry,)

    inside(tmp_path, steps)


def test_what_was_issued_while_the_revocation_was_written_falls_at_the_restoration(tmp_path: Path) -> None:
    async def steps(one: House) -> None:
        await one.revoke("spiffe://remit.test/job")
        await one.issue(issued(5))
        one.clock.advance(timedelta(seconds=5))
        await one.service.restore("spiffe://remit.test/job", by="person:ann", reason="mended")
        assert one.service.index.is_revoked(id=issued(5).id)
        assert issued(5).id in one.service.index.fallen()

    inside(tmp_path, steps)


def test_a_dry_run_counts_and_changes_nothing(tmp_path: Path) -> None:
    async def steps(one: House) -> None:
        await one.issue(issued(1, identity=IDENTITY), issued(2, identity=IDENTITY, kind="jwt-svid"))
        order = Order(subject=Subject.parse(f"identity:{IDENTITY}"), reason="", actor="person:ann")
        found = await one.service.effect(order, itself)
        assert (found.counts, found.identities) == ({"jwt-svid": 1, "x509-svid": 1}, (IDENTITY,))
        assert (one.service.index.version, len(one.service.index)) == (0, 0)

    inside(tmp_path, steps)


def test_a_wide_revocation_needs_a_reason_and_a_single_one_does_not(tmp_path: Path) -> None:
    async def steps(one: House) -> None:
        await one.issue(issued(1))
        await one.revoke(f"serial:{issued(1).id}", reason="")
        with pytest.raises(Rejected) as refused:
            await one.revoke("spiffe://remit.test/job", reason=" ")
        assert refused.value.code == "trust.revocation.reason"

    inside(tmp_path, steps)


def test_an_unknown_serial_is_refused_unless_it_is_meant(tmp_path: Path) -> None:
    async def steps(one: House) -> None:
        with pytest.raises(NotFound):
            await one.revoke("serial:abc")
        await one.revoke("serial:abc", unseen=True)
        assert serials(one) == {0xABC}

    inside(tmp_path, steps)


def test_what_cannot_be_restored_says_so(tmp_path: Path) -> None:
    async def steps(one: House) -> None:
        await one.issue(issued(1))
        made = await one.revoke(f"serial:{issued(1).id}")
        for named, kind in ((made.id, Conflict), ("spiffe://remit.test/none", NotFound)):
            with pytest.raises(kind):
                await one.service.restore(named, by="person:ann", reason="x")

    inside(tmp_path, steps)


def test_versions_only_rise_even_where_rows_were_taken_away(tmp_path: Path) -> None:
    async def steps(one: House) -> None:
        await one.issue(issued(1), issued(2))
        first = await one.revoke(f"serial:{issued(1).id}")

        def rob(unit: Any) -> None:
            for table in ("trust_revocation", "trust_revocation_clock"):
                unit.conn.execute(text(f"DELETE FROM {table}"))

        await one.store.write(rob)
        assert (await one.revoke(f"serial:{issued(2).id}")).version > first.version

    inside(tmp_path, steps)


# After a restart.


def test_a_restart_knows_what_was_committed_though_nothing_was_published(tmp_path: Path) -> None:
    async def steps(one: House) -> None:
        entry = await one.register()
        (svid,) = (await one.trust.x509_svids(seen())).svids
        order = Order(subject=Subject.parse(entry.id), reason="killed", actor="person:ann")
        await one.store.write(lambda unit: cascade.make(unit, order, itself, known=(), least=0))
        second = one.again()
        await second.open()
        assert second.index.is_revoked(id=f"{svid.serial:x}")
        assert second.index.is_blocked(entry=entry.id)
        assert serials(one) == {svid.serial}

    inside(tmp_path, steps)


def test_a_restoration_that_somebody_wrote_into_the_database_does_not_count(tmp_path: Path) -> None:
    async def steps(one: House) -> None:
        entry = await one.register()
        await one.revoke(entry.id)
        forged = "UPDATE trust_revocation SET restored_at = at + 1, restored_by = 'person:eve', signature = '00'"
        await one.store.write(lambda unit: unit.conn.execute(text(forged)) and None)
        second = one.again()
        await second.open()
        assert second.index.is_blocked(entry=entry.id)

    inside(tmp_path, steps)


def test_a_genuine_restoration_stays(tmp_path: Path) -> None:
    async def steps(one: House) -> None:
        entry = await one.register()
        await one.revoke(entry.id)
        await one.service.restore(entry.id, by="person:ann", reason="mended")
        second = one.again()
        await second.open()
        assert not second.index.is_blocked(entry=entry.id)

    inside(tmp_path, steps)


def test_what_the_journal_kept_is_put_back(tmp_path: Path) -> None:
    async def steps(one: House) -> None:
        await one.issue(issued(1))
        made = await one.revoke("spiffe://remit.test/job")
        fallen = tuple(one.service.index.fallen().values())
        for table in ("trust_revocation", "trust_fallen", "trust_issued"):
            await one.store.write(lambda unit, table=table: unit.conn.execute(text(f"DELETE FROM {table}")) and None)
        second = one.again()
        await second.open([(made, fallen)])
        assert second.index.is_revoked(id=issued(1).id)
        assert await one.store.read(lambda unit: unit.revocations.revocations()) == [made]
        assert await one.store.read(lambda unit: unit.revocations.fallen()) == list(fallen)

    inside(tmp_path, steps)


@pytest.mark.parametrize("change", ["subject = 'nonsense'", "members = '[1]'", "members = '{}'"])
def test_a_broken_row_breaks_nothing(tmp_path: Path, change: str) -> None:
    async def steps(one: House) -> None:
        await one.issue(issued(1))
        await one.revoke(f"serial:{issued(1).id}")
        await one.store.write(lambda unit: unit.conn.execute(text(f"UPDATE trust_revocation SET {change}")) and None)
        await one.store.write(
            lambda unit: unit.conn.execute(text("UPDATE trust_fallen SET id = 'zz', status = '//'")) and None
        )
        second = one.again()
        await second.open()
        assert len(one.trust.crls()) == len(second.lists)

    inside(tmp_path, steps)


# Time.


def test_nothing_is_kept_longer_than_it_must(tmp_path: Path) -> None:
    async def steps(one: House) -> None:
        await one.issue(issued(1), issued(2))
        await one.revoke(f"serial:{issued(1).id}")
        held = await one.revoke("spiffe://remit.test/job")
        one.clock.advance(timedelta(hours=2))
        await one.service.sweep()
        assert one.service.index.all() == (held,)
        await one.service.restore(held.id, by="person:ann", reason="mended")
        one.clock.advance(timedelta(hours=1))
        await one.service.sweep()

        def left(unit: Any) -> Sequence[object]:
            tables = ("trust_revocation", "trust_fallen", "trust_issued")
            return [unit.conn.execute(text(f"SELECT count(*) FROM {table}")).scalar() for table in tables]

        assert (len(one.service.index), one.service.index.all()) == (0, ())
        assert await one.store.read(left) == [0, 0, 0]
        assert not one.service.index.is_revoked(spiffe_id="spiffe://remit.test/job")

    inside(tmp_path, steps)


def test_a_serial_stays_on_the_list_for_a_while_after_its_certificate_expired(tmp_path: Path) -> None:
    async def steps(one: House) -> None:
        await one.issue(issued(1, minutes=1))
        await one.revoke(f"serial:{issued(1).id}")
        one.clock.advance(timedelta(minutes=10))
        await one.service.tend()
        assert serials(one) == {int(issued(1).id, 16)}

    inside(tmp_path, steps)


def test_lists_are_signed_anew_before_they_run_out_and_their_number_rises(tmp_path: Path) -> None:
    async def steps(one: House) -> None:
        (first,) = one.service.lists.values()
        await one.service.tend()
        assert list(one.service.lists.values()) == [first]
        one.clock.advance(timedelta(minutes=6))
        await one.service.tend()
        (second,) = one.service.lists.values()
        assert second.number > first.number
        assert second.next_update > first.next_update

    inside(tmp_path, steps)


def test_each_published_authority_has_a_list_of_its_own_serials_by_its_own_key(tmp_path: Path) -> None:
    async def steps(one: House) -> None:
        await one.register()
        (old,) = (await one.trust.x509_svids(seen(1))).svids
        await one.trust.rotate_authority(AuthorityKind.X509, actor="person:ann")
        (new,) = (await one.trust.x509_svids(seen(2))).svids
        for svid in (old, new):
            await one.revoke(f"serial:{svid.serial:x}")
        for svid in (old, new):
            found = x509.load_der_x509_crl(one.service.list_of(svid.authority).certificate_list)
            root = next(
                r for r in map(x509.load_der_x509_certificate, one.trust.bundle.x509_roots) if r.subject == found.issuer
            )
            assert found.is_signature_valid(root.public_key())  # type: ignore[arg-type]
            assert [each.serial_number for each in found] == [svid.serial]

    inside(tmp_path, steps)


def test_a_storm_is_one_commit(tmp_path: Path) -> None:
    async def steps(one: House) -> None:
        owned = [f"id_01K0000000000000000000{number:04d}" for number in range(1000)]
        await one.issue(*(issued(number, identity=owned[number % 1000]) for number in range(10_000)))
        before = len(one.events)

        def expand(unit: Any, subject: Subject) -> Sequence[Subject]:
            return [subject, *(Subject.parse(f"identity:{each}") for each in owned)]

        made = await one.revoke("owner:person:bob", expand=expand)
        said = one.events[before:]
        assert made.fell == {"x509-svid": 10_000}
        assert len({event.time for event in said}) == 1
        assert sum(len(event.data.get("fallen", [])) for event in said) == 10_000  # type: ignore[arg-type]
        assert len(serials(one)) == 10_000
        assert one.service.index.is_blocked(identity=owned[7])

    inside(tmp_path, steps)
