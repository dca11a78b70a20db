"""What escapes policy, what is certified, and what a native log shows besides."""

from __future__ import annotations

import base64
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest

from remit.governance import exceptions
from remit.governance.model import ExceptionDraft
from remit.governance.pathproof import certificate
from remit.governance.pathproof.examine import Examiner, counted, scope_digest
from remit.governance.pathproof.excuses import excuses_of
from remit.governance.pathproof.model import RULE, Excuse, Guard, GuardKind, Policy, Report, Status, Verdict
from remit.governance.pathproof.native import LeaseLife, Seen, Used, bypasses
from remit.governance.testing import GovernanceMemoryUnit, KeyedAttester, Keyholder
from remit.inventory.graph.access_graph import AccessGraph
from remit.inventory.graph.cuts import plain_pricing
from remit.inventory.graph.model import Category, Edge, Node
from remit.inventory.model import Relation
from remit.inventory.use.model import UseRow
from remit.kernel.canonical import canonical
from remit.kernel.clock import ManualClock, rfc3339
from remit.kernel.errors import Rejected
from remit.kernel.ids import Name
from remit.ledger.checkpoint import Checkpoint
from remit.ledger.merkle import InclusionProof, leaf_hash
from remit.ledger.note import Ed25519Signer

NOW = datetime(2026, 3, 3, 12, tzinfo=UTC)
ATTESTER = KeyedAttester()
KEY = Ed25519Signer.from_seed("log.test", bytes(range(32)))


def _graph(*edges: tuple[str, Relation, str], groups: tuple[str, ...] = ()) -> AccessGraph:
    names = dict.fromkeys(name for source, _, target in edges for name in (source, target))
    nodes = [
        Node(
            name=name,
            title=name,
            category=Category.RESOURCE if name.startswith("t") else Category.IDENTITY,
            kind="group" if name in groups else "bot",
        )
        for name in names
    ]
    return AccessGraph.build(nodes, [Edge(source=s, relation=r, target=t, actions=("SELECT",)) for s, r, t in edges])


def _examine(graph: AccessGraph, *guards: Guard, excuses: tuple[Excuse, ...] = (), **more: Any) -> Verdict:
    examiner = Examiner(
        graph=graph, guards=guards, excuses=excuses, unmeasured=more.get("unmeasured", {}), pricing=plain_pricing(),
        work=more.get("work", 1_000_000),
    )  # fmt: skip
    return examiner.examine(["t"])[0]


def _guard(node: str, *resources: str) -> Guard:
    return Guard(node=node, kind=GuardKind.ENFORCER, why="", resources=resources)


def _excuse(*identities: str, actions: tuple[str, ...] = ("reach",), resource: str = "t") -> Excuse:
    return Excuse(
        id="ex_1", identities=frozenset(identities), actions=frozenset(actions), resource=resource,
        expires=NOW + timedelta(days=1),
    )  # fmt: skip


REACH, MEMBER, ASSUME = Relation.CAN_REACH, Relation.MEMBER_OF, Relation.ASSUME


def test_who_asks_the_enforcement_point_is_decided_and_who_goes_beside_it_is_open() -> None:
    graph = _graph(("app", REACH, "gate"), ("gate", REACH, "t"), ("eve", REACH, "t"))
    found = _examine(graph, _guard("gate"))
    assert (found.status, found.open, found.decided) == (Status.OPEN, 1, 2)
    assert [each.identity for each in found.openings] == ["eve"]


def test_who_can_become_the_enforcement_point_passes_no_decision() -> None:
    graph = _graph(("eve", ASSUME, "gate"), ("gate", REACH, "t"))
    assert [each.identity for each in _examine(graph, _guard("gate")).openings] == ["eve"]


def test_a_binding_to_another_resource_guards_nothing_here() -> None:
    graph = _graph(("gate", REACH, "t"))
    assert _examine(graph, _guard("gate", "t")).status is Status.DECIDED
    assert _examine(graph, _guard("gate", "other")).status is Status.OPEN


def test_an_exception_excuses_its_identity_and_nobody_who_joins_its_group() -> None:
    graph = _graph(("old", MEMBER, "team"), ("new", MEMBER, "team"), ("team", REACH, "t"), groups=("team",))
    found = _examine(graph, excuses=(_excuse("old"),))
    assert [each.identity for each in found.openings] == ["new"] and found.excepted == 1
    assert _examine(graph, excuses=(_excuse("old", "new"),)).status is Status.EXCEPTED
    assert _examine(graph, excuses=(_excuse("team"),)).open == 2


def test_who_can_become_an_excepted_identity_is_not_excepted_with_it() -> None:
    graph = _graph(("pipeline", ASSUME, "admin"), ("admin", REACH, "t"))
    found = _examine(graph, excuses=(_excuse("admin"),))
    assert [each.identity for each in found.openings] == ["pipeline"] and found.excepted == 1
    assert _examine(graph, excuses=(_excuse("admin", "pipeline"),)).status is Status.EXCEPTED


def test_an_exception_for_fewer_actions_than_the_right_has_excuses_nothing() -> None:
    graph = _graph(("old", REACH, "t"))
    assert _examine(graph, excuses=(_excuse("old", actions=("SELECT",)),)).status is Status.EXCEPTED
    assert _examine(graph, excuses=(_excuse("old", actions=("INSERT",)),)).status is Status.OPEN


def test_what_was_not_wholly_read_is_unmeasured_even_where_nothing_open_is_seen() -> None:
    graph = _graph(("gate", REACH, "t"))
    assert _examine(graph, _guard("gate"), unmeasured={"t": ("stale",)}).status is Status.UNMEASURED


def test_a_proof_without_time_left_says_unmeasured() -> None:
    assert _examine(_graph(("eve", REACH, "t")), work=-1).status is Status.UNMEASURED


def test_the_cut_that_is_proposed_closes_every_opening() -> None:
    graph = _graph(("a", MEMBER, "team"), ("b", MEMBER, "team"), ("team", REACH, "t"), groups=("team",))
    found = _examine(graph)
    assert found.cut is not None and found.cut.possible
    gone = {id(each.edge) for each in found.cut.edges}
    rest = [edge for edge in graph.edges if id(edge) not in gone]
    assert _examine(AccessGraph.build(graph.nodes, rest)).status is Status.UNREACHED


def test_resources_with_the_same_edges_are_one_verdict() -> None:
    graph = _graph(*[("eve", REACH, f"t{at}") for at in range(300)])
    examiner = Examiner(graph=graph, guards=(), excuses=(), unmeasured={}, pricing=plain_pricing())
    verdicts = examiner.examine([f"t{at}" for at in range(300)])
    assert len(verdicts) == 1 and counted(verdicts)["open"] == 300


def test_the_digest_changes_with_any_way_and_not_with_the_order() -> None:
    edges = [("a", MEMBER, "team"), ("team", REACH, "t"), ("b", REACH, "tx")]
    first = scope_digest(_graph(*edges), ["t"])
    assert scope_digest(_graph(*reversed(edges)), ["t"]) == first
    assert scope_digest(_graph(*edges, ("b", MEMBER, "a")), ["t"])[0] != first[0]


# Exceptions


def _approved(unit: GovernanceMemoryUnit, bob: Keyholder, *compensating: str, rule: str = RULE) -> str:
    draft = ExceptionDraft(
        rule=rule, identities=("id_1",), actions=("reach",), resource="t", reason="until it is moved",
        compensating=compensating, expires=unit.now + timedelta(days=3),
    )  # fmt: skip
    unit.identities.add("id_1")
    asked = exceptions.request(unit, draft, requester="person:alice")
    return exceptions.approve(unit, asked.id, by=bob.approver(unit), digest=asked.digest, attester=ATTESTER).id


def _excuses(unit: GovernanceMemoryUnit) -> tuple[list[str], list[str]]:
    found, refused = excuses_of(unit.governance.exceptions(), (), unit.now, ATTESTER)
    return [each.id for each in found], refused


def test_an_exception_that_has_ended_excuses_nothing(
    unit: GovernanceMemoryUnit, clock: ManualClock, alice: Keyholder, bob: Keyholder
) -> None:
    known = _approved(unit, bob, "one host only")
    assert _excuses(unit) == ([known], [])
    clock.advance(timedelta(days=3))
    found, refused = _excuses(unit)
    assert not found and "has ended" in refused[0]


def test_a_compensating_control_that_can_be_tried_must_have_been(
    unit: GovernanceMemoryUnit, alice: Keyholder, bob: Keyholder
) -> None:
    _approved(unit, bob, "segment:orders")
    found, refused = _excuses(unit)
    assert not found and "never probed" in refused[0]


def test_an_exception_from_another_control_excuses_no_path(
    unit: GovernanceMemoryUnit, alice: Keyholder, bob: Keyholder
) -> None:
    _approved(unit, bob, "one host only", rule="owner-required")
    assert _excuses(unit) == ([], [])


# The certificate


def _report(**changes: Any) -> Report:
    verdict = Verdict(
        resources=("t",), titles=("t",), status=Status.DECIDED, decided=1, excepted=0, open=0, conditional=0
    )
    policy = Policy(digest="sha256:0", version="pv_1", proved=("path-proof: x",), failed=(), solver="z3")
    whole = Report(
        scope="resource:t", now=NOW, verdicts=(verdict,), policy=policy, graph={"digest": "sha256:1"}, guards=(),
        excuses=(), counts={each.value: int(each is Status.DECIDED) for each in Status},
    )  # fmt: skip
    return replace(whole, **changes)


def _file(said: dict[str, Any], *, data: dict[str, Any] | None = None) -> bytes:
    kept = data if data is not None else certificate.entry_data(said)
    entry = canonical({"type": certificate.ENTRY, "data": kept})
    checkpoint = _checkpoint(entry)
    from remit.ledger.proofs import inclusion_bundle

    bundle = inclusion_bundle(InclusionProof(index=0, size=1, hashes=()), checkpoint)
    return certificate.write_file(said, note=certificate.note_over(said, KEY), entry=entry, bundle=bundle.decode())


def _checkpoint(entry: bytes) -> Checkpoint:
    from remit.ledger.checkpoint import verify_checkpoint
    from remit.ledger.note import sign_note

    text = f"{KEY.key.name}\n1\n{base64.b64encode(leaf_hash(entry)).decode()}\n".encode()
    return verify_checkpoint(sign_note(text, KEY), KEY.key)


def test_a_certificate_verifies_by_the_ledgers_key_alone_and_ends() -> None:
    data = _file(certificate.content(_report(), installation="i"))
    assert not certificate.verify_file(data, KEY.key, now=NOW).over
    assert certificate.verify_file(data, KEY.key, now=NOW + certificate.LIFE).over


def test_a_changed_certificate_does_not_verify() -> None:
    file = msgspec.json.decode(_file(certificate.content(_report(), installation="i")))
    file["certificate"]["scope"] = "class:restricted"
    with pytest.raises(Rejected) as caught:
        certificate.verify_file(msgspec.json.encode(file), KEY.key, now=NOW)
    assert caught.value.code == "governance.proof.mismatch"


def test_an_entry_of_another_certificate_does_not_verify() -> None:
    said = certificate.content(_report(), installation="i")
    with pytest.raises(Rejected) as caught:
        certificate.verify_file(_file(said, data={"digest": "sha256:other"}), KEY.key, now=NOW)
    assert caught.value.code == "governance.proof.mismatch"


@pytest.mark.parametrize("junk", [b"", b"{}", b"[1]", b'{"v":1,"certificate":{},"note":"","entry":"","bundle":""}'])
def test_what_is_no_certificate_is_refused(junk: bytes) -> None:
    with pytest.raises(Rejected) as caught:
        certificate.verify_file(junk, KEY.key, now=NOW)
    assert caught.value.code == "governance.proof.malformed"


def test_a_certificate_ends_with_the_first_exception_on_which_it_rests() -> None:
    report = _report()
    resting = replace(report.verdicts[0], excuses=("ex_1",))
    said = certificate.content(replace(report, verdicts=(resting,), excuses=(_excuse("a"),)), installation="i")
    assert said["expires"] == rfc3339(NOW + timedelta(days=1))


@pytest.mark.parametrize(
    "changes",
    [
        {"verdicts": ()},
        {"policy": Policy(digest="", version="", proved=("x",), failed=("y: hole",), solver="z3")},
        {"policy": Policy(digest="", version="", proved=(), failed=(), solver="", unmeasured="no solver")},
        {"cut_short": "too large"},
    ],
)
def test_nothing_is_certified_of_an_empty_scope_an_unproved_policy_or_half_a_graph(changes: dict[str, Any]) -> None:
    assert not _report().obstacles
    assert _report(**changes).obstacles


# Native logs


def _used(local: str, *, days: dict[str, int], identity: str = "id_a", last: datetime = NOW, **more: Any) -> Used:
    row = UseRow(
        name=Name(f"urn:remit:db:x:user:{local}"), first=more.get("first", NOW - timedelta(days=9)), last=last,
        count=sum(days.values()), days=days, consumers=more.get("consumers", {"10.0.0.9 psql": 1}),
    )  # fmt: skip
    return Used(row=row, identity=identity, local=local, ours=more.get("ours", False))


def _why(use: Used, **seen: Any) -> list[str]:
    return [each.why for each in bypasses([use], Seen(**{"reaching": {"id_a"}, **seen}), NOW)]


def test_a_use_on_a_day_without_any_decision_is_a_bypass() -> None:
    use = _used("app", days={"2026-03-01": 2, "2026-03-03": 1})
    assert _why(use) and "2 days" in _why(use)[0]
    assert "2026-03-01" in _why(use, decided_days={"id_a": [NOW.date()]})[0]
    both = {"id_a": [NOW.date(), NOW.date() - timedelta(days=2)]}
    assert not _why(use, decided_days=both)


def test_our_own_count_of_decisions_is_no_access() -> None:
    assert not _why(_used("app", days={"2026-03-03": 5}, consumers={}))


def test_guards_excepted_ones_and_who_does_not_reach_it_are_left_alone() -> None:
    use = _used("app", days={"2026-03-03": 1})
    assert not _why(use, trusted={"id_a"}) and not _why(use, reaching=set())


def test_a_name_that_nothing_knows_is_a_bypass() -> None:
    assert _why(_used("ghost", days={"2026-03-03": 1}, identity=""))


def test_a_lease_is_held_to_its_life() -> None:
    use = _used("remit_x", days={"2026-03-03": 1}, ours=True, first=NOW - timedelta(minutes=9))
    life = LeaseLife(created=NOW - timedelta(minutes=10), ended=None)
    assert not _why(use, leases={"remit_x": life})
    assert "ended" in _why(use, leases={"remit_x": replace(life, ended=NOW - timedelta(minutes=5))})[0]
    assert "before" in _why(use, leases={"remit_x": replace(life, created=NOW)})[0]
    assert "no lease" in _why(use)[0]


def test_what_is_older_than_the_window_is_not_looked_at() -> None:
    assert not _why(_used("ghost", days={"2026-01-01": 1}, identity="", last=NOW - timedelta(days=40)))
