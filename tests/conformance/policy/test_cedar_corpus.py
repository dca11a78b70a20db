"""Cedar's integration tests, in their own form: ours below `corpus/`, and random ones, by the command and in process.

| vectors | from |
|---|---|
| `corpus/tests/*/1.json` | written here, over the schema and entities of `corpus/sample-data`; answers are cedarpy's |
| seeds | `cedar_corpus.world`; answers are cedarpy's at the time of the test |
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cedarpy
import pytest

from installation import environment, run_remit
from remit.access.policy.cedar import Cedar

CORPUS = Path(__file__).parent / "corpus"
TESTS = sorted((CORPUS / "tests").glob("*/*.json"))


@pytest.fixture(params=TESTS, ids=lambda path: path.parent.name)
def case(request: pytest.FixtureRequest) -> dict[str, Any]:
    """A test with the texts that its files hold."""
    found: dict[str, Any] = json.loads(request.param.read_text())
    for part in ("policies", "entities", "schema"):
        found[part] = (CORPUS / found[part]).read_bytes().decode()
    return found


def test_every_decision_reason_and_error_is_cedars(case: dict[str, Any]) -> None:
    engine = Cedar(case["policies"], case["entities"], case["schema"])
    assert engine.uncovered == ""
    for asked in case["requests"]:
        answer = engine.authorize(*_question(asked).values(), validate=asked["validateRequest"])
        ours = ("allow" if answer.allowed else "deny", answer.reasons, answer.errors)
        assert ours == (asked["decision"], set(asked["reason"]), set(asked["errors"])), asked["description"]


def test_what_is_expected_is_what_cedar_answers(case: dict[str, Any]) -> None:
    schema = _schema(case["schema"])
    policies, entities = cedarpy.PolicySet.from_str(case["policies"]), case["entities"]
    for asked in case["requests"]:
        answer = cedarpy.is_authorized(_question(asked), policies, entities, schema=schema)
        errors = {message.split("`", 2)[1] for message in answer.diagnostics.errors}
        theirs = ("allow" if answer.allowed else "deny", set(answer.diagnostics.reasons), errors)
        assert theirs == (asked["decision"], set(asked["reason"]), set(asked["errors"])), asked["description"]


def test_the_verdict_of_the_validator_is_cedars(case: dict[str, Any]) -> None:
    found = cedarpy.validate_policies(case["policies"], _schema(case["schema"]))
    assert found.validation_passed == case["shouldValidate"]


def test_the_command_finds_no_difference_in_the_folder(tmp_path: Path) -> None:
    done = run_remit("policy", "conformance", CORPUS, "-o", "json", env=environment(tmp_path))
    told = json.loads(done.stdout)
    assert (done.returncode, told["differences"]) == (0, [])
    assert told["requests"] == sum(len(json.loads(path.read_text())["requests"]) for path in TESTS)


def test_both_syntaxes_of_the_schema_say_the_same() -> None:
    shop = CORPUS / "sample-data" / "shop"
    texts = [(shop / name).read_text() for name in ("schema.cedarschema", "schema.cedarschema.json")]
    policies = (CORPUS / "tests" / "hierarchy" / "policies.cedar").read_text()
    engines = [Cedar(policies, (shop / "entities.json").read_text(), text) for text in texts]
    asked = json.loads((CORPUS / "tests" / "hierarchy" / "1.json").read_text())["requests"]
    answers = [[engine.authorize(*_question(one).values()) for one in asked] for engine in engines]
    assert answers[0] == answers[1]


def _question(asked: dict[str, Any]) -> dict[str, Any]:
    return {part: asked[part] for part in ("principal", "action", "resource", "context")}


def _schema(text: str) -> cedarpy.Schema:
    return cedarpy.Schema.from_json_str(text) if text.startswith("{") else cedarpy.Schema.from_str(text)
