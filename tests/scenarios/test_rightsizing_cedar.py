"""Right-sizing by our own decisions: an identity that policies permit everything, and that reads one thing."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager

from installation import Installation, installation, plant

_POLICY = '@id("wide") permit (principal, action, resource);\n'


def _asks(made: Installation, identity: str, action: str, resource: str) -> bool:
    body = {"subject": {"type": "identity", "id": identity}, "action": {"name": action},
            "resource": {"type": "table", "id": resource}}  # fmt: skip
    return bool(made.admin.post("/access/v1/evaluation", body)["decision"])


def test_an_identity_is_narrowed_to_what_it_was_allowed_and_nobody_else_is() -> None:
    with installation() as made:
        made.cli("discover", "files", plant(made.root / "tree"))
        listed = [each for each in made.json("ls") if each["record"] == "identity"]
        one, other = (each["id"] for each in listed[:2])
        made.cli("people", "enrol", "ann")
        policy = made.root / "p.cedar"
        policy.write_text(_POLICY)
        made.cli("policy", "apply", str(policy))
        assert _asks(made, one, "read", "shop.orders") and _asks(made, one, "write", "shop.audit")
        found = made.json("rightsize", one, "--replay")
        assert (found["language"], found["replay"]["refusals"], found["replay"]["observed"]) == ("cedar", 0, 2)
        policy.write_text(found["texts"][0]["after"])
        made.cli("policy", "apply", str(policy))
        assert _asks(made, one, "read", "shop.orders"), json.dumps(found)
        assert not _asks(made, one, "write", "shop.orders")
        assert _asks(made, other, "write", "shop.orders")
        assert made.json("rightsize", one)["changes"] is False


@contextmanager
def _used_for_one_thing() -> Iterator[tuple[Installation, str]]:
    """An installation whose policies permit everything, and an identity that only ever read orders."""
    with installation() as made:
        made.cli("discover", "files", plant(made.root / "tree"))
        identity = next(each["id"] for each in made.json("ls") if each["record"] == "identity")
        made.cli("people", "enrol", "ann")
        policy = made.root / "p.cedar"
        policy.write_text(_POLICY)
        made.cli("policy", "apply", str(policy))
        assert _asks(made, identity, "read", "shop.orders")
        made.cli("rightsize", "stage", identity, "shadow")
        yield made, identity


def _settled(made: Installation, identity: str, phase: str) -> dict[str, object]:
    deadline = time.monotonic() + 60
    while (stage := made.json("rightsize", identity)["stages"][0])["phase"] != phase:
        assert time.monotonic() < deadline, stage
        time.sleep(0.3)
    return dict(stage)


def test_a_canary_refuses_once_and_is_taken_back_by_itself() -> None:
    with _used_for_one_thing() as (made, identity):
        canary = made.json("rightsize", "stage", identity, "canary", "--share", "100")
        assert (canary["phase"], canary["share"]) == ("canary", 100)
        assert _asks(made, identity, "read", "shop.orders")
        assert [_asks(made, identity, "write", "shop.orders") for _ in range(2)] == [False, True]
        assert _settled(made, identity, "restored")["refused"] == [
            "write on table/shop.orders by write on table shop.orders"
        ]


def test_enforcing_waits_for_the_policies_and_a_refusal_asks_for_them_back() -> None:
    with _used_for_one_thing() as (made, identity):
        made.cli("rightsize", "stage", identity, "canary")
        refused = made.cli("rightsize", "stage", identity, "enforce", code=None)
        assert "governance.rightsizing.by-hand" in refused.stderr
        policy = made.root / "narrowed.cedar"
        policy.write_text(made.json("rightsize", identity)["texts"][0]["after"])
        made.cli("policy", "apply", str(policy))
        assert made.json("rightsize", "stage", identity, "enforce")["phase"] == "enforced"
        assert not _asks(made, identity, "write", "shop.orders")
        assert "remit policy rollback" in str(_settled(made, identity, "restoring")["trouble"])
        made.cli("policy", "rollback")
        _settled(made, identity, "restored")
        assert _asks(made, identity, "write", "shop.orders")
