"""Joins are explained, undone, remembered and made by hand."""

from __future__ import annotations

from typing import Any

import pytest

from remit.inventory import joins
from remit.inventory.model import State
from remit.kernel.errors import NotFound, Rejected
from remit.kernel.ids import Name, credential_name, name

WHY = {"by": "person:alice", "reason": "they are two"}


def joined(reg: Any, say: Any) -> Any:
    reg.run("one", [say.identity(reg.A, environment="prod")])
    reg.run("two", [say.identity(reg.B, x=1)])
    younger = reg.named(reg.B).id
    reg.run("two", [say.identity(reg.B, reg.A, x=1)])
    assert reg.named(reg.A).id == reg.named(reg.B).id != younger
    return younger


def test_a_join_is_told_with_who_said_so_and_when(reg: Any, say: Any) -> None:
    joined(reg, say)
    (why,) = joins.explain(reg.unit(), reg.A)["joins"]
    assert (why.name, why.other, why.how, why.by) == (reg.B, reg.A, "name", "connector:two")
    assert why.since == why.last_seen and "test:/p" in why.evidence


def test_evidence_keeps_its_first_time(reg: Any, say: Any) -> None:
    joined(reg, say)
    first = joins.explain(reg.unit(), reg.A)["joins"][0].since
    reg.run("two", [say.identity(reg.B, reg.A)])
    (why,) = joins.explain(reg.unit(), reg.A)["joins"]
    assert why.since == first < why.last_seen


@pytest.mark.parametrize(
    ("alias", "how"),
    [
        (name("aws", "1", "role", "arn:aws:iam::1:role/x"), "arn"),
        (Name("spiffe://d.test/x"), "spiffe-id"),
        (name("oidc", "github", "subject", "repo:a/b"), "oidc-subject"),
        (name("gcp", "p", "service-account", "a@p.iam"), "e-mail"),
    ],
)
def test_the_sort_of_evidence_is_named(reg: Any, say: Any, alias: Name, how: str) -> None:
    reg.run("one", [say.identity(reg.A, alias)], record_of=("db", "aws", "spiffe", "oidc", "gcp"))
    assert [each.how for each in joins.explain(reg.unit(), reg.A)["joins"]] == [how]


def test_a_place_that_was_joined_by_a_fingerprint_is_told(reg: Any, say: Any) -> None:
    reg.run("one", [say.secret(reg.SECRET, reg.A)])
    reg.run("files", [say.secret(reg.SECRET, path="/etc/app.env", exposed=True)])
    (why,) = joins.explain(reg.unit(), reg.A)["joins"]
    assert (why.other, why.how) == (credential_name(reg.SECRET), "secret-fingerprint")
    assert "/etc/app.env" in why.evidence


def test_a_split_gives_a_name_its_own_identity_back(reg: Any, say: Any) -> None:
    younger = joined(reg, say)
    part = joins.split(reg.unit(), reg.A, reg.B, **WHY)
    assert part.id == younger == reg.named(reg.B).id
    assert reg.named(reg.A).id != younger
    assert (reg.named(reg.A).attributes, reg.named(reg.B).attributes) == ({}, {"x": 1})
    assert reg.named(reg.B).present and reg.named(reg.B).merged_into is None
    assert "inventory.identity.split" in reg.recorded


def test_no_scan_joins_again_what_was_split(reg: Any, say: Any) -> None:
    joined(reg, say)
    joins.split(reg.unit(), reg.A, reg.B, **WHY)
    reg.run("two", [say.identity(reg.B, reg.A, x=1)])
    reg.run("two", [say.identity(reg.A, reg.B), say.identity(reg.B, reg.C), say.identity(reg.A, reg.C)])
    assert reg.named(reg.A).id != reg.named(reg.B).id
    (apart,) = joins.explain(reg.unit(), reg.A)["apart"]
    assert (apart.name, apart.by, apart.reason) == (reg.B, "person:alice", "they are two")


def test_a_name_that_never_was_alone_gets_a_new_identity(reg: Any, say: Any) -> None:
    reg.run("two", [say.identity(reg.A, reg.B)])
    part = joins.split(reg.unit(), reg.A, reg.B, **WHY)
    assert (part.name, part.id) == (reg.B, reg.named(reg.B).id)
    reg.run("two", [say.identity(reg.A, reg.B)])
    assert reg.named(reg.A).id != reg.named(reg.B).id


def test_credentials_go_with_the_name_that_they_were_said_to_prove(reg: Any, say: Any) -> None:
    other = f"hmac:{8:064x}"
    joined(reg, say)
    reg.run("files", [say.secret(reg.SECRET, reg.B), say.secret(other, reg.A)])
    part = joins.split(reg.unit(), reg.A, reg.B, **WHY)
    assert [each.fingerprint for each in reg.rows.credentials_of([part.id])] == [reg.SECRET]
    assert [each.fingerprint for each in reg.rows.credentials_of([reg.named(reg.A).id])] == [other]


def test_a_split_frees_nobody_and_gives_nobody_an_owner(reg: Any, say: Any) -> None:
    joined(reg, say)
    whole = reg.named(reg.A).id
    reg.rows.set_state(whole, "quarantined")
    reg.rows.set_owner(whole, "alice")
    part = joins.split(reg.unit(), reg.A, reg.B, **WHY)
    assert (part.state, part.owner) == (State.QUARANTINED, None)


def test_a_join_by_hand_outlives_scans_and_forgets_the_split(reg: Any, say: Any) -> None:
    joined(reg, say)
    joins.split(reg.unit(), reg.A, reg.B, **WHY)
    whole = joins.join(reg.unit(), reg.A, reg.B, by="person:bob", reason="they are one")
    reg.run("one", [say.identity(reg.A)])
    reg.run("two", [say.identity(reg.B)])
    assert reg.named(reg.A).id == reg.named(reg.B).id == whole.id
    told = joins.explain(reg.unit(), whole.id)
    assert told["apart"] == []
    assert ("hand", "person:bob", "they are one") in [(each.how, each.by, each.evidence) for each in told["joins"]]


def test_a_third_that_joins_one_part_stays_apart_from_the_other(reg: Any, say: Any) -> None:
    reg.run("three", [say.identity(reg.C)])
    joined(reg, say)
    joins.split(reg.unit(), reg.A, reg.B, **WHY)
    reg.run("three", [say.identity(reg.C, reg.B)])
    assert reg.named(reg.C).id == reg.named(reg.B).id
    reg.run("three", [say.identity(reg.C, reg.A)])
    assert reg.named(reg.C).id != reg.named(reg.A).id


def test_what_cannot_be_split_or_joined_is_refused(reg: Any, say: Any) -> None:
    reg.run("one", [say.identity(reg.A)])
    for wanted in (reg.A, reg.B):
        with pytest.raises(Rejected) as refused:
            joins.split(reg.unit(), reg.A, wanted, **WHY)
        assert refused.value.code == "inventory.split.unfit"
    with pytest.raises(Rejected, match="already"):
        joins.join(reg.unit(), reg.A, reg.A, **WHY)
    with pytest.raises(NotFound):
        joins.join(reg.unit(), reg.A, reg.C, **WHY)
    with pytest.raises(Rejected, match="reason"):
        joins.join(reg.unit(), reg.A, reg.A, by="person:alice", reason=" ")
