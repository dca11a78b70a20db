"""The snapshot: names, groups, deltas, gaps, and what is never forgotten."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

from remit.access.policy.compile import compile_policies
from remit.access.policy.values import Uid
from remit.access.snapshot import Delta, ExceptionFacts, IdentityFacts, ResourceFacts, Snapshot, SnapshotCell
from remit.wiring.snapshots import issuer_facts

JOB = IdentityFacts(id="id_1", name="urn:remit:a:b:c:job", kind="workload", names=("spiffe://d/job",), groups=("id_2",))
GROUP = IdentityFacts(id="id_2", name="urn:remit:a:b:c:jobs", kind="group", groups=("id_3",))
TOP = IdentityFacts(id="id_3", name="urn:remit:a:b:c:all", kind="group", groups=("id_2",))
ORDERS = ResourceFacts(name="urn:remit:a:b:db:orders", kind="target", names=("target/orders",), parents=("urn:x",))
NOTHING = compile_policies("")


def snapshot(**more: object) -> Snapshot:
    return Snapshot.of(NOTHING, epoch=1, sequence=5, at=0.0, identities=[JOB, GROUP, TOP], resources=[ORDERS], **more)


def test_an_identity_is_found_by_any_name() -> None:
    found = [snapshot().identity(name) for name in ("id_1", "urn:remit:a:b:c:job", "spiffe://d/job", "nobody")]
    assert found == [JOB, JOB, JOB, None]


def test_names_and_groups_are_ancestors_even_around_a_cycle() -> None:
    ids = {uid.id for uid in snapshot().see_identity(JOB).view.ancestors}
    assert ids == {
        *("id_1", "urn:remit:a:b:c:job", "spiffe://d/job"),
        *("id_2", "urn:remit:a:b:c:jobs", "id_3", "urn:remit:a:b:c:all"),
    }


def test_a_resource_is_found_by_kind_and_name_or_by_name() -> None:
    assert snapshot().resource("target", "orders") is ORDERS
    assert snapshot().resource("anything", "urn:remit:a:b:db:orders") is ORDERS


def test_an_unknown_resource_is_restricted_and_not_known() -> None:
    view = snapshot().see_resource("target", "nope").view
    assert view.uid == Uid("Remit::Resource", "target/nope")
    assert (view.attributes["sensitivity"], view.attributes["known"]) == ("restricted", False)


def test_an_identity_is_never_seen_as_a_resource() -> None:
    whole = snapshot()
    whole.see_identity(JOB)
    assert whole.see_resource("identity", "id_1").view.uid.type == "Remit::Resource"
    assert whole.see_resource("Remit::Identity", "id_1").view.uid.type == "Remit::Resource"


def test_a_delta_changes_what_is_seen() -> None:
    before = snapshot()
    before.see_identity(JOB)
    renamed = IdentityFacts(id="id_1", name="urn:new", kind="workload", tier=3)
    after = before.with_delta(Delta(epoch=1, sequence=6, identities={"id_1": renamed}), at=1.0)
    assert (after.identity("urn:new"), after.identity("spiffe://d/job")) == (renamed, None)
    assert after.see_identity(renamed).view.attributes["tier"] == 3
    assert before.identity("spiffe://d/job") is JOB


def test_a_name_that_moved_to_another_identity_stays_there() -> None:
    other = IdentityFacts(id="id_9", name="spiffe://d/job", kind="workload")
    moved = snapshot().with_delta(Delta(epoch=1, sequence=6, identities={"id_9": other}), at=1.0)
    gone = moved.with_delta(Delta(epoch=1, sequence=7, identities={"id_1": None}), at=1.0)
    assert gone.identity("spiffe://d/job") is other


def test_a_quarantine_shows_in_the_attributes() -> None:
    before = snapshot()
    before.see_identity(JOB)
    after = before.with_delta(Delta(epoch=1, sequence=6, quarantined={"id_1": "rogue"}), at=1.0)
    assert after.see_identity(JOB).view.attributes["quarantined"] is True


def test_a_delta_seen_before_changes_nothing() -> None:
    whole = snapshot()
    assert whole.with_delta(Delta(epoch=1, sequence=5, revoked={"id_1": "x"}), at=9.0) is whole


def test_a_gap_is_marked_at_once() -> None:
    assert snapshot().with_delta(Delta(epoch=1, sequence=7), at=1.0).gap
    assert snapshot().with_delta(Delta(epoch=2, sequence=6), at=1.0).gap


def test_a_revocation_survives_the_load_of_a_restored_snapshot() -> None:
    cell = SnapshotCell(snapshot())
    assert cell.apply(Delta(epoch=1, sequence=6, revoked={"id_1": "leaked"}), at=1.0)
    assert cell.load(replace(snapshot(), epoch=2, sequence=0))
    assert cell.current().revoked.get("id_1") == "leaked"


def test_an_older_snapshot_is_not_loaded() -> None:
    cell = SnapshotCell(snapshot())
    assert not cell.load(replace(snapshot(), sequence=4))


def test_a_whole_snapshot_mends_a_gap() -> None:
    cell = SnapshotCell(snapshot())
    assert not cell.apply(Delta(epoch=1, sequence=9), at=1.0)
    assert cell.load(replace(snapshot(), sequence=9))
    assert not cell.current().gap


def test_a_heartbeat_never_goes_back() -> None:
    assert snapshot().current_at(5.0).current_at(3.0).heartbeat == 5.0


def test_exceptions_follow_their_identities() -> None:
    moment = datetime(2026, 1, 1, tzinfo=UTC)
    facts = ExceptionFacts(
        id="ex_1",
        rule="r",
        identities=frozenset(("id_1",)),
        actions=frozenset(("lease",)),
        resource="target/*",
        expires=moment + timedelta(hours=1),
    )
    whole = snapshot(exceptions=[facts])
    orders = whole.see_resource("target", "orders").view
    assert whole.exceptions_for("id_1") == [facts]
    assert facts.covers("lease", orders, moment)
    assert not facts.covers("lease", orders, facts.expires)
    ended = whole.with_delta(Delta(epoch=1, sequence=6, exceptions={"ex_1": None}), at=1.0)
    assert ended.exceptions_for("id_1") == []


def test_the_token_service_lends_its_sensitivity_to_nothing_else_at_its_url() -> None:
    url = "http://127.0.0.1:8420"
    known = Snapshot.of(NOTHING, epoch=1, sequence=1, at=0.0, resources=[issuer_facts(url)])
    assert known.resource("token-service", url) is not None
    assert known.resource("api", url) is None and known.resource("page", url) is None
