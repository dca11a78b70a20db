"""Enforcement points: how one is registered, what it may then ask, and what anybody may."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from remit.access.enforcers.asking import framed
from remit.access.enforcers.model import Asker, Enforcer
from remit.access.enforcers.registry import (
    EnforcerIndex,
    is_genuine,
    register_enforcer,
    remove_enforcer,
    request_enforcer,
)
from remit.access.model import Entity, Request
from remit.access.policy.compile import compile_policies
from remit.access.policy.facts import IdentityFacts, ResourceFacts
from remit.access.snapshot import Snapshot
from remit.kernel.errors import Conflict, Denied, NotFound, Rejected
from remit.trust.testing import KeyedAttester

NOW = datetime(2026, 1, 1, tzinfo=UTC)
GATEWAY = {"name": "gateway", "spiffe_id": "spiffe://remit.test/gateway"}
KEYS = KeyedAttester()
POINT = Enforcer(id="ef_1", **GATEWAY, created=NOW, created_by="person:ann")
WHOLE = Snapshot.of(
    compile_policies(""), epoch=1, sequence=1, at=0.0,
    identities=[IdentityFacts(id="id_job", name="job", kind="workload", names=("spiffe://remit.test/job",))],
    resources=[
        ResourceFacts(name="database/shop", kind="database", names=("urn:shop",)),
        ResourceFacts(name="target/vault", kind="target", names=("vault",)),
        ResourceFacts(name="table/orders", kind="table", parents=("database/shop",)),
    ],
)  # fmt: skip


class Rows:
    """A unit of work with the rows of enforcement points alone."""

    def __init__(self) -> None:
        self.kept: list[Enforcer] = []
        self.events: list[tuple[str, str]] = []
        self.now = NOW

    @property
    def enforcers(self) -> Rows:
        return self

    def new_id(self, prefix: str) -> str:
        return f"{prefix}_{len(self.events)}"

    def record(self, type: str, /, *, actor: str, subject: str, data: Any = None) -> None:
        self.events.append((type, subject))

    def all(self) -> list[Enforcer]:
        return list(self.kept)

    def named(self, name: str) -> Enforcer | None:
        return next((one for one in self.kept if name in (one.name, one.id)), None)

    def add(self, enforcer: Enforcer) -> None:
        self.kept.append(enforcer)

    def remove(self, enforcer_id: str) -> bool:
        before = len(self.kept)
        self.kept = [one for one in self.kept if one.id != enforcer_id]
        return len(self.kept) < before


def register(rows: Rows, **settings: Any) -> Enforcer:
    return register_enforcer(rows, request_enforcer(**{**GATEWAY, **settings}), actor="person:ann", attester=KEYS)


def ask(
    asker: Asker, *, subject: str = "id_job", kind: str = "database", name: str = "shop", action: str = "read",
    **claimed: Any,
) -> Request:  # fmt: skip
    request = Request(
        subject=Entity(type="identity", id=subject), action=action, resource=Entity(type=kind, id=name), claimed=claimed
    )
    return framed(request, asker, WHOLE)


# Registering.


def test_a_registration_is_signed_and_in_the_ledger() -> None:
    rows = Rows()
    made = register(rows, fulfils=["step-up"])
    assert is_genuine(made, KEYS)
    assert rows.events == [("access.enforcer.registered", GATEWAY["spiffe_id"])]


def test_a_row_that_was_changed_is_none_of_ours() -> None:
    assert not is_genuine(replace(register(Rows()), fulfils=("approval",)), KEYS)


def test_the_same_registration_again_changes_nothing() -> None:
    rows = Rows()
    assert register(rows) == register(rows)
    assert len(rows.events) == 1


@pytest.mark.parametrize(
    "other",
    [
        {"fulfils": ["redact"]},
        {"name": "other"},
        {"name": "other", "spiffe_id": "spiffe://remit.test/other", "uid": 7},
    ],
)
def test_two_points_share_neither_name_nor_proof(other: dict[str, Any]) -> None:
    rows = Rows()
    register(rows, uid=7)
    with pytest.raises(Conflict, match="gateway"):
        register(rows, **other)


def test_a_forged_row_does_not_stand_in_the_way() -> None:
    rows = Rows()
    rows.add(replace(POINT, signature="forged"))
    assert is_genuine(register(rows), KEYS)


def test_who_is_removed_is_gone_by_name_and_id() -> None:
    rows = Rows()
    made = register(rows)
    assert remove_enforcer(rows, made.name, actor="person:ann") == made
    with pytest.raises(NotFound):
        remove_enforcer(rows, made.id, actor="person:ann")


@pytest.mark.parametrize(
    ("settings", "code"),
    [
        ({"name": "No Name"}, "access.enforcer.name"),
        ({"uid": -1}, "access.enforcer.uid"),
        ({"spiffe_id": "http://x"}, "trust.spiffe_id.malformed"),
        ({"fulfils": ["Step Up"]}, "access.enforcer.fulfils"),
        ({"vouches": ["tier"]}, "access.enforcer.vouches"),
        ({"vouches": ["attestation_age"]}, "access.enforcer.vouches"),
        ({"resources": ["*"]}, "access.enforcer.resources"),
        ({"resources": ["data*base"]}, "access.enforcer.resources"),
        ({"resources": [f"a/{n}" for n in range(65)]}, "access.enforcer.resources"),
        ({"actions": ["do this"]}, "access.enforcer.actions"),
    ],
)
def test_a_malformed_registration_is_refused(settings: dict[str, Any], code: str) -> None:
    with pytest.raises(Rejected) as refusal:
        request_enforcer(**{**GATEWAY, **settings})
    assert refusal.value.code == code


def test_a_point_is_found_by_what_proves_it() -> None:
    index = EnforcerIndex([replace(POINT, uid=7)])
    found = {index.named("gateway"), index.named("ef_1"), index.of_spiffe_id(GATEWAY["spiffe_id"]), index.of_uid(7)}
    assert (len(found), index.of_uid(0), index.of_spiffe_id("spiffe://remit.test/other")) == (1, None, None)


# Asking.


def point(**settings: Any) -> Asker:
    return Asker(name="enforcer:gateway", enforcer=replace(POINT, **settings))


ITSELF = Asker(name="spiffe://remit.test/job", identity="id_job", proven={"attested": True})


def test_a_point_asks_about_anybody() -> None:
    assert ask(point(), subject="id_other").subject.id == "id_other"


@pytest.mark.parametrize("name", ["id_job", "job", "spiffe://remit.test/job"])
def test_anybody_asks_about_itself_by_any_name_with_its_own_proof(name: str) -> None:
    assert ask(ITSELF, subject=name).proven == {"attested": True}


@pytest.mark.parametrize("asker", [ITSELF, Asker(name="tcp:anonymous"), Asker(name="x", proven={"attested": True})])
def test_nobody_else_asks_about_others(asker: Asker) -> None:
    with pytest.raises(Denied) as refusal:
        ask(asker, subject="id_other")
    assert refusal.value.code == "access.enforcer.foreign"


def test_an_administrator_asks_about_anybody_without_any_promise() -> None:
    admin = Asker(name="local:uid:0", administrates=True)
    assert (ask(admin).proven, admin.fulfils) == ({}, frozenset())


@pytest.mark.parametrize(
    ("kind", "name"), [("database", "shop"), ("x", "urn:shop"), ("table", "orders"), ("database", "unknown")]
)
def test_a_bound_covers_a_resource_by_any_name_and_what_it_is_part_of(kind: str, name: str) -> None:
    assert ask(point(resources=("database/*",)), kind=kind, name=name)


@pytest.mark.parametrize(
    ("kind", "name"), [("target", "vault"), ("database", "target/vault"), ("database", "vault"), ("table", "other")]
)
def test_a_cunning_name_does_not_lead_out_of_the_bound(kind: str, name: str) -> None:
    with pytest.raises(Denied) as refusal:
        ask(point(resources=("database/*",)), kind=kind, name=name)
    assert refusal.value.code == "access.enforcer.bounds"


@pytest.mark.parametrize(
    ("action", "allowed"), [("tool:call", True), ("read", True), ("reading", False), ("tools", False)]
)
def test_a_bound_on_actions_holds(action: str, allowed: bool) -> None:
    asker = point(actions=("read", "tool:*"))
    if allowed:
        assert ask(asker, action=action)
    else:
        with pytest.raises(Denied):
            ask(asker, action=action)


def test_what_a_point_vouches_for_is_proven_and_nothing_else() -> None:
    stated = {"source_address": "192.0.2.1", "attested": True, "grant": "gr_1"}
    assert ask(point(vouches=("source_address",)), proven=stated).proven == {"source_address": "192.0.2.1"}
    assert ask(point(), proven=stated).proven == {}
    assert ask(ITSELF, proven={"tier": 3}).proven == {"attested": True}


@pytest.mark.parametrize("stated", ["attested", 7, ["attested"], None])
def test_a_statement_of_another_form_vouches_for_nothing(stated: Any) -> None:
    assert ask(point(vouches=("attested",)), proven=stated).proven == {}
