"""AuthZEN 1.0 over bytes. The requests follow the scenario of the OpenID certification suite (Basic and Batch levels).

| section | what |
|---|---|
| §6 | evaluation: decisions, structure, missing and mistyped fields, malformed bodies |
| §7 | evaluations: defaults, whole-object override, the three semantics, errors of one item |
| §9, §10 | metadata, content type, X-Request-ID |
"""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from remit.access.model import Decision, Obligation, Request
from remit.access.policy.compile import compile_policies
from remit.access.policy.decide import Pdp
from remit.access.policy.facts import IdentityFacts
from remit.access.policy.schema import STANDARD
from remit.access.snapshot import ResourceFacts, Snapshot
from remit.kernel.canonical import canonical
from remit.kernel.clock import ManualClock
from remit.kernel.errors import Rejected, Unavailable
from remit.surface.api import authzen

NOW = datetime(2026, 1, 1, tzinfo=UTC)
POLICIES = """
@id("read") permit(principal, action == Remit::Action::"read", resource);
@id("write-own") permit(principal in Remit::Identity::"alice", action == Remit::Action::"write", resource)
unless { context.claimed has resource_status && context.claimed.resource_status == "archived" };
@id("admins") permit(principal in Remit::Identity::"bob", action == Remit::Action::"write", resource)
when { context.claimed has subject_role && context.claimed.subject_role == "admin" };
"""


def decide(request: Request) -> Decision:
    identities = [
        IdentityFacts(id=f"id_{name}", name=name, kind="workload", tier=3, owner_active=True)
        for name in ("alice", "bob")
    ]
    records = [ResourceFacts(name="record/record-1", kind="record", sensitivity="internal")]
    whole = Snapshot.of(
        compile_policies(POLICIES), epoch=1, sequence=1, at=NOW.timestamp(), identities=identities, resources=records
    )
    return Pdp(lambda: whole, ManualClock(NOW), vocabulary=STANDARD).decide(request, explain=True)


async def decide_later(request: Request) -> Decision:
    await asyncio.sleep(0)
    return decide(request)


def ask(body: Any, *, batch: bool = False, by: Any = decide_later) -> tuple[int, Any]:
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    status, answer = asyncio.run((authzen.evaluations if batch else authzen.evaluation)(raw, by))
    return status, json.loads(answer)


def request(
    subject: str = "alice", action: str = "read", record: str = "record-1", **properties: Any
) -> dict[str, Any]:
    return {
        "subject": {"type": "identity", "id": subject, "properties": properties.get("subject_properties", {})},
        "action": {"name": action},
        "resource": {"type": "record", "id": record, "properties": properties.get("resource_properties", {})},
    }


ARCHIVED = {"resource_properties": {"status": "archived"}}
ADMIN = {"subject_properties": {"role": "admin"}}


@pytest.mark.parametrize(
    ("body", "decision"),
    [
        (request("alice", "read"), True),
        (request("alice", "write"), True),
        (request("bob", "read"), True),
        (request("bob", "write"), False),
        (request("alice", "write", **ARCHIVED), False),
        (request("bob", "write", **ADMIN, **ARCHIVED), True),
        (request("mallory", "read"), False),
        (request("alice", "delete"), False),
    ],
)
def test_the_mandated_decisions(body: dict[str, Any], decision: bool) -> None:
    status, answer = ask(body)
    assert (status, answer["decision"]) == (200, decision)


def test_a_denial_is_200_and_says_why_and_what_is_needed() -> None:
    _, answer = ask(request("bob", "write"))
    reason = answer["context"]["reason"]
    assert [policy["id"] for policy in reason["policies"]] == ["remit:default-deny"]
    assert reason["facts"]["principal"]["id"] == "id_bob"
    assert reason["needed"] == ["`admins` would permit it, but `context.claimed has subject_role` is false"]


def test_the_same_question_has_the_same_answer() -> None:
    first, second = (ask(request()) for _ in range(2))
    assert first[1]["decision"] is second[1]["decision"] is True
    assert first[1]["context"]["id"] != second[1]["context"]["id"]


def test_unknown_fields_are_ignored() -> None:
    body = request()
    body["later"] = {"x": 1}
    body["subject"]["later"] = [1]
    assert ask(body)[1]["decision"] is True


def test_a_plain_function_may_decide() -> None:
    assert ask(request(), by=decide)[1]["decision"] is True


def test_obligations_come_in_the_context() -> None:
    def conditional(asked: Request) -> Decision:
        return replace(decide(asked), obligations=(Obligation(kind="redaction", detail="names"),))

    assert ask(request(), by=conditional)[1]["context"]["obligations"] == [{"kind": "redaction", "detail": "names"}]


@pytest.mark.parametrize(
    "path",
    ["subject", "action", "resource", "subject.type", "subject.id", "action.name", "resource.type", "resource.id"],
)
def test_a_missing_field_is_400(path: str) -> None:
    body: dict[str, Any] = request()
    *above, last = path.split(".")
    del (body[above[0]] if above else body)[last]
    status, problem = ask(body)
    assert (status, problem["code"].startswith("access.authzen.")) == (400, True)


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("subject", "alice"),
        ("subject.id", 7),
        ("subject.id", ""),
        ("subject.id", "x" * 2000),
        ("action.name", None),
        ("resource", []),
        ("subject.properties", 3),
        ("context", "x"),
    ],
)
def test_a_field_of_a_wrong_type_is_400(path: str, value: Any) -> None:
    body: dict[str, Any] = request()
    *above, last = path.split(".")
    (body[above[0]] if above else body)[last] = value
    assert ask(body)[0] == 400


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b"\xff\xfe",
        b'{"subject": 1} x',
        b"[" * 30_000,
        json.dumps(request()).encode("utf-16"),
        json.dumps(request()).replace("alice", "\\ud800").encode(),
        json.dumps(request()).replace('"action"', '"subject": {"type": "identity", "id": "bob"}, "action"').encode(),
        b'{"context": {"a": NaN}}',
        b'{"context": {"a": ' + b"9" * 5000 + b"}}",
    ],
)
def test_a_malformed_body_is_400(raw: bytes) -> None:
    status, problem = ask(raw)
    assert (status, problem["code"]) in [(400, "access.authzen.malformed"), (400, "access.authzen.missing")]


def test_an_oversized_body_is_refused_unread() -> None:
    assert ask(b" " * (authzen.MAX_BODY_BYTES + 1))[0] == 413


def test_what_a_caller_says_can_always_be_recorded() -> None:
    body = request()
    body["context"] = {"score": 0.5, "huge": 2**60, "deep": {"a": [1.5, None]}}
    told: list[Request] = []

    def note(asked: Request) -> Decision:
        told.append(asked)
        return decide(asked)

    assert ask(body, by=note)[0] == 200
    assert told[0].claimed == {"score": "0.5", "huge": str(2**60), "deep": {"a": ["1.5", None]}}
    assert canonical(dict(told[0].claimed))


def test_nesting_without_end_is_400() -> None:
    body = request()
    for _ in range(30):
        body["context"] = {"a": body.get("context", {})}
    assert ask(body)[0] == 400


def test_an_unavailable_decision_point_is_no_answer() -> None:
    def dead(_: Request) -> Decision:
        raise Unavailable("access.pdp.down", "the ledger does not answer")

    with pytest.raises(Unavailable):
        ask(request(), by=dead)


# Evaluations.


def decisions(body: dict[str, Any]) -> list[bool]:
    status, answer = ask(body, batch=True)
    assert status == 200
    return [item["decision"] for item in answer["evaluations"]]


WRITES = [{"subject": {"type": "identity", "id": name}} for name in ("alice", "bob", "alice")]


def test_items_take_what_they_lack_from_the_top_level() -> None:
    assert decisions({**request(action="write"), "evaluations": WRITES}) == [True, False, True]


def test_an_item_overrides_whole_objects() -> None:
    body = {**request("bob", "write", **ADMIN), "evaluations": [{}, {"subject": {"type": "identity", "id": "bob"}}]}
    assert decisions(body) == [True, False]


@pytest.mark.parametrize(
    ("semantic", "expected"),
    [
        ("execute_all", [True, False, True]),
        ("deny_on_first_deny", [True, False]),
        ("permit_on_first_permit", [True]),
    ],
)
def test_the_three_semantics(semantic: str, expected: list[bool]) -> None:
    options = {"evaluations_semantic": semantic}
    assert decisions({**request(action="write"), "evaluations": WRITES, "options": options}) == expected


def test_an_unknown_semantic_is_400() -> None:
    options = {"evaluations_semantic": "first_wins"}
    assert ask({**request(), "evaluations": WRITES, "options": options}, batch=True)[0] == 400


@pytest.mark.parametrize("evaluations", [{}, {"evaluations": []}, {"evaluations": None}])
def test_without_items_it_is_a_single_evaluation(evaluations: dict[str, Any]) -> None:
    status, answer = ask({**request(), **evaluations}, batch=True)
    assert (status, answer["decision"]) == (200, True)


@pytest.mark.parametrize(
    "bad", [{"subject": {"type": "identity"}}, {"action": 3}, "x", None, {"resource": {"id": "r"}}]
)
def test_a_bad_item_is_denied_and_spoils_no_other(bad: Any) -> None:
    status, answer = ask({**request(), "evaluations": [bad, {}]}, batch=True)
    assert status == 200
    assert [item["decision"] for item in answer["evaluations"]] == [False, True]
    assert answer["evaluations"][0]["context"]["error"]["status"] == 400


def test_an_item_that_cannot_be_decided_is_denied() -> None:
    def dead(_: Request) -> Decision:
        raise Unavailable("access.pdp.down", "the ledger does not answer")

    _, answer = ask({**request(), "evaluations": [{}]}, batch=True, by=dead)
    assert answer["evaluations"][0]["decision"] is False
    assert answer["evaluations"][0]["context"]["error"]["status"] == 503


def test_a_batch_is_bounded() -> None:
    assert ask({**request(), "evaluations": [{}] * (authzen.MAX_EVALUATIONS + 1)}, batch=True)[0] == 400


# Metadata and transport.


def test_the_metadata_names_the_endpoints_under_the_url_in_use() -> None:
    found = json.loads(authzen.metadata("https://pdp.example/"))
    assert {key: found[key] for key in found if not key.startswith("search_")} == {
        "policy_decision_point": "https://pdp.example",
        "access_evaluation_endpoint": "https://pdp.example/access/v1/evaluation",
        "access_evaluations_endpoint": "https://pdp.example/access/v1/evaluations",
    }


@pytest.mark.parametrize("kind", ["application/json", "application/json; charset=utf-8", "Application/JSON"])
def test_json_is_read_under_its_own_type(kind: str) -> None:
    authzen.require_json(kind)


@pytest.mark.parametrize("kind", [None, "", "text/plain", "application/jsonp"])
def test_another_content_type_is_refused(kind: str | None) -> None:
    with pytest.raises(Rejected):
        authzen.require_json(kind)


def test_a_request_id_is_echoed_unless_it_could_forge_a_header() -> None:
    assert authzen.echoed_request_id("abc-1") == {"X-Request-ID": "abc-1"}
    for hostile in (None, "", "a\r\nSet-Cookie: x", "ü", "x" * 200):
        assert authzen.echoed_request_id(hostile) == {}
