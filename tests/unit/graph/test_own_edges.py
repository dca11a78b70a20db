"""Remit in its own graph: its brokers' logins, live leases, open grants, the vault and entries."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta

from remit.access.edges import OwnEdges, OwnRecords, control_plane, own_access
from remit.access.leases.model import HeldLease
from remit.access.model import Entity, Grant, GrantState, Lease, LeaseState, Request, Target
from remit.access.secrets import StaticSecret
from remit.inventory.graph.access_graph import AccessGraph
from remit.inventory.graph.blast import Blast, blast
from remit.inventory.graph.model import Category, Edge, Node
from remit.inventory.model import Relation
from remit.kernel.ids import credential_name, name
from remit.trust.model import Entry, Selector
from remit.trust.spiffe import SpiffeId

NOW = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)
BILLING = "id_01M82A6G50RVHHDEY2TGAX15YZ"
ADMIN = "id_01M82A6G50RVHHDEY2TGAX15ZZ"
SHOP = Target(
    name="shop", system="postgres", host="127.0.0.1", port=5432, database="shop", user="remit_admin",
    roles={"read": "app_ro"}, instance="7312",
)  # fmt: skip
KNOWN = {
    name("postgres", "localhost:5432", "role", "remit_admin"): ADMIN,
    name("postgres", "7312", "role", "app_ro"): "id_ro",
}


def known(names: Collection[str]) -> Mapping[str, str]:
    return {each: KNOWN[each] for each in names if each in KNOWN}


def lease(state: LeaseState = LeaseState.ACTIVE) -> HeldLease:
    made = Lease(
        id="ls_1", grant="gr_1", identity=BILLING, task="nightly", target="shop", need="postgres://shop?role=read",
        principal="remit_test0001_1", state=state, process=None, created=NOW, expires=NOW + timedelta(minutes=5),
    )  # fmt: skip
    request = Request(subject=Entity(type="Identity", id=BILLING), action="use", resource=Entity(type="Role", id="x"))
    return HeldLease(lease=made, sealed=b"", role="app_ro", database="shop", request=request, holder="en", epoch=1)


def grant() -> Grant:
    return Grant(
        id="gr_1", identity=BILLING, task="nightly", task_digest="sha256:0", needs=("postgres://shop?role=read",),
        decision="de_1", created=NOW, expires=NOW + timedelta(hours=1), state=GrantState.APPROVED,
    )  # fmt: skip


def own(**records: object) -> OwnEdges:
    return own_access(OwnRecords(instance="test0001", targets=(SHOP,), **records), known)  # type: ignore[arg-type]


def reached(source: OwnEdges, start: str, *more: Edge) -> Blast:
    people = [
        Node(name=each, category=Category.IDENTITY, kind="service-account", title=each) for each in (BILLING, ADMIN)
    ]
    return blast(AccessGraph.build([*people, *source.nodes()], [*source.edges(), *more]), start)


def test_who_has_the_control_plane_has_the_login_that_the_inventory_knows() -> None:
    found = {each.node.name: each for each in reached(own(), control_plane("test0001"))}
    assert found[ADMIN].conditional is False
    assert found[ADMIN].via.cut == "remit target rm shop"


def test_a_login_that_nobody_discovered_is_still_there_by_its_address() -> None:
    alone = own_access(OwnRecords(instance="test0001", targets=(SHOP,)), lambda names: {})
    assert name("postgres", "127.0.0.1:5432", "role", "remit_admin") in reached(alone, control_plane("test0001"))


def test_a_live_lease_leads_to_the_role_of_the_target_without_conditions() -> None:
    found = reached(own(leases=(lease(),)), BILLING)
    assert "id_ro" in found and not any(each.conditional for each in found)
    assert [each.relation for each in found.path("id_ro")] == [Relation.ASSUME, Relation.ASSUME, Relation.MEMBER_OF]
    assert found.path("id_ro")[-1].cut == "remit revoke ls_1"


def test_a_lease_that_ended_leads_nowhere() -> None:
    assert "id_ro" not in reached(own(leases=(lease(LeaseState.REVOKED), lease(LeaseState.FAILED))), BILLING)


def test_a_grant_without_a_lease_is_conditional_and_one_with_it_is_told_once() -> None:
    found = {each.node.name: each.conditional for each in reached(own(grants=(grant(),)), BILLING)}
    assert found["id_ro"] is True
    both = own(grants=(grant(),), leases=(lease(),))
    assert [edge for edge in both.edges() if edge.conditions] == []


def test_a_grant_on_a_target_or_role_that_is_gone_is_nothing() -> None:
    lost = replace(grant(), needs=("postgres://other?role=read", "postgres://shop?role=write", "nonsense"))
    assert "id_ro" not in reached(own(grants=(lost,)), BILLING)


def test_a_lease_elsewhere_than_postgres_reaches_the_target_with_its_rules() -> None:
    cache = replace(SHOP, name="shop", system="redis", port=6379, user="remit_broker", roles={"read": "%R~a* +get"})
    source = own_access(
        OwnRecords(instance="test0001", targets=(cache,), leases=(replace(lease(), role="%R~a* +get"),)), known
    )
    [edge] = [edge for edge in source.edges() if edge.actions == ("%R~a* +get",)]
    assert edge.target == name("remit", "test0001", "target", "shop")


def test_a_secret_of_the_vault_is_the_credential_that_was_found_elsewhere() -> None:
    secret = StaticSecret(
        name="orders-key", resources=("service/orders",), version=1, fingerprint="hmac:" + "a" * 64, created=NOW,
        created_by="person:ann", changed=NOW, changed_by="person:ann",
    )  # fmt: skip
    proves = Edge(source=credential_name(secret.fingerprint), relation=Relation.SECRET_OF, target=BILLING)
    assert BILLING in reached(own(secrets=(secret,)), control_plane("test0001"), proves)


def test_who_shows_the_selectors_of_an_entry_is_its_identity() -> None:
    entry = Entry(
        id="en_1", spiffe_id=SpiffeId.parse("spiffe://remit.local/billing"), identity=BILLING, created=NOW,
        selectors=frozenset({Selector.parse("unix:uid:1000"), Selector.parse("unix:path:/bin/x")}),
        x509_ttl=timedelta(hours=1), jwt_ttl=timedelta(minutes=5),
    )  # fmt: skip
    shows = name("remit", "test0001", "selectors", "unix:path:/bin/x,unix:uid:1000")
    assert BILLING in reached(own(entries=(entry,)), shows)
    assert BILLING in reached(own(entries=(entry,)), control_plane("test0001"))


def test_two_readings_without_a_change_are_equal() -> None:
    assert own(leases=(lease(),)) == own(leases=(lease(),)) != own()
