"""What our own leases and grants are to a proof, and what of a source hides an access."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from remit.access.edges import OwnEdges, control_plane
from remit.governance.pathproof.examine import Examiner
from remit.governance.pathproof.model import Status
from remit.inventory.graph.access_graph import AccessGraph
from remit.inventory.graph.cuts import plain_pricing
from remit.inventory.graph.model import Category, Edge, Node
from remit.inventory.model import Relation
from remit.inventory.records import SourceRecord
from remit.kernel.ids import name
from remit.wiring.pathproof_facts import Own, lacks, own_of

NOW = datetime(2026, 3, 3, 12, tzinfo=UTC)
US = "abcdefgh"
ME, TASK = control_plane(US), name("remit", US, "task", "report")
OWN = (
    Edge(source=ME, relation=Relation.ASSUME, target="admin", evidence="the admin credential of the target db, sealed"),
    Edge(source="id_app", relation=Relation.ASSUME, target=TASK, evidence="lease ls_1 under grant gr_1"),
    Edge(source=TASK, relation=Relation.ASSUME, target="leased", evidence="lease ls_1 under grant gr_1"),
)
FOREIGN = (
    Edge(source="leased", relation=Relation.MEMBER_OF, target="rw"),
    Edge(source="rw", relation=Relation.CAN_REACH, target="t"),
    Edge(source="admin", relation=Relation.CAN_REACH, target="t"),
)


def _proved(*more: Edge, unproved: tuple[str, ...] = ()) -> tuple[Status, list[str]]:
    names = (ME, TASK, "id_app", "leased", "admin", "eve")
    nodes = [Node(name=each, category=Category.IDENTITY, kind="bot", title=each) for each in names]
    nodes += [
        Node(name="rw", category=Category.IDENTITY, kind="group", title="rw"),
        Node(name="t", category=Category.RESOURCE, kind="table", title="t"),
    ]
    graph = AccessGraph.build(nodes, [*OWN, *FOREIGN, *more])
    own: Own = own_of(OwnEdges((), OWN), unproved, graph, US)
    examiner = Examiner(
        graph=graph, guards=own.guards, excuses=(), unmeasured={}, pricing=plain_pricing(), decided=own.decided
    )
    (found,) = examiner.examine(["t"])
    return found.status, sorted(each.identity for each in found.openings)


def test_what_a_task_has_by_its_lease_is_decided_and_so_is_our_own_login() -> None:
    assert _proved() == (Status.DECIDED, [])


def test_who_can_become_the_leased_login_otherwise_is_open() -> None:
    assert _proved(Edge(source="eve", relation=Relation.ASSUME, target="leased")) == (Status.OPEN, ["eve"])


def test_who_holds_our_own_logins_credential_is_open() -> None:
    held = Edge(source="eve", relation=Relation.IMPERSONATE, target="admin")
    assert _proved(held) == (Status.OPEN, ["eve"])


def test_a_lease_whose_end_could_not_be_shown_is_open() -> None:
    status, who = _proved(unproved=("ls_1",))
    assert status is Status.OPEN and {"id_app", "leased"} <= set(who)


def _source(**changes: object) -> SourceRecord:
    said: dict[str, object] = {
        "id": "so_1", "connector": "postgres", "instance": "x", "scope": "x", "run": "r", "started": NOW,
        "finished": NOW, "counts": {}, "skipped": (), "record_of": ("postgres",), **changes,
    }  # fmt: skip
    return SourceRecord(**said)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "changes",
    [
        {"finished": None},
        {"finished": NOW - timedelta(days=8)},
        {"skipped": ({"what": "pg_hba", "reason": "not-permitted"},)},
    ],
)
def test_a_source_that_did_not_read_all_of_today_leaves_its_resources_unmeasured(changes: dict[str, object]) -> None:
    assert lacks([_source(**changes)], NOW)
    assert not lacks([_source(**changes), _source()], NOW)


def test_a_resource_that_no_source_of_record_read_is_unmeasured() -> None:
    assert lacks([], NOW) and not lacks([_source()], NOW)
