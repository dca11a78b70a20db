"""Policy versions: staged, activated under a signature, loaded only if it verifies."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

import pytest

from remit.access.policy.lifecycle import VersionState, activate, load_active, stage
from remit.access.policy.testing import DigestAttester, MemoryPolicyUnit
from remit.kernel.errors import Conflict, Misconfigured, NotFound, Rejected

ONE = '@id("one") @reason("r") permit(principal, action, resource);'
TWO = '@id("two") @reason("r") permit(principal, action, resource);'
ATTESTER = DigestAttester()


def unit() -> MemoryPolicyUnit:
    return MemoryPolicyUnit(datetime(2026, 1, 1, tzinfo=UTC))


def activated(work: MemoryPolicyUnit, *texts: str) -> list[str]:
    versions = [stage(work, text, by="person:ana") for text in texts]
    for version in versions:
        activate(work, version.id, by="person:bo", attester=ATTESTER)
    return [version.id for version in versions]


def loaded(work: MemoryPolicyUnit) -> list[str]:
    found = load_active(work.access, ATTESTER)
    return [policy.id for policy in found[1].policies] if found else []


def test_a_staged_text_is_not_in_force() -> None:
    work = unit()
    stage(work, ONE, by="person:ana")
    assert loaded(work) == []


def test_an_unsound_text_is_not_staged() -> None:
    work = unit()
    with pytest.raises(Rejected) as refused:
        stage(work, "permit(principal, action, resource) when { principal.no };", by="person:ana")
    assert refused.value.code == "access.policy.type"
    assert work.access.policy_versions() == []


def test_an_activation_supersedes_and_is_recorded() -> None:
    work = unit()
    first, second = activated(work, ONE, TWO)
    assert loaded(work) == ["two"]
    assert [row.state for row in map(work.access.policy_version, (first, second)) if row] == [
        VersionState.SUPERSEDED,
        VersionState.ACTIVE,
    ]
    assert [entry[0] for entry in work.recorded].count("access.policy.activated") == 2


def test_a_roll_back_is_a_new_activation() -> None:
    work = unit()
    first, _ = activated(work, ONE, TWO)
    version = activate(work, first, by="person:bo", attester=ATTESTER)
    assert (loaded(work), version.serial) == (["one"], 3)


def test_an_active_version_is_not_activated_again() -> None:
    work = unit()
    (only,) = activated(work, ONE)
    with pytest.raises(Conflict):
        activate(work, only, by="person:bo", attester=ATTESTER)


def test_an_unknown_version_is_not_found() -> None:
    with pytest.raises(NotFound):
        activate(unit(), "pv_none", by="person:bo", attester=ATTESTER)


def test_with_four_eyes_one_person_does_not_do_both() -> None:
    work = unit()
    version = stage(work, ONE, by="person:ana")
    with pytest.raises(Conflict) as refused:
        activate(work, version.id, by="person:ana", attester=ATTESTER, four_eyes=True)
    assert refused.value.code == "access.policy.same-person"


def test_a_writer_in_the_database_activates_nothing() -> None:
    work = unit()
    version = stage(work, ONE, by="person:ana")
    work.access.change_policy_version(replace(version, state=VersionState.ACTIVE, activated=work.now, serial=1))
    with pytest.raises(Misconfigured) as refused:
        load_active(work.access, ATTESTER)
    assert refused.value.code == "access.policy.untrusted"


def test_a_text_changed_in_the_database_is_not_loaded() -> None:
    work = unit()
    (only,) = activated(work, ONE)
    work.access._rows[only] = replace(work.access._rows[only], text=TWO)
    with pytest.raises(Misconfigured):
        load_active(work.access, ATTESTER)


def test_a_signature_of_another_installation_is_not_loaded() -> None:
    work = unit()
    activated(work, ONE)
    with pytest.raises(Misconfigured):
        load_active(work.access, DigestAttester("other"))


def test_an_older_activation_put_back_in_the_database_is_not_loaded() -> None:
    work = unit()
    first, second = activated(work, ONE, TWO)
    rows = work.access._rows
    rows[first] = replace(rows[first], state=VersionState.ACTIVE)
    rows[second] = replace(rows[second], state=VersionState.SUPERSEDED)
    with pytest.raises(Misconfigured) as refused:
        load_active(work.access, ATTESTER)
    assert refused.value.code == "access.policy.rolled-back"


def test_a_text_changed_while_staged_is_not_activated() -> None:
    work = unit()
    version = stage(work, ONE, by="person:ana")
    work.access._rows[version.id] = replace(version, text=TWO)
    with pytest.raises(Misconfigured):
        activate(work, version.id, by="person:bo", attester=ATTESTER)
