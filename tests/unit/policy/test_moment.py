"""The policies of a decision's moment, and a past decision run again."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from remit.access.model import Entity
from remit.access.policy.compile import compile_policies
from remit.access.policy.facts import IdentityFacts
from remit.access.policy.lifecycle import PolicyVersion, VersionState, text_digest
from remit.access.policy.moment import EMPTY, digest_of, policies_of
from remit.access.policy.replay import explain_decision, rerun
from remit.access.policy.situation import Situation
from remit.kernel.errors import NotFound

NOW = datetime(2026, 3, 1, tzinfo=UTC)
OLD = '// a comment\n@id("a") permit (principal, action, resource) when { context.attested };'
NEW = '@id("b") permit (principal, action, resource);'
SITUATION = Situation(
    identity=IdentityFacts(id="id_1", name="n", kind="workload", owner_active=True), action="read",
    resource=Entity(type="service", id="crm"),
)  # fmt: skip


class Signs:
    """An attester that knows one signature."""

    def sign(self, kind: str, content: Any) -> str:
        return "good"

    def verify(self, kind: str, content: Any, signature: str) -> bool:
        return signature == "good"


def version(name: str, text: str, **changed: Any) -> PolicyVersion:
    made = PolicyVersion(
        id=name, text=text, digest=text_digest(text), created=NOW, by="person:ana", state=VersionState.SUPERSEDED,
        signature="good", serial=1, activated=NOW, activated_by="person:ana",
    )  # fmt: skip
    return replace(made, **changed)


def found(*versions: PolicyVersion, digest: str, at: datetime = NOW) -> str:
    activations = [(NOW, each.id) for each in versions]
    return policies_of(versions, activations, digest=digest, at=at, attester=Signs()).version


def test_the_digest_of_a_record_names_its_version() -> None:
    versions = (version("pv_2", NEW), version("pv_1", OLD))
    assert found(*versions, digest=compile_policies(OLD).digest) == "pv_1"
    assert digest_of(OLD) == compile_policies(OLD).digest


def test_without_a_digest_the_time_names_it() -> None:
    assert found(version("pv_1", OLD), digest="", at=NOW + timedelta(hours=1)) == "pv_1"


@pytest.mark.parametrize(
    "changed", [{"signature": "forged"}, {"digest": text_digest(NEW)}, {"activated": None, "signature": ""}]
)
def test_what_was_never_put_in_force_as_it_stands_explains_nothing(changed: dict[str, Any]) -> None:
    with pytest.raises(NotFound):
        found(version("pv_1", OLD, **changed), digest=digest_of(OLD))


def test_no_policies_are_found_without_a_version() -> None:
    assert policies_of([], [], digest=EMPTY, at=NOW, attester=Signs()).policies.policies == ()


def test_the_record_names_the_policies_that_decided() -> None:
    assert SITUATION.decide(compile_policies(OLD)).policies == digest_of(OLD)


def test_the_same_policies_and_facts_give_the_same() -> None:
    decision = SITUATION.decide(compile_policies(OLD))
    assert rerun(decision, compile_policies(OLD)).same


def test_other_policies_say_what_differs() -> None:
    again = rerun(SITUATION.decide(compile_policies(OLD)), compile_policies(NEW))
    assert again.differs == ("the answer: was deny, is allow", "the policies: was none, is b")


def test_what_policy_did_not_refuse_no_policy_changes() -> None:
    retired = replace_identity(state="retired")
    again = rerun(retired.decide(compile_policies(OLD)), compile_policies(NEW))
    assert (again.asked, again.same) == (False, True)


def test_a_refusal_before_policy_names_the_step() -> None:
    told = explain_decision(replace_identity(state="suspended").decide(compile_policies(OLD)), compile_policies(OLD))
    assert told.why.steps[0].command == "remit lifecycle id_1 active --reason WHY"


def replace_identity(**changed: Any) -> Situation:
    import msgspec

    return replace(SITUATION, identity=msgspec.structs.replace(SITUATION.identity, **changed))
