"""Plain Cedar: schemas in both forms, JSON with and without escapes, templates, and the form of Cedar's own tests."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cedarpy
import pytest

from installation import environment, run_remit
from remit.access.policy.cedar import Cedar, parse_entity, read_entities, read_links
from remit.access.policy.cedar_schema import read_schema
from remit.access.policy.source import quoted, read_policies
from remit.access.policy.timed import looks_at_time
from remit.access.policy.values import Uid
from remit.kernel.errors import Rejected

SCHEMA = """
namespace Shop {
  type Money = { amount: Long, "the unit"?: String };
  @doc("who buys")
  entity Team;
  entity User in [Team] = { home: ipaddr, limit: decimal, boss?: User, seen: Set<datetime>, spent: Money, } tags Set<String>;
  entity Colour enum ["red", "green"];
  entity Order { owner: User };
  action all;
  action "read", write in [all] appliesTo { principal: [User, Team], resource: Order, context: { from: ipaddr, at?: datetime } };
}
"""
ENTITIES: list[dict[str, Any]] = [
    {
        "uid": {"type": "Shop::User", "id": "ann"},
        "attrs": {
            "home": "10.0.0.0/8",
            "limit": "12.5",
            "boss": {"type": "Shop::User", "id": "bob"},
            "seen": ["2024-01-01", {"__extn": {"fn": "datetime", "arg": "2024-02-01"}}],
            "spent": {"amount": 3},
        },
        "parents": [{"__entity": {"type": "Shop::Team", "id": "a"}}],
        "tags": {"roles": ["x"]},
    },
    {"uid": {"__entity": {"type": "Shop::Team", "id": "a"}}, "attrs": {}, "parents": []},
    {"uid": {"type": "Shop::Order", "id": "1"}, "attrs": {"owner": {"type": "Shop::User", "id": "ann"}}, "parents": []},
]
ANN, READ, ORDER = (
    {"type": "Shop::User", "id": "ann"}, {"type": "Shop::Action", "id": "read"}, {"type": "Shop::Order", "id": "1"},
)  # fmt: skip
POLICIES = [
    'permit(principal, action in Shop::Action::"all", resource) when { context.from.isInRange(principal.home) };',
    'permit(principal in Shop::Team::"a", action, resource) when { principal.limit.lessThan(decimal("12.6")) };',
    'permit(principal, action, resource) when { resource.owner.seen.contains(datetime("2024-02-01")) };',
    'permit(principal, action, resource) when { principal.boss == Shop::User::"bob" && principal.spent.amount < 4 };',
    'permit(principal, action, resource) when { principal.getTag("roles").contains("x") };',
    'forbid(principal, action, resource) when { context.at < datetime("2020-01-01") };',
]


def test_a_schema_says_what_plain_json_means() -> None:
    answer = Cedar("\n".join(POLICIES), ENTITIES, SCHEMA).authorize(ANN, READ, ORDER, {"from": "10.1.2.3"})
    assert answer.reasons == {f"policy{n}" for n in range(5)}
    assert answer.errors == {"policy5"}


def test_the_reference_engine_reads_the_same_from_the_same_files() -> None:
    for context in ({"from": "10.1.2.3"}, {"from": "11.0.0.1", "at": "2019-01-01"}):
        ours = Cedar("\n".join(POLICIES), ENTITIES, SCHEMA).authorize(ANN, READ, ORDER, context)
        theirs = cedarpy.is_authorized(
            {"principal": ANN, "action": READ, "resource": ORDER, "context": context},
            "\n".join(POLICIES), json.dumps(ENTITIES), SCHEMA,
        )  # fmt: skip
        assert (ours.allowed, ours.reasons) == (theirs.allowed, set(theirs.diagnostics.reasons))


def test_both_forms_of_a_schema_are_the_same_schema() -> None:
    attribute = {"type": "EntityOrCommon", "name": "M"}
    document = {
        "N": {
            "commonTypes": {"M": {"type": "Record", "attributes": {"a": {"type": "Long"}}}},
            "entityTypes": {"E": {"shape": {"type": "Record", "attributes": {"m": attribute}}}},
            "actions": {"x": {}, "y": {"memberOf": [{"id": "x"}]}},
        }
    }
    written = 'namespace N { type M = {a: Long}; entity E {"m": M}; action x; action y in x; }'
    assert read_schema(json.dumps(document)) == read_schema(written)


@pytest.mark.parametrize(
    "text",
    [
        "entity", "entity A", "entity A = {a: Missing};", "action a in [", "type A = Set<A>; entity E {a: A};", "{",
        '{"N": []}', "entity A {a: " + "Set<" * 200 + "Long" + ">" * 200 + "};", 'action "\\q";', "$",
    ],
)  # fmt: skip
def test_what_is_no_schema_is_refused(text: str) -> None:
    with pytest.raises(Rejected) as refused:
        read_schema(text)
    assert refused.value.code == "access.policy.schema"


@pytest.mark.parametrize(
    "entities",
    [
        [{"uid": {"type": "A"}}],
        [{"uid": {"type": "A", "id": "1"}, "attrs": {"a": None}}],
        [{"uid": {"type": "A", "id": "1"}, "attrs": {"a": 1.5}}],
        [{"uid": {"type": "A", "id": "1"}, "attrs": {"a": {"__extn": {"fn": "ip", "arg": "x"}}}}],
        [{"uid": {"type": "A", "id": "1"}, "parents": [{"type": "A", "id": "1"}]}],
        [
            {"uid": {"type": "A", "id": "1"}, "parents": [{"type": "A", "id": "2"}]},
            {"uid": {"type": "A", "id": "2"}, "parents": [{"type": "A", "id": "1"}]},
        ],
        [{"uid": {"type": "A", "id": "1"}}, {"uid": {"type": "A", "id": "1"}, "attrs": {"x": 1}}],
    ],
)
def test_entities_that_cedar_would_refuse_are_refused(entities: list[Any]) -> None:
    with pytest.raises(Rejected) as refused:
        read_entities(entities)
    assert refused.value.code == "access.policy.entities"


def test_a_hierarchy_may_be_as_deep_as_it_likes() -> None:
    rows = [
        {"uid": {"type": "A", "id": str(n)}, "attrs": {}, "parents": [{"type": "A", "id": str(n + 1)}]}
        for n in range(1500)
    ]
    table = read_entities(rows)
    first = table.entity(Uid("A", "0"))
    assert first is not None and len(first.ancestors) == 1501


TEMPLATE = '@id("share") permit(principal in ?principal, action, resource == ?resource);'


def test_a_template_decides_nothing_until_it_is_linked() -> None:
    assert not Cedar(TEMPLATE, ENTITIES, SCHEMA).authorize(ANN, READ, ORDER, {"from": "::1"}).allowed
    links = read_links(
        json.dumps(
            [{"template_id": "policy0", "link_id": "l", "args": {"?principal": 'Shop::Team::"a"', "?resource": ORDER}}]
        )
    )
    answer = Cedar(TEMPLATE, ENTITIES, SCHEMA, links=links).authorize(ANN, READ, ORDER, {"from": "::1"})
    assert (answer.allowed, answer.reasons) == (True, {"l"})


@pytest.mark.parametrize("name", ['a"b', "a\\b", "new\nline", "?principal", "// no comment", "😀", "\0"])
def test_a_link_takes_any_entity_as_it_is(name: str) -> None:
    links = read_links(
        json.dumps([{"template_id": "policy0", "link_id": "l", "args": {"?principal": {"type": "U", "id": name}}}])
    )
    engine = Cedar("permit(principal == ?principal, action, resource);", links=links)
    assert engine.authorize({"type": "U", "id": name}, READ, ORDER).reasons == {"l"}
    assert not engine.authorize({"type": "U", "id": name + "x"}, READ, ORDER).allowed
    assert parse_entity(f"U::{quoted(name)}") == {"type": "U", "id": name}


@pytest.mark.parametrize("values", [{}, {"?resource": ORDER}, {"?principal": {"type": "U v", "id": "x"}}])
def test_a_link_that_does_not_fit_is_refused(values: dict[str, Any]) -> None:
    links = read_links(json.dumps([{"template_id": "policy0", "link_id": "l", "args": values}]))
    with pytest.raises(Rejected) as refused:
        Cedar("permit(principal == ?principal, action, resource);", links=links)
    assert refused.value.code == "access.policy.link"


def write_test(folder: Path, **changes: Any) -> None:
    """A test in the form of cedar-integration-tests."""
    (folder / "p.cedar").write_text("\n".join(POLICIES))
    (folder / "e.json").write_text(json.dumps(ENTITIES))
    (folder / "s.cedarschema").write_text(SCHEMA)
    request = {
        "description": "one", "principal": ANN, "action": READ, "resource": ORDER, "context": {"from": "10.1.2.3"},
        "decision": "allow", "reason": [f"policy{n}" for n in range(5)], "errors": ["policy5"], **changes,
    }  # fmt: skip
    (folder / "tests").mkdir()
    test = {"policies": "p.cedar", "entities": "e.json", "schema": "s.cedarschema", "requests": [request]}
    (folder / "tests" / "t.json").write_text(json.dumps(test))


def test_cedars_own_tests_run_from_a_folder(tmp_path: Path) -> None:
    write_test(tmp_path)
    done = run_remit("policy", "conformance", tmp_path, "-o", "json", env=environment(tmp_path))
    assert (done.returncode, json.loads(done.stdout)) == (0, {"requests": 1, "by_reference": 0, "differences": []})


@pytest.mark.parametrize("change", [{"decision": "deny"}, {"reason": ["policy0"]}, {"errors": []}])
def test_every_difference_counts(tmp_path: Path, change: dict[str, Any]) -> None:
    write_test(tmp_path, **change)
    done = run_remit("policy", "conformance", tmp_path, env=environment(tmp_path))
    assert done.returncode == 1 and "tests/t.json" in done.stdout


def test_one_request_is_decided_from_files(tmp_path: Path) -> None:
    write_test(tmp_path)
    asked = {"principal": 'Shop::User::"ann"', "action": 'Shop::Action::"read"', "resource": ORDER}
    (tmp_path / "r.json").write_text(json.dumps({**asked, "context": {"from": "10.1.2.3"}}))
    done = run_remit(
        "policy", "authorize", "--policies", tmp_path / "p.cedar", "--entities", tmp_path / "e.json",
        "--schema", tmp_path / "s.cedarschema", "--request", tmp_path / "r.json", "-o", "json", env=environment(tmp_path),
    )  # fmt: skip
    assert done.returncode == 0 and json.loads(done.stdout)["decision"] == "allow"


def test_a_stated_validity_that_is_not_the_validators_counts(tmp_path: Path) -> None:
    write_test(tmp_path)
    file = tmp_path / "tests" / "t.json"
    test = json.loads(file.read_text())
    true = cedarpy.validate_policies((tmp_path / "p.cedar").read_text(), SCHEMA).validation_passed
    seen = {}
    for stated in (true, not true):
        file.write_text(json.dumps({**test, "shouldValidate": stated}))
        done = run_remit("policy", "conformance", tmp_path, "-o", "json", env=environment(tmp_path))
        told = json.loads(done.stdout)
        assert told["requests"] == 1
        seen[stated] = (done.returncode, [row["what"] for row in told["differences"]])
    assert seen == {true: (0, []), not true: (1, ["validation"])}


LONG = {
    "sum": "1" + " + 1" * 999 + " == 1000",
    "and": " && ".join(["true"] * 1000),
    "or": " || ".join(['principal == U::"b"'] * 999 + ['principal in G::"g\\"{"']),
    "not in brackets": "!(" * 240 + "true" + ")" * 240,
    "choices": "if true then " * 200 + "true" + " else false" * 200,
    "lists": "[" * 240 + "1" + "]" * 240 + " == " + "[" * 240 + "1" + "]" * 240,
}


@pytest.mark.parametrize("condition", LONG.values(), ids=LONG)
def test_a_condition_that_is_too_long_for_our_reading_is_decided_by_cedarpy_and_told(condition: str) -> None:
    head = '@when("so")\n@id("x") permit(principal is U in G::"g\\"{", action == Action::"a", resource) // when\n'
    entities = [
        {"uid": {"type": "U", "id": "a"}, "attrs": {}, "parents": [{"type": "G", "id": 'g"{'}]},
        {"uid": {"type": "G", "id": 'g"{'}, "attrs": {}, "parents": []},
    ]
    engine = Cedar(f"{head}when {{ {condition} }};", entities, annotated_ids=True)
    asked = ({"type": "U", "id": "a"}, {"type": "Action", "id": "a"}, {"type": "R", "id": "r"})
    answer = engine.authorize(*asked)
    assert (answer.allowed, answer.engine, answer.reasons) == (True, "reference", {"x"})
    (policy,) = engine.policies.policies
    assert policy.uncovered == "a condition nested too deeply"
    assert not engine.authorize({"type": "U", "id": "b"}, *asked[1:]).allowed


def test_what_cannot_be_seen_to_leave_the_time_alone_is_held_to_look_at_it() -> None:
    (policy,) = read_policies(f"permit(principal, action, resource) when {{ {LONG['sum']} }};")
    assert looks_at_time(policy.est)


def test_the_command_counts_what_cedarpy_decided_for_its_length(tmp_path: Path) -> None:
    write_test(tmp_path, decision="allow", reason=["policy0"], errors=[])
    (tmp_path / "p.cedar").write_text(f"permit(principal, action, resource) when {{ {LONG['sum']} }};")
    done = run_remit("policy", "conformance", tmp_path, "-o", "json", env=environment(tmp_path))
    assert (done.returncode, json.loads(done.stdout)) == (0, {"requests": 1, "by_reference": 1, "differences": []})
