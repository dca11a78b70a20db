"""Every way of the catalogue, open and closed: a path where the account has it, none where anything stops it."""

from __future__ import annotations

import pytest
from laboratories import WAYS, A, Laboratory, Way, discover

from remit.inventory.graph import graph_from_facts
from remit.inventory.model import EdgeFact

_NEEDS_A_THING = frozenset({"cloudformation-004", "ecs-005", "ecs-007", "ecs-008", "ecs-009", "glue-005", "glue-006"})
_SHORTER = {"ecs-001": "ecs-003", "ecs-002": "ecs-004"}
_PASSING = [way for way in WAYS if "iam:PassRole" in way.actions]
_SERVED = [way for way in WAYS if "passrole" in way.category]
_IMPOSSIBLE = {"StringEquals": {"aws:PrincipalAccount": "999999999999"}}
each = pytest.mark.parametrize("way", WAYS, ids=lambda way: way.id)


def _needed(way: Way) -> list[str]:
    """The actions without which no other way of the catalogue is left."""
    return [
        action
        for action in way.actions
        if not any(set(other.actions) <= set(way.actions) - {action} for other in WAYS if other is not way)
    ]


@each
def test_the_way_is_found(way: Way) -> None:
    existing = way.category == "existing-passrole" or way.id in _NEEDS_A_THING
    certain_without = way.id == "cloudformation-005"
    assert Laboratory(way).outcome() is (existing or certain_without)


@each
def test_the_edge_names_the_way_and_how_to_close_it(way: Way) -> None:
    laboratory = Laboratory(way)
    facts = graph_from_facts(_facts(laboratory))
    edges = facts.leaving(laboratory.attacker)
    same = {way.id, _SHORTER.get(way.id, way.id)}
    assert any(
        any(f"({one}" in edge.evidence for one in same) and edge.cut.startswith(("take ", "remove ")) for edge in edges
    ), edges


def _facts(laboratory: Laboratory) -> list[EdgeFact]:
    return [fact for fact in discover(laboratory.details()) if isinstance(fact, EdgeFact)]


@each
def test_one_action_less_is_no_way(way: Way) -> None:
    assert [action for action in _needed(way) if Laboratory(way, without=action).outcome() is not None] == []


@each
def test_a_denial_in_another_policy_closes_it(way: Way) -> None:
    assert [action for action in _needed(way) if Laboratory(way, deny=action).outcome() is not None] == []


@each
def test_a_boundary_that_leaves_an_action_out_closes_it(way: Way) -> None:
    assert [action for action in _needed(way) if Laboratory(way, outside=action).outcome() is not None] == []


@each
def test_a_right_to_something_else_is_no_way(way: Way) -> None:
    assert [action for action in _needed(way) if Laboratory(way, elsewhere=action).outcome() is not None] == []


@each
def test_a_condition_that_cannot_be_met_closes_it(way: Way) -> None:
    closed = [
        action for action in _needed(way) if Laboratory(way, conditions={action: _IMPOSSIBLE}).outcome() is not None
    ]
    assert closed == []


@each
def test_a_condition_that_is_unknown_is_shown(way: Way) -> None:
    unknown = {"IpAddress": {"aws:SourceIp": "192.0.2.0/24"}}
    found = [Laboratory(way, conditions={action: unknown}).outcome() for action in _needed(way)]
    assert set(found) <= {True}


@each
def test_a_condition_that_is_met_changes_nothing(way: Way) -> None:
    met = {"StringEquals": {"aws:PrincipalAccount": A}}
    assert Laboratory(way, conditions=dict.fromkeys(way.actions, met)).outcome() is Laboratory(way).outcome()


@pytest.mark.parametrize("way", _SERVED, ids=lambda way: way.id)
def test_a_role_for_another_service_is_not_had(way: Way) -> None:
    assert Laboratory(way, service="config.amazonaws.com").outcome() is None


@pytest.mark.parametrize("way", _SERVED, ids=lambda way: way.id)
def test_a_role_for_the_service_of_another_account_is_not_had(way: Way) -> None:
    foreign = {"StringEquals": {"aws:SourceAccount": "999999999999"}}
    assert Laboratory(way, trust=foreign).outcome() is None


@pytest.mark.parametrize("way", [way for way in _PASSING if "iam:PassRole" in _needed(way)], ids=lambda way: way.id)
def test_a_right_to_pass_to_another_service_is_no_way(way: Way) -> None:
    other = {"StringEquals": {"iam:PassedToService": "config.amazonaws.com"}}
    assert Laboratory(way, conditions={"iam:PassRole": other}).outcome() is None


@pytest.mark.parametrize("way", _PASSING, ids=lambda way: way.id)
def test_a_right_to_pass_to_the_service_is_one(way: Way) -> None:
    same = {"StringEquals": {"iam:PassedToService": way.service}}
    assert Laboratory(way, conditions={"iam:PassRole": same}).outcome() is Laboratory(way).outcome()


@each
def test_half_in_a_group_and_half_in_a_managed_policy(way: Way) -> None:
    assert Laboratory(way, managed=True).outcome() is Laboratory(way).outcome()


@each
def test_a_denial_of_the_organisation_closes_it(way: Way) -> None:
    denials = [(action, {"Effect": "Deny", "Action": action.upper(), "Resource": "*"}) for action in _needed(way)]
    assert [action for action, one in denials if Laboratory(way, above=(one,)).outcome() is not None] == []


@each
def test_a_denial_of_the_organisation_for_others_does_not(way: Way) -> None:
    others = {"ArnNotLike": {"aws:PrincipalArn": f"arn:aws:iam::{A}:*/attacker"}}
    denial = {"Effect": "Deny", "Action": "*", "Resource": "*", "Condition": others}
    # A victim that may do nothing else gives itself away all the same; what is written for it binds it too.
    writes = way.id in {f"iam-{number:03}" for number in range(14, 22)}
    assert Laboratory(way, above=(denial,)).outcome() is (None if writes else Laboratory(way).outcome())


@each
def test_an_allow_list_of_the_organisation_closes_it(way: Way) -> None:
    lists = [(action, {"Effect": "Deny", "NotAction": _others(action), "Resource": "*"}) for action in _needed(way)]
    assert [action for action, one in lists if Laboratory(way, above=(one,)).outcome() is not None] == []


def _others(action: str) -> list[str]:
    return sorted({one for way in WAYS for one in way.actions} - {action})


@each
def test_a_second_factor_of_a_key_is_unknown(way: Way) -> None:
    factor = {"Bool": {"aws:MultiFactorAuthPresent": "true"}}
    found = [Laboratory(way, conditions={action: factor}).outcome() for action in _needed(way)]
    assert set(found) <= ({None, True} if way.id in ("iam-005", "iam-009") else {True})


@each
def test_a_denial_unless_there_is_a_second_factor_is_unknown(way: Way) -> None:
    absent = {"BoolIfExists": {"aws:MultiFactorAuthPresent": "false"}}
    denial = {"Effect": "Deny", "Action": "*", "Resource": "*", "Condition": absent}
    assert Laboratory(way, above=(denial,)).outcome() is not False


@pytest.mark.parametrize("way", _SERVED, ids=lambda way: way.id)
@pytest.mark.parametrize("whom", ["*", "the service"])
def test_a_role_that_refuses_the_service_is_not_had(way: Way, whom: str) -> None:
    principal = "*" if whom == "*" else {"Service": way.service}
    refuses = {"Effect": "Deny", "Principal": principal, "Action": "sts:AssumeRole"}
    assert Laboratory(way, refuses=refuses).outcome() is None


_OPEN_WHERE_LISTED = frozenset({"ec2-004", "ec2instanceconnect-003", "lambda-003"})
_EXISTING = [way for way in WAYS if way.category == "existing-passrole"]


@pytest.mark.parametrize("way", _EXISTING, ids=lambda way: way.id)
def test_what_is_listed_is_certain(way: Way) -> None:
    assert Laboratory(way, found_there=True).outcome() is (way.id in _OPEN_WHERE_LISTED)


@pytest.mark.parametrize("way", [way for way in _EXISTING if way.id not in _OPEN_WHERE_LISTED], ids=lambda way: way.id)
def test_a_denial_closes_what_is_listed(way: Way) -> None:
    closed = [action for action in _needed(way) if Laboratory(way, found_there=True, deny=action).outcome() is not None]
    assert closed == []
