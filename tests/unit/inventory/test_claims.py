"""Where sources disagree, and where one stops saying something."""

from __future__ import annotations

from typing import Any

import pytest

from remit.inventory import registry
from remit.inventory.settle import claims
from remit.kernel.ids import credential_name


def test_the_word_of_the_system_of_record_counts_before_a_later_one(reg: Any, say: Any) -> None:
    reg.run("db", [say.identity(reg.A, environment="prod", confidence=10)])
    reg.run("files", [say.identity(reg.A, environment="test")], record_of=())
    assert reg.named(reg.A).environment == "prod"


def test_of_two_that_are_not_of_record_the_surer_counts(reg: Any, say: Any) -> None:
    reg.run("sure", [say.identity(reg.A, environment="prod", x=1, confidence=90)], record_of=())
    reg.run("guess", [say.identity(reg.A, environment="test", x=2, confidence=40)], record_of=())
    record = reg.named(reg.A)
    assert (record.environment, record.attributes) == ("prod", {"x": 1})


def test_of_two_that_are_as_sure_the_later_counts(reg: Any, say: Any) -> None:
    for source, value in (("one", "prod"), ("two", "test")):
        reg.run(source, [say.identity(reg.A, environment=value)], record_of=())
    assert reg.named(reg.A).environment == "test"


def test_when_the_best_word_is_gone_the_next_best_counts(reg: Any, say: Any) -> None:
    reg.run("db", [say.identity(reg.A, environment="prod")])
    reg.run("files", [say.identity(reg.A, environment="test")], record_of=())
    reg.run("db", [])
    assert reg.named(reg.A).environment == "test"


@pytest.mark.parametrize("stops", ["says otherwise", "shows it no more"])
def test_a_privilege_that_no_source_shows_any_more_is_gone(reg: Any, say: Any, stops: str) -> None:
    reg.run("db", [say.identity(reg.A, privileged=True), say.identity(reg.A, path="/other")])
    reg.run("files", [say.identity(reg.A)], record_of=())
    assert reg.named(reg.A).privileged
    reg.run("db", [say.identity(reg.A)] if stops == "says otherwise" else [])
    assert not reg.named(reg.A).privileged


def test_a_privilege_that_another_source_shows_stays(reg: Any, say: Any) -> None:
    reg.run("db", [say.identity(reg.A, privileged=True)])
    reg.run("files", [say.identity(reg.A, privileged=True)], record_of=())
    reg.run("db", [say.identity(reg.A)])
    assert reg.named(reg.A).privileged


def test_a_run_that_says_one_thing_twice_loses_no_privilege(reg: Any, say: Any) -> None:
    reg.run("db", [say.identity(reg.A, privileged=True, x=1), say.identity(reg.A, y=2)])
    record = reg.named(reg.A)
    assert (record.privileged, record.attributes) == (True, {"x": 1, "y": 2})


@pytest.mark.parametrize("stops", ["says otherwise", "shows it no more"])
def test_a_secret_that_lies_nowhere_any_more_is_not_exposed(reg: Any, say: Any, stops: str) -> None:
    reg.run("db", [say.secret(reg.SECRET, reg.A)])
    reg.run("files", [say.secret(reg.SECRET, exposed=True)])
    assert reg.rows.credentials([reg.SECRET])[reg.SECRET].exposed
    reg.run("files", [say.secret(reg.SECRET)] if stops == "says otherwise" else [])
    assert not reg.rows.credentials([reg.SECRET])[reg.SECRET].exposed


def test_a_run_that_breaks_off_takes_nothing_back(reg: Any, say: Any) -> None:
    reg.run("db", [say.identity(reg.A, privileged=True, environment="prod"), say.secret(reg.SECRET, exposed=True)])
    run = registry.begin_run(reg.unit(), "db", "i", "scope", record_of=("db",))
    registry.reconcile(reg.unit(), run, [say.identity(reg.B)])
    record = reg.named(reg.A)
    assert (record.present, record.privileged, record.environment) == (True, True, "prod")
    assert reg.rows.credentials([reg.SECRET])[reg.SECRET].exposed


def test_what_no_sighting_said_stays(reg: Any, say: Any) -> None:
    from dataclasses import replace

    reg.run("db", [say.identity(reg.A, x=1)])
    record = reg.named(reg.A)
    reg.rows.put_identities([replace(record, attributes={"x": 1, "by-hand": True}, purpose="reports")])
    reg.run("db", [say.identity(reg.A)])
    assert reg.named(reg.A).attributes == {"by-hand": True}
    assert reg.named(reg.A).purpose == "reports"


def test_each_attribute_is_told_with_who_says_so(reg: Any, say: Any) -> None:
    reg.run("db", [say.identity(reg.A, environment="prod")])
    reg.run("files", [say.identity(reg.A, environment="test", path="/f", confidence=60)], record_of=())
    told = claims(reg.named(reg.A), reg.rows.sightings_of([reg.A]))
    assert [(row["connector"], row["value"], row["confidence"], row["of_record"], row["counts"]) for row in told] == [
        ("db", "prod", 100, True, True),
        ("files", "test", 60, False, False),
    ]


def test_a_reused_secret_is_a_finding_and_an_edge_and_no_join(reg: Any, say: Any) -> None:
    reg.run("db", [say.identity(reg.A), say.identity(reg.B), say.secret(reg.SECRET, reg.A)])
    reg.run("files", [say.secret(reg.SECRET, reg.B)])
    assert reg.named(reg.A).id != reg.named(reg.B).id
    node = credential_name(reg.SECRET)
    (found,) = reg.rows.findings()
    assert (found.rule, found.subject) == ("inventory.secret-reused", node)
    assert [(edge.relation, edge.head) for edge in reg.rows.edges_from([node])] == [("secret-of", reg.B)]
    reg.run("files", [])
    assert reg.rows.findings() == reg.rows.edges_from([node]) == []


def test_two_names_of_one_identity_do_not_reuse_a_secret(reg: Any, say: Any) -> None:
    reg.run("db", [say.secret(reg.SECRET, reg.A)])
    reg.run("db", [say.secret(reg.SECRET, reg.B), say.identity(reg.A, reg.B)])
    assert reg.rows.findings() == []
