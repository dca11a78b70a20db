"""The scenario of the OpenID AuthZEN certification suite as data: requests, and what must come back.

The fixture is two users (alice; bob, who is an administrator where the request says so), two records (record-2 is
archived where the request says so) and the actions read, write and delete (soft only). Ids are those of the suite's
scenario document, with a letter where one of its tests has several requests.

Source: openid/authzen, certification/authorization-api-1_0-scenario.md; levels Basic, Batch and Search, Discovery.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

EVALUATION, EVALUATIONS = "/access/v1/evaluation", "/access/v1/evaluations"
SUBJECTS, RESOURCES, ACTIONS = (f"/access/v1/search/{kind}" for kind in ("subject", "resource", "action"))
ADMIN, ARCHIVED = {"role": "admin"}, {"status": "archived"}


@dataclass(frozen=True, slots=True)
class World:
    """How the fixture is called where the scenario runs."""

    alice: str = "alice"
    bob: str = "bob"
    subject: str = "identity"
    resource: str = "api"
    records: Mapping[str, str] = field(default_factory=dict)
    """How record-1 and record-2 are called, where they are called otherwise."""

    def named(self, name: str) -> str:
        """What a name of the scenario is here."""
        return str(getattr(self, name, self.records.get(name, name)))


Body = Callable[[World], Any]


@dataclass(frozen=True, slots=True)
class Case:
    id: str
    path: str
    body: Body
    holds: Callable[[int, Any, World], bool]
    headers: dict[str, str] = field(default_factory=dict)
    needs_claims: bool = False
    """Rests on a claim that the standard vocabulary does not declare."""


def who(name: str, role: dict[str, str] | None = None) -> Callable[[World], Any]:
    return lambda world: {
        "type": world.subject,
        "id": world.named(name),
        **({"properties": role} if role else {}),
    }


def what(record: str = "record-1", status: dict[str, str] | None = None) -> Callable[[World], Any]:
    return lambda world: {
        "type": world.resource,
        "id": world.named(record),
        **({"properties": status} if status else {}),
    }


def question(subject: Any, action: Any, resource: Any, **more: Any) -> Body:
    def make(world: World) -> Any:
        named = {"name": action} if isinstance(action, str) else action
        return {"subject": subject(world), "action": named, "resource": resource(world), **more}

    return make


def without(path: str, body: Body) -> Body:
    def make(world: World) -> Any:
        made = body(world)
        *above, last = path.split(".")
        del (made[above[0]] if above else made)[last]
        return made

    return make


def changed(path: str, value: Any, body: Body) -> Body:
    def make(world: World) -> Any:
        made = body(world)
        *above, last = path.split(".")
        (made[above[0]] if above else made)[last] = value
        return made

    return make


def says(decision: bool) -> Callable[[int, Any, World], bool]:
    return lambda status, body, world: status == 200 and body["decision"] is decision


def says_all(*decisions: bool) -> Callable[[int, Any, World], bool]:
    return lambda status, body, world: status == 200 and [e["decision"] for e in body["evaluations"]] == list(decisions)


def refused(status: int = 400) -> Callable[[int, Any, World], bool]:
    return lambda found, body, world: found == status and "decision" not in (body or {})


def finds(*names: str) -> Callable[[int, Any, World], bool]:
    def holds(status: int, body: Any, world: World) -> bool:
        found = {each.get("id", each.get("name")) for each in body["results"]}
        return status == 200 and found == {world.named(name) for name in names}

    return holds


def batch(items: list[Any], *, subject: Any = None, action: str = "write", semantic: str = "", **more: Any) -> Body:
    def make(world: World) -> Any:
        top: dict[str, Any] = {"action": {"name": action}, "resource": what()(world), **more}
        if subject is not None:
            top["subject"] = subject(world)
        if semantic:
            top["options"] = {"evaluations_semantic": semantic}
        return {**top, "evaluations": [each(world) if callable(each) else each for each in items]}

    return make


def only(subject: Any) -> Callable[[World], Any]:
    return lambda world: {"subject": subject(world)}


ALICE, BOB, BOB_ADMIN = who("alice"), who("bob"), who("bob", ADMIN)
READS = question(ALICE, "read", what())
SOFT, HARD = ({"name": "delete", "properties": {"soft": soft}} for soft in (True, False))
WRITERS = [only(ALICE), only(BOB), only(ALICE)]

BASIC = [
    Case("C-2-2-1", EVALUATION, READS, says(True)),
    Case("C-2-2-2", EVALUATION, question(ALICE, "write", what()), says(True)),
    Case("C-2-2-3", EVALUATION, question(BOB, "read", what()), says(True)),
    Case("C-2-2-4", EVALUATION, question(BOB, "write", what()), says(False)),
    Case("C-2-2-5", EVALUATION, question(ALICE, "write", what("record-2", ARCHIVED)), says(False)),
    Case("C-2-2-6", EVALUATION, question(BOB_ADMIN, "write", what("record-2", ARCHIVED)), says(True)),
    Case("C-2-2-7", EVALUATION, question(ALICE, SOFT, what()), says(True), needs_claims=True),
    Case("C-2-2-8", EVALUATION, question(ALICE, HARD, what()), says(False)),
    Case("C-2-2-9", EVALUATION, question(ALICE, "read", what(), context={"time": "2026-01-01T00:00:00Z"}), says(True)),
    Case("C-2-3", EVALUATION, READS, lambda status, body, world: type(body["decision"]) is bool),
    Case("C-2-3-b", EVALUATION, question(who("mallory"), "read", what()), says(False)),
    Case("C-2-3-c", EVALUATION, changed("later", {"x": [1]}, READS), says(True)),
    Case("C-2-3-d", EVALUATION, changed("subject.later", True, READS), says(True)),
    *(
        Case(f"C-2-4-1-{part}", EVALUATION, without(part, READS), refused())
        for part in ("subject", "action", "resource")
    ),
    *(
        Case(f"C-2-4-2-{part}", EVALUATION, without(part, READS), refused())
        for part in ("subject.type", "subject.id", "action.name", "resource.type", "resource.id")
    ),
    Case("C-2-4-3-text", EVALUATION, READS, refused(), {"Content-Type": "text/plain"}),
    Case("C-2-4-3-form", EVALUATION, READS, refused(), {"Content-Type": "application/x-www-form-urlencoded"}),
    Case("C-2-4-4", EVALUATION, lambda world: b'{"subject": {"type": "identity"', refused()),
    Case("C-2-4-4-b", EVALUATION, lambda world: b"[1, 2]", refused()),
    Case("C-2-4-5", EVALUATION, lambda world: b"", refused()),
    Case("C-2-4-5-b", EVALUATION, lambda world: b"{}", refused()),
    *(
        Case(f"C-2-4-6-{path}", EVALUATION, changed(path, value, READS), refused())
        for path, value in (
            ("subject", "alice"), ("subject.id", 7), ("subject.type", None), ("action", "read"), ("action.name", []),
            ("resource", []), ("resource.id", {"a": 1}), ("context", "x"), ("subject.properties", 3),
        )
    ),
    Case("C-2-5", EVALUATION, READS, says(True), {"X-Request-ID": "bfe9eb29-ab87-4ca3-be83-a1d5d8305716"}),
    Case("C-2-6-a", EVALUATION, question(BOB, "write", what()), says(False)),
    Case("C-2-6-b", EVALUATION, question(BOB, "write", what()), says(False)),
]  # fmt: skip
BATCH = [
    Case("C-3-2-1", EVALUATIONS, batch(WRITERS), says_all(True, False, True)),
    Case("C-3-2-2", EVALUATIONS, batch(WRITERS, semantic="execute_all"), says_all(True, False, True)),
    Case("C-3-2-3", EVALUATIONS, batch(WRITERS, semantic="deny_on_first_deny"), says_all(True, False)),
    Case("C-3-2-4", EVALUATIONS, batch(WRITERS, semantic="permit_on_first_permit"), says_all(True)),
    Case("C-3-2-5", EVALUATIONS, batch([{}, only(BOB)], subject=BOB_ADMIN), says_all(True, False)),
    Case(
        "C-3-2-6", EVALUATIONS,
        batch([{}, {"action": {"name": "read"}}], subject=BOB), says_all(False, True),
    ),
    Case(
        "C-3-2-7", EVALUATIONS,
        batch([{}, lambda world: {"resource": what("record-2", ARCHIVED)(world)}], subject=ALICE), says_all(True, False),
    ),
    Case("C-3-3", EVALUATIONS, batch(WRITERS, semantic="first_wins"), refused()),
    Case(
        "C-3-3-b", EVALUATIONS, batch([only(BOB), only(ALICE), only(ALICE)], semantic="deny_on_first_deny"),
        says_all(False),
    ),
    Case(
        "C-3-3-c", EVALUATIONS, batch([only(BOB), only(ALICE), only(BOB)], semantic="permit_on_first_permit"),
        says_all(False, True),
    ),
    Case("C-3-4", EVALUATIONS, batch([{"subject": {"type": "identity"}}, only(ALICE)]), says_all(False, True)),
    Case("C-3-4-b", EVALUATIONS, batch(["x", only(ALICE)]), says_all(False, True)),
    Case("C-3-4-c", EVALUATIONS, question(ALICE, "read", what()), says(True)),
    Case("C-3-4-d", EVALUATIONS, question(ALICE, "read", what(), evaluations=[]), says(True)),
    Case("C-3-4-e", EVALUATIONS, batch(WRITERS), refused(), {"Content-Type": "text/plain"}),
]  # fmt: skip
SEARCH = [
    Case("C-4-2-S1", SUBJECTS, question(lambda world: {"type": world.subject}, "read", what()), finds("alice", "bob")),
    Case("C-4-2-S2", SUBJECTS, question(lambda world: {"type": world.subject}, "write", what()), finds("alice")),
    Case("C-4-2-S3", SUBJECTS, question(BOB, "write", what()), finds("alice")),
    Case(
        "C-4-3-S4", RESOURCES, question(ALICE, "write", lambda world: {"type": world.resource}),
        finds("record-1", "record-2"),
    ),
    Case("C-4-3-S5", RESOURCES, question(BOB, "write", lambda world: {"type": world.resource}), finds()),
    Case("C-4-3-b", RESOURCES, question(ALICE, "read", what("record-2")), finds("record-1", "record-2")),
    Case("C-4-4-S6", ACTIONS, without("action", question(ALICE, "x", what())), finds("read", "write")),
    Case("C-4-4-b", ACTIONS, without("action", question(BOB, "x", what())), finds("read")),
    Case("C-4-4-c", ACTIONS, without("action", question(BOB_ADMIN, "x", what())), finds("read", "write")),
    Case("C-4-5-a", RESOURCES, question(who("mallory"), "read", what()), finds()),
    Case("C-4-5-b", ACTIONS, without("action", question(who("mallory"), "x", what())), finds()),
    Case("C-4-5-c", SUBJECTS, question(ALICE, "read", what("record-9")), finds()),
    Case("C-4-5-d", ACTIONS, without("action", question(ALICE, "x", what("record-9"))), finds()),
    Case("C-4-6-a", SUBJECTS, question(lambda world: {"type": "toaster"}, "read", what()), finds()),
    Case("C-4-6-b", RESOURCES, question(ALICE, "read", lambda world: {"type": "toaster"}), finds()),
    Case("C-4-6-c", SUBJECTS, question(ALICE, "toast", what()), finds()),
    Case("C-4-7-a", RESOURCES, without("subject.id", question(ALICE, "read", what())), refused()),
    Case("C-4-7-b", SUBJECTS, without("resource.id", question(ALICE, "read", what())), refused()),
    Case("C-4-7-c", SUBJECTS, without("subject", question(ALICE, "read", what())), refused()),
    Case("C-4-7-d", SUBJECTS, without("action", question(ALICE, "read", what())), refused()),
    Case("C-4-7-e", RESOURCES, without("resource.type", question(ALICE, "read", what())), refused()),
    Case("C-4-7-f", ACTIONS, without("resource", question(ALICE, "x", what())), refused()),
]  # fmt: skip
CASES = [*BASIC, *BATCH, *SEARCH]
