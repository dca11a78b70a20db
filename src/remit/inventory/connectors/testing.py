"""The contract of connectors as a suite that every connector runs on a real source.

A test file gives the suite a stage:

    @pytest.fixture(scope="module")
    def stage() -> Iterator[ConnectorStage]: ...

    class TestRedis(ConnectorContract):
        pass
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import sha256
from typing import Any

import msgspec

from remit.inventory.connectors.port import AnyConnector, ConnectorManifest, Scan
from remit.inventory.model import (
    CredentialFact,
    EdgeFact,
    Fact,
    FindingFact,
    IdentityFact,
    OwnerFact,
    ResourceFact,
    Skipped,
)
from remit.inventory.use.model import UseFact
from remit.kernel.errors import RemitError
from remit.kernel.ids import parse_name

NOW = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)
REASONS = frozenset({
    "unreadable", "too-large", "malformed", "encrypted", "not-permitted", "not-supported", "unreachable",
    "changed-while-read", "pruned",
})  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class ConnectorStage:
    """A source on which something was planted."""

    connector: Callable[[], AnyConnector]
    """A new connector on it, not opened, with the least rights that its manifest names."""
    expected: Sequence[str]
    """Names of identities, credentials' nodes or resources that must be found."""
    secrets: Sequence[str] = ()
    """Secret values that are readable to it or given to it: none may be in a fact, an error or a repr."""
    refused: Callable[[], AnyConnector] | None = None
    """One whose `open` must fail with a typed error: a wrong password, a missing file."""


def fingerprint(secret: bytes) -> str:
    """A fingerprint under a key of the tests."""
    return "hmac:" + sha256(b"tests" + secret).hexdigest()


def facts_of(connector: AnyConnector, *, stopped: Callable[[], bool] = lambda: False) -> list[Fact]:
    """What a whole run of it says."""
    scan = Scan(now=NOW, fingerprint=fingerprint, stopped=stopped)
    connector.open()
    try:
        facts: list[Fact] = []
        for raw in connector.fetch(scan):
            facts.extend((raw,) if isinstance(raw, Skipped) else connector.translate(raw, scan))
        return facts
    finally:
        connector.close()


class ConnectorContract:
    """What every connector keeps."""

    def test_the_manifest_says_what_it_sees_needs_and_cannot_see(self, stage: ConnectorStage) -> None:
        manifest: ConnectorManifest = stage.connector().manifest
        assert manifest.id and manifest.title and manifest.source
        assert manifest.observes and manifest.blind_to
        assert all(each.grant and each.why for each in manifest.needs)
        assert all(each.what and each.why for each in manifest.blind_to)
        assert len({each.name for each in manifest.options}) == len(manifest.options)

    def test_what_was_planted_is_found(self, stage: ConnectorStage) -> None:
        facts = facts_of(stage.connector())
        found = {name for fact in facts for name in _shown(fact)}
        missing = sorted(set(stage.expected) - found)
        assert not missing, f"not found: {missing}; skipped: {[fact for fact in facts if isinstance(fact, Skipped)]}"

    def test_no_secret_is_in_a_fact_an_error_or_a_repr(self, stage: ConnectorStage) -> None:
        connector = stage.connector()
        told = repr(connector) + "".join(msgspec.json.encode(fact).decode() for fact in facts_of(connector))
        if stage.refused is not None:
            told += _refusal(stage.refused())
        assert not [number for number, secret in enumerate(stage.secrets) if secret in told]

    def test_names_are_well_formed_and_facts_survive_the_wire(self, stage: ConnectorStage) -> None:
        for fact in facts_of(stage.connector()):
            again = msgspec.convert(msgspec.json.decode(msgspec.json.encode(fact)), type(fact))
            assert again == fact
            wrong = [each for each in _named(fact) if parse_name(each) is None and not each.startswith("spiffe://")]
            assert not wrong, fact
            assert all(len(each) <= 1000 for each in _named(fact)), fact

    def test_two_runs_say_the_same(self, stage: ConnectorStage) -> None:
        first, second = (_essence(facts_of(stage.connector())) for _ in range(2))
        assert first == second

    def test_the_instance_and_scope_are_stable(self, stage: ConnectorStage) -> None:
        seen = set()
        for _ in range(2):
            connector = stage.connector()
            connector.open()
            seen.add((connector.instance, connector.scope))
            connector.close()
        assert len(seen) == 1 and all(seen.pop())

    def test_closing_twice_and_without_opening_is_fine(self, stage: ConnectorStage) -> None:
        connector = stage.connector()
        connector.close()
        connector.open()
        connector.close()
        connector.close()

    def test_a_run_that_is_stopped_ends_without_an_error(self, stage: ConnectorStage) -> None:
        facts_of(stage.connector(), stopped=lambda: True)

    def test_what_cannot_be_opened_is_a_typed_error(self, stage: ConnectorStage) -> None:
        if stage.refused is not None:
            assert _refusal(stage.refused())

    def test_findings_name_their_rule_and_what_to_do(self, stage: ConnectorStage) -> None:
        connector = stage.connector()
        for fact in facts_of(connector):
            if isinstance(fact, FindingFact):
                assert fact.rule.partition(".")[2] and fact.title and fact.next_step, fact
            if isinstance(fact, Skipped):
                assert fact.reason in REASONS, fact


def _refusal(connector: AnyConnector) -> str:
    """The text of the typed error with which `open` fails."""
    try:
        connector.open()
    except RemitError as error:
        assert error.code and error.message
        return f"{error!r} {error} {error.message} {error.next_step}"
    finally:
        connector.close()
    raise AssertionError("it was opened")


def _shown(fact: Fact) -> tuple[str, ...]:
    match fact:
        case IdentityFact():
            return (fact.name, *fact.aliases)
        case CredentialFact():
            return (fact.fingerprint, fact.identity or "")
        case ResourceFact():
            return (fact.name,)
        case _:
            return ()


def _named(fact: Fact) -> tuple[str, ...]:
    match fact:
        case IdentityFact():
            return (fact.name, *fact.aliases)
        case CredentialFact():
            return (fact.identity,) if fact.identity else ()
        case ResourceFact():
            return (fact.name,)
        case EdgeFact():
            return (fact.source, fact.target)
        case OwnerFact():
            return (fact.identity,)
        case FindingFact():
            return (fact.subject,) if fact.subject else ()
        case UseFact():
            return (*(row.name for row in fact.rows), *(each.use.name for each in fact.sessions))
        case Skipped():
            return ()


_MOVING = ("last_used", "attributes", "evidence", "detail", "title", "confidence")
"""What use changes between two runs."""


def _essence(facts: list[Fact]) -> list[str]:
    plain: list[dict[str, Any]] = [
        {
            "is": type(fact).__name__,
            **{key: value for key, value in msgspec.to_builtins(fact).items() if key not in _MOVING},
        }
        for fact in facts
        if not (isinstance(fact, UseFact) and fact.sessions)  # who is connected at the moment
    ]
    return sorted({msgspec.json.encode(each).decode() for each in plain})
