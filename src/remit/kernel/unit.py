"""The unit of work, as capabilities see it.

A command is a plain function `work(unit)`. Everything it changes, the ledger entries it records and the events
that follow commit together or not at all. `work` runs in a writer thread (SQLite) or a greenlet (PostgreSQL): it
must not await, sleep or do I/O of its own, and it may run again after a serialisation failure.

Each capability declares in its `ports.py` the rows it needs (`class TrustRows(Protocol)`) and a unit that has
them (`class TrustUnit(Unit, Protocol): trust: TrustRows`); `storage` implements them all in one class.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Protocol, TypeVar

from remit.kernel.canonical import Json

T = TypeVar("T")
U_co = TypeVar("U_co", covariant=True)


class Unit(Protocol):
    """What every command has: one `now`, ids, and the pen of the ledger."""

    @property
    def now(self) -> datetime: ...

    def new_id(self, prefix: str) -> str: ...

    def record(self, type: str, /, *, actor: str, subject: str, data: Mapping[str, Json] | None = None) -> None:
        """Append one ledger entry, and one event of the same type to the outbox."""
        ...


class Store(Protocol[U_co]):
    """Runs units of work and snapshots of reading."""

    async def write(self, work: Callable[[U_co], T]) -> T: ...
    async def read(self, query: Callable[[U_co], T]) -> T: ...


class Sealer(Protocol):
    """Envelope encryption for what must rest in the database: private keys and target credentials.

    `context` (table, id, purpose) is authenticated with the text and must be the same to unseal.
    """

    def seal(self, plain: bytes, *, context: str) -> bytes: ...
    def unseal(self, sealed: bytes, *, context: str) -> bytes: ...


class Attester(Protocol):
    """Signs what carries authority (policies, entries, grants, approvals, releases).

    A row that grants something is loaded only if `verify` holds: writing into the database grants nothing.
    """

    def sign(self, kind: str, content: Mapping[str, Json]) -> str: ...
    def verify(self, kind: str, content: Mapping[str, Json], signature: str) -> bool: ...


class Fingerprinter(Protocol):
    """Turns a secret value into `hmac:<hex>` under a key that never leaves this installation."""

    def __call__(self, secret: bytes) -> str: ...
