"""Fakes of this capability's ports, and the suite that every implementation of its rows passes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta

from remit.access.policy.lifecycle import PolicyVersion, VersionState, text_digest
from remit.access.policy.ports import PolicyRows
from remit.kernel.canonical import Json, digest
from remit.kernel.ids import new_id


class MemoryPolicyRows:
    """Policy versions in a dictionary."""

    def __init__(self) -> None:
        self._rows: dict[str, PolicyVersion] = {}

    def insert_policy_version(self, version: PolicyVersion) -> None:
        assert version.id not in self._rows
        self._rows[version.id] = version

    def change_policy_version(self, version: PolicyVersion) -> None:
        kept = self._rows[version.id]
        self._rows[version.id] = replace(
            version, text=kept.text, digest=kept.digest, cases=kept.cases, invariants=kept.invariants
        )

    def policy_version(self, version_id: str) -> PolicyVersion | None:
        return self._rows.get(version_id)

    def active_policy_version(self) -> PolicyVersion | None:
        return next((row for row in self._rows.values() if row.state is VersionState.ACTIVE), None)

    def policy_versions(self, *, limit: int = 100) -> Sequence[PolicyVersion]:
        return sorted(self._rows.values(), key=lambda row: (row.created, row.id), reverse=True)[:limit]

    def highest_policy_serial(self) -> int:
        return max((row.serial for row in self._rows.values()), default=0)


class MemoryPolicyUnit:
    """A unit of work over `MemoryPolicyRows` that remembers what it recorded."""

    def __init__(self, now: datetime) -> None:
        self.now = now
        self.access = MemoryPolicyRows()
        self.recorded: list[tuple[str, str, str]] = []

    def new_id(self, prefix: str) -> str:
        return new_id(prefix, self.now)

    def record(self, type: str, /, *, actor: str, subject: str, data: Mapping[str, Json] | None = None) -> None:
        self.recorded.append((type, actor, subject))


class DigestAttester:
    """Signs by a digest under a word: enough for tests, worth nothing elsewhere."""

    def __init__(self, word: str = "test") -> None:
        self._word = word

    def sign(self, kind: str, content: Mapping[str, Json]) -> str:
        return digest({"word": self._word, "kind": kind, "content": dict(content)})

    def verify(self, kind: str, content: Mapping[str, Json], signature: str) -> bool:
        return signature == self.sign(kind, content)


class PolicyRowsContract:
    """What any `PolicyRows` does; a test class inherits it and provides `rows`."""

    moment = datetime(2026, 1, 1, tzinfo=UTC)

    def make(self) -> PolicyRows:
        raise NotImplementedError

    def run(self, check: Callable[[PolicyRows], None]) -> None:
        """Call `check` with fresh rows, in a unit of work where the store has such."""
        check(self.make())

    def version(self, *, after: int = 0, state: VersionState = VersionState.STAGED) -> PolicyVersion:
        """A version created `after` seconds."""
        created = self.moment + timedelta(seconds=after)
        text = f"// {after}\n"
        return PolicyVersion(
            id=new_id("pv", created),
            text=text,
            digest=text_digest(text),
            created=created,
            by="person:ana",
            state=state,
            cases=f"# {after}",
            invariants="anything requires owned;",
        )

    def test_a_version_is_read_back_as_it_was_written(self) -> None:
        def check(rows: PolicyRows) -> None:
            version = self.version()
            rows.insert_policy_version(version)
            assert rows.policy_version(version.id) == version

        self.run(check)

    def test_an_unknown_version_is_none(self) -> None:
        self.run(lambda rows: _is_none(rows.policy_version("pv_none")))

    def test_without_an_activation_nothing_is_active(self) -> None:
        def check(rows: PolicyRows) -> None:
            rows.insert_policy_version(self.version())
            assert rows.active_policy_version() is None
            assert rows.highest_policy_serial() == 0

        self.run(check)

    def test_a_change_writes_state_signature_serial_and_activation(self) -> None:
        def check(rows: PolicyRows) -> None:
            version = self.version()
            rows.insert_policy_version(version)
            active = replace(
                version,
                state=VersionState.ACTIVE,
                signature="s",
                serial=7,
                activated=self.moment,
                activated_by="person:bo",
            )
            rows.change_policy_version(active)
            assert rows.active_policy_version() == active
            assert rows.highest_policy_serial() == 7

        self.run(check)

    def test_a_change_never_touches_the_text(self) -> None:
        def check(rows: PolicyRows) -> None:
            version = self.version()
            rows.insert_policy_version(version)
            rows.change_policy_version(replace(version, text="permit(principal, action, resource);", digest="x"))
            assert rows.policy_version(version.id) == version

        self.run(check)

    def test_versions_are_listed_newest_first_and_bounded(self) -> None:
        def check(rows: PolicyRows) -> None:
            versions = [self.version(after=second) for second in range(3)]
            for version in versions:
                rows.insert_policy_version(version)
            assert [row.id for row in rows.policy_versions(limit=2)] == [versions[2].id, versions[1].id]

        self.run(check)


def _is_none(value: object) -> None:
    assert value is None
