"""Fakes that implement trust's real ports, and the contracts that every implementation keeps.

A contract is a class of tests: derive from it, say how to make the thing, and pytest runs them all on it.
"""

from __future__ import annotations

import asyncio
import copy
import hmac
import os
import signal
import subprocess
import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TypeVar

from remit.kernel.canonical import Json, canonical
from remit.kernel.clock import Clock, ManualClock
from remit.kernel.errors import Misconfigured, RemitError
from remit.kernel.events import Event
from remit.kernel.ids import new_id
from remit.kernel.unit import Store
from remit.trust.model import Authority, AuthorityKind, AuthorityState, Entry, Evidence, Issued, Selector
from remit.trust.ports import ISSUED_FIELDS, Attestor, IssuedFilter, TrustRows, TrustUnit
from remit.trust.process import peer_of_pid
from remit.trust.spiffe import SpiffeId

T = TypeVar("T")
NOON = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)


@dataclass(slots=True)
class MemoryTrustRows:
    """Trust's rows in dictionaries."""

    authority_rows: dict[str, Authority] = field(default_factory=dict)
    keys: dict[str, bytes | None] = field(default_factory=dict)
    entry_rows: dict[str, Entry] = field(default_factory=dict)
    binaries: dict[tuple[str, str], str] = field(default_factory=dict)
    issued_rows: dict[str, Issued] = field(default_factory=dict)
    sequence: int = 0

    def authorities(self) -> Sequence[Authority]:
        return sorted(self.authority_rows.values(), key=lambda one: (one.created, one.id))

    def put_authority(self, authority: Authority, sealed_key: bytes | None) -> None:
        self.authority_rows[authority.id] = authority
        self.keys[authority.id] = sealed_key

    def sealed_key(self, authority_id: str) -> bytes | None:
        return self.keys.get(authority_id)

    def entries(self, *, after: str = "", limit: int = 10_000) -> Sequence[Entry]:
        return [self.entry_rows[one] for one in sorted(self.entry_rows) if one > after][:limit]

    def entry(self, entry_id: str) -> Entry | None:
        return self.entry_rows.get(entry_id)

    def entry_by_key(self, key: str) -> Entry | None:
        return next((one for one in self.entry_rows.values() if one.key == key), None)

    def add_entry(self, entry: Entry) -> None:
        assert entry.id not in self.entry_rows
        assert self.entry_by_key(entry.key) is None
        self.entry_rows[entry.id] = entry

    def remove_entry(self, entry_id: str) -> bool:
        self.binaries = {key: value for key, value in self.binaries.items() if key[0] != entry_id}
        return self.entry_rows.pop(entry_id, None) is not None

    def note_binary(self, entry_id: str, path: str, sha256: str, at: datetime) -> str | None:
        before = self.binaries.get((entry_id, path))
        self.binaries[entry_id, path] = sha256
        return before

    def note_issued(self, issued: Sequence[Issued]) -> None:
        self.issued_rows.update({one.id: one for one in issued})

    def issued(self, where: IssuedFilter, *, after: str = "", limit: int = 10_000) -> Sequence[Issued]:
        asked = {name: getattr(where, name) for name in ISSUED_FIELDS if getattr(where, name)}
        found = [
            one
            for one in self.issued_rows.values()
            if one.id > after and one.expires > where.now and all(getattr(one, k) == v for k, v in asked.items())
        ]
        return sorted(found, key=lambda one: one.id)[:limit]

    def count_issued(self, where: IssuedFilter) -> int:
        return len(self.issued(where, limit=len(self.issued_rows)))

    def forget_issued(self, before: datetime, *, limit: int = 10_000) -> int:
        gone = [one.id for one in self.issued_rows.values() if one.expires <= before][:limit]
        for one in gone:
            del self.issued_rows[one]
        return len(gone)

    def bundle_sequence(self) -> int:
        return self.sequence

    def advance_bundle_sequence(self) -> int:
        self.sequence += 1
        return self.sequence


class MemoryUnit:
    """A unit of work on rows in memory; what it records is kept when it commits."""

    def __init__(self, rows: MemoryTrustRows, now: datetime) -> None:
        self.trust: TrustRows = rows
        self.now = now
        self.events: list[Event] = []

    def new_id(self, prefix: str) -> str:
        return new_id(prefix, self.now)

    def record(self, type: str, /, *, actor: str, subject: str, data: Mapping[str, Json] | None = None) -> None:
        canonical(dict(data or {}))
        event = Event(
            id=self.new_id("ev"), type=type, time=self.now, actor=actor, subject=subject, data=dict(data or {})
        )
        self.events.append(event)


class MemoryTrustStore:
    """A store in memory: a unit that raises changes nothing. `fail` makes the next writes raise it."""

    def __init__(self, clock: Clock) -> None:
        self.rows = MemoryTrustRows()
        self.events: list[Event] = []
        self.writes = 0
        self.fail: RemitError | None = None
        self._clock = clock

    async def write(self, work: Callable[[TrustUnit], T]) -> T:
        await asyncio.sleep(0)
        if self.fail is not None:
            raise self.fail
        unit = MemoryUnit(copy.deepcopy(self.rows), self._clock.now())
        answer = work(unit)
        assert isinstance(unit.trust, MemoryTrustRows)
        self.rows = unit.trust
        self.events += unit.events
        self.writes += 1
        return answer

    async def read(self, query: Callable[[TrustUnit], T]) -> T:
        await asyncio.sleep(0)
        return query(MemoryUnit(copy.deepcopy(self.rows), self._clock.now()))

    def types(self) -> list[str]:
        """The types of what was recorded, in order."""
        return [event.type for event in self.events]


class PlainSealer:
    """Binds a text to its context without hiding it: for tests of who may open what."""

    def __init__(self, key: bytes = b"test") -> None:
        self._key = key

    def seal(self, plain: bytes, *, context: str) -> bytes:
        return hmac.digest(self._key, context.encode() + b"\0" + plain, "sha256") + plain

    def unseal(self, sealed: bytes, *, context: str) -> bytes:
        plain = sealed[32:]
        if not hmac.compare_digest(self.seal(plain, context=context), sealed):
            raise Misconfigured("storage.seal.broken", "a sealed value cannot be opened")
        return plain


class KeyedAttester:
    """Signs with an HMAC key: who does not hold it cannot forge a row."""

    def __init__(self, key: bytes = b"test") -> None:
        self._key = key

    def sign(self, kind: str, content: Mapping[str, Json]) -> str:
        return hmac.new(self._key, canonical({"kind": kind, "content": dict(content)}), "sha256").hexdigest()

    def verify(self, kind: str, content: Mapping[str, Json], signature: str) -> bool:
        return hmac.compare_digest(self.sign(kind, content), signature)


def example_entry(number: int = 1, *, selectors: Sequence[str] = ("unix:uid:1000",)) -> Entry:
    """A well-formed entry, not signed; `number` makes id and path its own."""
    return Entry(
        id=f"en_01K0000000000000000000{number:04d}",
        spiffe_id=SpiffeId.parse(f"spiffe://remit.test/job/{number}"),
        selectors=frozenset(Selector.parse(text) for text in selectors),
        x509_ttl=timedelta(hours=1),
        jwt_ttl=timedelta(minutes=5),
        hint="internal",
        created=NOON,
        signature="signed",
    )


def example_authority(number: int = 1, *, state: AuthorityState = AuthorityState.ACTIVE) -> Authority:
    """A JWT authority whose key is no key: for rows, not for signing."""
    return Authority(
        id=f"au_01K0000000000000000000{number:04d}",
        kind=AuthorityKind.JWT,
        state=state,
        public=bytes([number]) * 91,
        created=NOON + timedelta(seconds=number),
        expires=NOON + timedelta(days=1),
        activated=NOON,
        signature="signed",
    )


class TrustRowsContract(ABC):
    """What every implementation of `TrustRows` keeps, through the store that carries it."""

    @abstractmethod
    def store(self) -> AbstractAsyncContextManager[Store[TrustUnit]]:
        """An empty store, open for as long as the block lasts."""

    def run(self, steps: Sequence[Callable[[TrustRows], T]]) -> list[T]:
        """Run each step in a unit of work of its own."""

        async def all_steps() -> list[T]:
            async with self.store() as store:
                return [await store.write(lambda unit, step=step: step(unit.trust)) for step in steps]  # type: ignore[misc]

        return asyncio.run(all_steps())

    def test_an_authority_comes_back_as_it_was(self) -> None:
        authority = example_authority()
        _, found, key = self.run(
            [
                lambda rows: rows.put_authority(authority, b"sealed"),
                lambda rows: rows.authorities(),
                lambda rows: rows.sealed_key(authority.id),
            ]
        )
        assert (list(found or ()), key) == ([authority], b"sealed")

    def test_putting_an_authority_again_replaces_it_and_destroys_its_key(self) -> None:
        revoked = replace(example_authority(), state=AuthorityState.REVOKED, ended=NOON)
        *_, found, key = self.run(
            [
                lambda rows: rows.put_authority(example_authority(), b"sealed"),
                lambda rows: rows.put_authority(revoked, None),
                lambda rows: rows.authorities(),
                lambda rows: rows.sealed_key(revoked.id),
            ]
        )
        assert (list(found or ()), key) == ([revoked], None)

    def test_authorities_come_oldest_first(self) -> None:
        *_, found = self.run(
            [
                lambda rows: rows.put_authority(example_authority(2), b"2"),
                lambda rows: rows.put_authority(example_authority(1), b"1"),
                lambda rows: rows.authorities(),
            ]
        )
        assert list(found or ()) == [example_authority(1), example_authority(2)]

    def test_an_entry_comes_back_as_it_was(self) -> None:
        entry = example_entry(selectors=["unix:uid:1000", "unix:path:/opt/a b/ü:x", "unix:group:staff"])
        _, by_id, by_key = self.run(
            [
                lambda rows: rows.add_entry(entry),
                lambda rows: rows.entry(entry.id),
                lambda rows: rows.entry_by_key(entry.key),
            ]
        )
        assert (by_id, by_key) == (entry, entry)

    def test_entries_come_in_pages_by_id(self) -> None:
        first, second, third = (example_entry(number) for number in (1, 2, 3))
        *_, page, rest = self.run(
            [
                *(lambda rows, one=one: rows.add_entry(one) for one in (third, first, second)),
                lambda rows: rows.entries(limit=2),
                lambda rows: rows.entries(after=second.id),
            ]
        )
        assert (list(page or ()), list(rest or ())) == ([first, second], [third])

    def test_a_removed_entry_is_gone_with_what_was_noted_for_it(self) -> None:
        entry = example_entry()
        *_, removed, again, found, noted = self.run(
            [
                lambda rows: rows.add_entry(entry),
                lambda rows: rows.note_binary(entry.id, "/bin/a", "a" * 64, NOON),
                lambda rows: rows.remove_entry(entry.id),
                lambda rows: rows.remove_entry(entry.id),
                lambda rows: rows.entry(entry.id),
                lambda rows: rows.note_binary(entry.id, "/bin/a", "b" * 64, NOON),
            ]
        )
        assert (removed, again, found, noted) == (True, False, None, None)

    def test_a_binary_is_noted_for_each_entry_and_path(self) -> None:
        answers = self.run(
            [
                lambda rows: rows.note_binary("en_1", "/bin/a", "a" * 64, NOON),
                lambda rows: rows.note_binary("en_1", "/bin/b", "b" * 64, NOON),
                lambda rows: rows.note_binary("en_2", "/bin/a", "c" * 64, NOON),
                lambda rows: rows.note_binary("en_1", "/bin/a", "d" * 64, NOON),
                lambda rows: rows.note_binary("en_1", "/bin/a", "d" * 64, NOON),
            ]
        )
        assert answers == [None, None, None, "a" * 64, "d" * 64]

    def test_the_bundle_sequence_only_rises(self) -> None:
        answers = self.run(
            [
                lambda rows: rows.bundle_sequence(),
                lambda rows: rows.advance_bundle_sequence(),
                lambda rows: rows.advance_bundle_sequence(),
                lambda rows: rows.bundle_sequence(),
            ]
        )
        assert answers == [0, 1, 2, 2]


@contextmanager
def sleeping_process(*command: str) -> Iterator[subprocess.Popen[bytes]]:
    """A child that has started executing `command` (default: this Python, asleep) and is ended afterwards."""
    child = subprocess.Popen(command or (sys.executable, "-c", "import time; time.sleep(60)"))
    try:
        _await_exec(child.pid)
        yield child
    finally:
        child.send_signal(signal.SIGKILL)
        child.wait()


def _await_exec(pid: int) -> None:
    """Wait until the child executes its own command: until then it is a copy of its parent."""
    parent = _command_line(os.getpid())
    for _ in range(500):
        if _command_line(pid) not in (b"", parent):
            return
        time.sleep(0.01)
    raise AssertionError("the child did not start")


def _command_line(pid: int) -> bytes:
    return Path(f"/proc/{pid}/cmdline").read_bytes()


class AttestorContract(ABC):
    """What every attestor of local processes keeps."""

    @abstractmethod
    def attestor(self) -> Attestor: ...

    def test_every_selector_that_it_makes_it_would_accept_in_an_entry(self) -> None:
        attestor = self.attestor()
        for selector in self._attest(attestor).selectors:
            attestor.check(selector)

    def test_its_selectors_carry_its_id_and_its_declared_keys(self) -> None:
        attestor = self.attestor()
        found = self._attest(attestor).selectors
        assert {selector.attestor for selector in found} <= {attestor.id}
        assert {selector.key for selector in found} <= set(attestor.keys)

    def test_the_same_process_gives_the_same_digest_at_another_moment(self) -> None:
        attestor, clock = self.attestor(), ManualClock(NOON)
        with sleeping_process() as child, _pidfd(child.pid) as pidfd, peer_of_pid(pidfd, child.pid) as peer:
            first = attestor.attest(peer, clock.now())
            clock.advance(timedelta(hours=1))
            assert attestor.attest(peer, clock.now()).digest == first.digest

    def test_another_process_gives_another_digest(self) -> None:
        attestor = self.attestor()
        assert self._attest(attestor).digest != self._attest(attestor).digest

    def test_a_process_that_has_ended_is_refused(self) -> None:
        attestor = self.attestor()
        with sleeping_process() as child, _pidfd(child.pid) as pidfd, peer_of_pid(pidfd, child.pid) as peer:
            child.kill()
            child.wait()
            try:
                attestor.attest(peer, NOON)
            except RemitError as error:
                assert error.code == "trust.peer.gone"
            else:
                raise AssertionError("a dead process was attested")

    def test_evidence_can_be_recorded(self) -> None:
        evidence = self._attest(self.attestor())
        assert canonical(dict(evidence.facts))

    def _attest(self, attestor: Attestor) -> Evidence:
        with sleeping_process() as child, _pidfd(child.pid) as pidfd, peer_of_pid(pidfd, child.pid) as peer:
            return attestor.attest(peer, NOON)


@contextmanager
def _pidfd(pid: int) -> Iterator[int]:
    descriptor = os.pidfd_open(pid)
    try:
        yield descriptor
    finally:
        os.close(descriptor)
