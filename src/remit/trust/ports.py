"""What trust needs of others: its rows, an attestor for each way of seeing a workload, a word on admission."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Protocol

from remit.kernel.unit import Unit
from remit.trust.model import Authority, Entry, Evidence, Selector
from remit.trust.process import Peer


class TrustRows(Protocol):
    """The rows of one unit of work. Authorities come oldest first, entries by id."""

    def authorities(self) -> Sequence[Authority]: ...

    def put_authority(self, authority: Authority, sealed_key: bytes | None) -> None:
        """Insert it, or replace the row of the same id; `sealed_key` replaces the key as well, `None` destroys it."""
        ...

    def sealed_key(self, authority_id: str) -> bytes | None: ...

    def entries(self, *, after: str = "", limit: int = 10_000) -> Sequence[Entry]:
        """At most `limit` entries whose id is greater than `after`."""
        ...

    def entry(self, entry_id: str) -> Entry | None: ...

    def entry_by_key(self, key: str) -> Entry | None:
        """The entry that makes this claim (`Entry.key`)."""
        ...

    def add_entry(self, entry: Entry) -> None: ...

    def remove_entry(self, entry_id: str) -> bool:
        """Delete it with what was noted for it; tells whether it was there."""
        ...

    def note_binary(self, entry_id: str, path: str, sha256: str, at: datetime) -> str | None:
        """Remember the digest that the binary at `path` had; returns the one remembered before, if any."""
        ...

    def bundle_sequence(self) -> int:
        """The sequence number of the published bundle; 0 before the first."""
        ...

    def advance_bundle_sequence(self) -> int:
        """Add one, and return it: it never goes back."""
        ...


class TrustUnit(Unit, Protocol):
    """A unit of work with trust's rows."""

    @property
    def trust(self) -> TrustRows: ...


class Attestor(Protocol):
    """Turns a live workload into evidence. Safe for concurrent calls from threads; it reads, and changes nothing."""

    @property
    def id(self) -> str:
        """The first word of its selectors."""
        ...

    @property
    def keys(self) -> Mapping[str, str]:
        """The selector keys that it knows, each with one sentence on its value."""
        ...

    def check(self, selector: Selector) -> None:
        """Refuse a selector that it could never produce: `Rejected` (`trust.selector.unknown`, `.malformed`)."""
        ...

    def attest(self, peer: Peer, now: datetime) -> Evidence:
        """Look at a process. Blocks for file I/O.

        Raises `Rejected` (`trust.peer.gone`) when it ended, or became another, while it was looked at.
        """
        ...


class Admission(Protocol):
    """Says whether an entry's identity may have SVIDs now (quarantine, life-cycle state)."""

    def __call__(self, entry: Entry) -> bool: ...
