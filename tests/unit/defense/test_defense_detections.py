"""Each detection: what it finds, and what it leaves alone."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from remit.defense.detections import builtin
from remit.defense.ingest import from_activity
from remit.defense.model import EventClass, Finding, Outcome, QueryClass, TargetActivity, Telemetry
from remit.defense.ports import CredentialFact, LeaseFact, Standing
from remit.defense.telemetry import normalise
from remit.defense.testing import MemoryFacts
from remit.inventory.model import Severity
from remit.kernel.events import Event

NOON = datetime(2026, 11, 22, 12, tzinfo=UTC)
PRINCIPAL = "remit_abc_1"


def lease(**changed: Any) -> LeaseFact:
    facts: dict[str, Any] = {
        "id": "ls_1",
        "identity": "id_1",
        "target": "orders",
        "principal": PRINCIPAL,
        "role": "app_ro",
        "standing": Standing.LIVE,
        "expires": NOON,
        "schemas": frozenset({"orders"}),
        **changed,
    }
    return LeaseFact(**facts)


def known(one: LeaseFact | None = None) -> MemoryFacts:
    facts = MemoryFacts()
    if one is not None:
        facts.leases["orders", PRINCIPAL] = one
    return facts


def login(outcome: Outcome = Outcome.FAILURE, **changed: Any) -> Telemetry:
    seen: dict[str, Any] = {
        "id": "e1",
        "event_class": EventClass.AUTHENTICATION,
        "activity": "login",
        "time": NOON,
        "source": "postgres",
        "principal": PRINCIPAL,
        "system": "orders",
        "outcome": outcome,
        **changed,
    }
    return Telemetry(**seen)


def did(query_class: QueryClass, *objects: str, **changed: Any) -> Telemetry:
    return from_activity(
        TargetActivity(
            id="e1",
            target="orders",
            principal=PRINCIPAL,
            at=NOON,
            query_class=query_class,
            objects=objects,
            **changed,
        )
    )


def found(telemetry: Telemetry, facts: MemoryFacts) -> list[tuple[str, str, Finding]]:
    return [
        (rule.id.removeprefix("defense."), identity, finding)
        for rule in builtin()
        if rule.wants(telemetry)
        for identity, finding in rule.inspect(telemetry, facts)
    ]


def rules(telemetry: Telemetry, facts: MemoryFacts) -> list[str]:
    return [rule for rule, _, _ in found(telemetry, facts)]


REVOKED = {"standing": Standing.REVOKED, "revoked": NOON - timedelta(hours=1)}


def test_a_revoked_lease_tried_again_is_found() -> None:
    [(rule, identity, finding)] = found(login(), known(lease(**REVOKED)))
    assert (rule, identity, finding.severity) == ("use_of_revoked_credential", "id_1", Severity.HIGH)


def test_a_revoked_lease_that_still_works_is_critical() -> None:
    [(_, _, finding)] = found(login(Outcome.SUCCESS), known(lease(**REVOKED)))
    assert finding.severity is Severity.CRITICAL


def test_our_own_proof_is_no_attack() -> None:
    facts = known(lease(**{**REVOKED, "last_probe": NOON + timedelta(seconds=4)}))
    assert rules(login(), facts) == []


def test_a_login_that_works_at_the_moment_of_our_proof_is_one() -> None:
    facts = known(lease(**{**REVOKED, "last_probe": NOON}))
    assert rules(login(Outcome.SUCCESS), facts) == ["use_of_revoked_credential"]


@pytest.mark.parametrize(
    "changed",
    [
        {"standing": Standing.LIVE},
        {"standing": Standing.REVOKING},
        {"standing": Standing.REVOKED, "revoked": NOON + timedelta(seconds=1)},
    ],
)
def test_a_login_before_the_revocation_is_none(changed: dict[str, Any]) -> None:
    assert rules(login(), known(lease(**changed))) == []


@pytest.mark.parametrize("by", ["fingerprint", "name"])
def test_a_revoked_static_credential_is_found_by(by: str) -> None:
    facts = known()
    credential = CredentialFact(
        fingerprint="hmac:aa", identity="id_9", standing=Standing.REVOKED, revoked=NOON - timedelta(days=1)
    )
    if by == "fingerprint":
        facts.credentials["hmac:aa"] = credential
        seen = login(attributes={"credential": "hmac:aa"})
    else:
        facts.principals["orders", PRINCIPAL] = credential
        seen = login()
    assert [(rule, identity) for rule, identity, _ in found(seen, facts)] == [("use_of_revoked_credential", "id_9")]


@pytest.mark.parametrize(
    "seen",
    [
        did(QueryClass.SET_ROLE, "admin"),
        did(QueryClass.SET_ROLE, "none"),
        did(QueryClass.SET_ROLE, "?"),
        did(QueryClass.CREATE, "public.loot"),
        did(QueryClass.ALTER, "orders.line"),
        did(QueryClass.DROP, "orders.line"),
        did(QueryClass.GRANT, "orders.line"),
        did(QueryClass.PROGRAM),
        did(QueryClass.CODE),
        did(QueryClass.READ, "orders.line", "hr.pay"),
        did(QueryClass.WRITE, "hr.pay"),
        did(QueryClass.CREATE, "public.loot", refused=True),
    ],
)
def test_a_leased_session_goes_rogue(seen: Telemetry) -> None:
    assert rules(seen, known(lease())) == ["session_rogue"]


@pytest.mark.parametrize(
    "seen",
    [
        did(QueryClass.SET_ROLE, "app_ro"),
        did(QueryClass.SET_ROLE, PRINCIPAL),
        did(QueryClass.SET_ROLE, "default"),
        did(QueryClass.READ, "orders.line"),
        did(QueryClass.READ, "line"),
        did(QueryClass.READ, "pg_catalog.pg_class"),
        did(QueryClass.READ, "pg_temp_3.t"),
        did(QueryClass.CREATE_TEMPORARY, "t"),
        did(QueryClass.SESSION),
        did(QueryClass.OTHER),
    ],
)
def test_ordinary_work_is_left_alone(seen: Telemetry) -> None:
    assert rules(seen, known(lease())) == []


def test_a_grant_without_declared_schemas_is_not_judged_by_them() -> None:
    assert rules(did(QueryClass.READ, "hr.pay"), known(lease(schemas=None))) == []


def test_reading_elsewhere_is_critical_and_names_what() -> None:
    [(_, _, finding)] = found(did(QueryClass.READ, "orders.line", "hr.pay"), known(lease()))
    assert finding.severity is Severity.CRITICAL
    assert finding.evidence["objects"] == ["hr.pay"]


def test_a_block_that_cannot_be_seen_into_is_a_persons_matter() -> None:
    [(_, _, finding)] = found(did(QueryClass.CODE), known(lease()))
    assert finding.confidence < 90


def static() -> MemoryFacts:
    facts = known()
    facts.names["orders", "app"] = "id_1"
    facts.needs["id_1", "orders"] = ("postgres://orders?role=read",)
    return facts


@pytest.mark.parametrize(
    "seen",
    [login(Outcome.SUCCESS, principal="app"), from_activity(
        TargetActivity(id="e", target="orders", principal="app", at=NOON, query_class=QueryClass.READ)
    )],
)  # fmt: skip
def test_a_static_credential_where_a_lease_could_be(seen: Telemetry) -> None:
    [(rule, identity, finding)] = found(seen, static())
    assert (rule, identity) == ("static_credential_used_where_grant_exists", "id_1")
    assert finding.evidence["instead"] == ["postgres://orders?role=read"]


@pytest.mark.parametrize("seen", [login(Outcome.SUCCESS, principal="other"), login(Outcome.FAILURE, principal="app")])
def test_a_static_credential_without_an_alternative_or_refused(seen: Telemetry) -> None:
    assert rules(seen, static()) == []


def test_a_lease_is_no_static_credential() -> None:
    facts = known(lease())
    facts.names["orders", PRINCIPAL] = "id_1"
    facts.needs["id_1", "orders"] = ("postgres://orders?role=read",)
    assert rules(login(Outcome.SUCCESS), facts) == []


def test_a_changed_binary() -> None:
    facts = MemoryFacts()
    facts.names["", "spiffe://remit.local/job"] = "id_1"
    event = Event(
        id="ev_1",
        type="trust.binary.changed",
        time=NOON,
        actor="system:trust",
        subject="spiffe://remit.local/job",
        data={"spiffe_id": "spiffe://remit.local/job", "path": "/opt/job", "before": "aa", "now": "bb"},
    )
    [(rule, identity, finding)] = found(normalise(event), facts)
    assert (rule, identity) == ("attested_binary_changed", "id_1")
    assert finding.evidence == {"path": "/opt/job", "before": "aa", "now": "bb"}


def test_every_manifest_says_what_it_needs() -> None:
    for rule in builtin():
        assert rule.id == rule.manifest.id
        assert rule.manifest.needs
        assert 0 < rule.manifest.confidence <= 100
