"""A registry on an empty database in memory, and short words for facts."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import Connection, create_engine, event

from remit.inventory import registry
from remit.inventory.model import CredentialFact, CredentialKind, Fact, IdentityFact, IdentityKind, Place
from remit.inventory.records import IdentityRecord
from remit.kernel.ids import Name, name
from remit.storage.schema import everything
from remit.storage.unit import Unit

NOON = datetime(2026, 11, 22, 12, tzinfo=UTC)


class Registry:
    """The real one; each unit of work is a minute after the one before."""

    A, B, C = (name("db", "one", "role", each) for each in "abc")
    SECRET = f"hmac:{7:064x}"

    def __init__(self, conn: Connection) -> None:
        self.conn = conn
        self.now = NOON
        self.units: list[Unit] = []

    def unit(self) -> Unit:
        self.now += timedelta(minutes=1)
        self.units.append(Unit(lambda: self.conn, self.now))
        return self.units[-1]

    @property
    def rows(self) -> Any:
        return Unit(lambda: self.conn, self.now).inventory

    @property
    def recorded(self) -> list[str]:
        return [event.type for unit in self.units for event in unit.events]

    def run(self, source: str, facts: Sequence[Fact], *, record_of: Sequence[str] = ("db",)) -> registry.Run:
        run = registry.begin_run(self.unit(), source, "i", "scope", record_of=record_of)
        registry.reconcile(self.unit(), run, facts)
        registry.finish_run(self.unit(), run, {}, ())
        return run

    def named(self, wanted: str) -> IdentityRecord:
        identity = self.rows.resolve([wanted])[wanted]
        found: IdentityRecord = self.rows.identities([identity])[identity]
        return found


@pytest.fixture
def reg() -> Iterator[Registry]:
    engine = create_engine("sqlite://")
    event.listen(engine, "connect", lambda connection, _: connection.execute("PRAGMA foreign_keys=ON"))
    everything().create_all(engine)
    with engine.connect() as conn:
        yield Registry(conn)
    engine.dispose()


class Say:
    """Facts in short."""

    def identity(self, *names: Name, path: str = "/p", confidence: int = 100, **attributes: Any) -> IdentityFact:
        return IdentityFact(
            name=names[0], aliases=names[1:], kind=IdentityKind.BOT, title=names[0].rpartition(":")[2],
            place=Place(system="test", path=path), attributes=attributes, confidence=confidence,
        )  # fmt: skip

    def secret(self, fingerprint: str, named: Name | None = None, path: str = "/p", **more: Any) -> CredentialFact:
        return CredentialFact(
            fingerprint=fingerprint, identity=named, kind=CredentialKind.PASSWORD, title="a password",
            place=Place(system="test", path=path), **more,
        )  # fmt: skip


@pytest.fixture
def say() -> Say:
    return Say()
