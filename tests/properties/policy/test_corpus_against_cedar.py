"""Random tests in the form of Cedar's corpus: our answers are cedarpy's, and so is our reading of policies.

`tools/cedar_differential.py` does the same for as long as one likes.
"""

from __future__ import annotations

import json
from pathlib import Path

import cedarpy
import pytest
from cedar_corpus import World, world
from corpus_judge import answered, differences, read_alike, write
from hypothesis import given, settings
from hypothesis import strategies as st

from installation import environment, run_remit

UID = {"type": "U", "id": "a"}
REQUEST = {"principal": UID, "action": {"type": "Action", "id": "view"}, "resource": UID, "context": {}}
SCHEMA = "entity U; action view appliesTo { principal: U, resource: U, context: {} };"
PERMIT = "permit(principal, action, resource)"


@settings(max_examples=250, deadline=None)
@given(seed=st.integers(0, 2**32))
def test_random_worlds_are_decided_as_cedar_decides_them(seed: int) -> None:
    made = world(seed)
    assert read_alike(made.policies)
    try:
        requests = answered(made)
    except ValueError:
        return  # one namespace shadows the other: Cedar refuses such a schema
    assert differences(made, requests) == []


def test_the_command_decides_a_folder_of_them_too(tmp_path: Path) -> None:
    folder = tmp_path / "corpus-tests"
    folder.mkdir()
    expected = 0
    for seed in range(40):
        made = world(seed)
        try:
            requests = answered(made)
        except ValueError:
            continue
        expected += len(requests)
        write(made, requests, folder, f"{seed:040x}")
    done = run_remit("policy", "conformance", tmp_path, "-o", "json", env=environment(tmp_path))
    told = json.loads(done.stdout)
    assert (done.returncode, told["differences"], told["requests"]) == (0, [], expected)


@pytest.mark.parametrize(
    "text",
    [
        "// ended by a carriage return\rpermit(principal, action, resource);",
        '// " ;\r' + f"{PERMIT};",
        f'@id("a") {PERMIT}; @id("a") {PERMIT};',
        f'@id("policy1") {PERMIT}; {PERMIT};',
        f"\u2028\x85\xa0{PERMIT}\u3000;",
        f'{PERMIT} when {{ "a;\n//" == ";" }};// the end',
        f"{PERMIT} when {{ {'true && ' * 250}true }};",
        f"{PERMIT} when {{ {'(' * 200}true{')' * 200} }};",
        f"{PERMIT} when {{ [{', '.join(f'(1 + {n})' for n in range(1500))}].contains(7) }};",
        f"{PERMIT} when {{ {'-1 + ' * 100}1 == 1 }};",
        f"{PERMIT} when {{ -(9223372036854775807 + 1) == decimal(\"1.0\") }};",
        f"{PERMIT} when {{ 9223372036854775807 + 1 == duration(\"1d\").toDays() }};",
        f"{PERMIT} when {{ duration(\"1d\").toDate() == 9223372036854775807 * 2 }};",
        f"{PERMIT} when {{ ip() == 1 || ip(\"a\", \"b\") == 1 }};",
        f"{PERMIT} when {{ true || ip(\"::1\").isIpv4(1, 2) }};",
        "",
        "// nothing",
    ],
)  # fmt: skip
def test_texts_that_once_were_read_or_decided_otherwise(text: str) -> None:
    made = World(text, [], SCHEMA, [REQUEST])
    assert read_alike(text)
    assert differences(made, answered(made)) == []


@pytest.mark.parametrize(
    "text",
    ["\x1c" + f"{PERMIT};", "\ufeff" + f"{PERMIT};", f"{PERMIT}", ";", f"{PERMIT};;", f'@a("1")@a("2"){PERMIT};',
     f"{PERMIT} when {{ '1' == 1 }};", f'{PERMIT} when {{ "\\u{{d800}}" == "" }};', f"{PERMIT} when {{ !!!!!true }};",
     f"{PERMIT} when {{ {{a: 1, a: 2}} == 1 }};", f"{PERMIT} when {{ 9223372036854775808 > 0 }};",
     f"{PERMIT} when {{ principal is if }};", f"{PERMIT} when {{ 1 < 2 < 3 }};", f"{PERMIT} when {{ }};", f'{PERMIT} when {{ "a carriage return: \r" == "" }};'],
)  # fmt: skip
def test_what_cedar_refuses_is_refused(text: str) -> None:
    with pytest.raises(ValueError):
        cedarpy.PolicySet.from_str(text)
    assert read_alike(text)


@pytest.mark.parametrize("explicit", [True, False])
@pytest.mark.parametrize("ours", ["", "A"])
def test_a_group_of_actions_may_be_of_another_namespace(explicit: bool, ours: str) -> None:
    """An explicit `Action` means the namespace's own if it declares that action, else the one without a namespace."""
    group = {"id": "all", "type": "Action"} if explicit else {"id": "all"}
    reach = {"principalTypes": ["U"], "resourceTypes": ["U"]}
    schema = {
        "": {"entityTypes": {"U": {}}, "actions": {} if ours or not explicit else {"all": {}}},
        "A": {"entityTypes": {}, "actions": {"view": {"memberOf": [group], "appliesTo": reach}}},
    }
    if ours or not explicit:
        schema["A"]["actions"]["all"] = {}
    asked = {**REQUEST, "action": {"type": "A::Action", "id": "view"}}
    policies = (
        'permit(principal, action in A::Action::"all", resource); permit(principal, action in Action::"all", resource);'
    )
    made = World(policies, [], json.dumps(schema), [asked])
    requests = answered(made)
    assert requests[0]["reason"] == ["policy0" if ours or not explicit else "policy1"]
    assert differences(made, requests) == []
