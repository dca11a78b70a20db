"""The registry at a million identities: one page of a list by filter, order, text and depth, on SQLite."""

from __future__ import annotations

import asyncio
import random
import tempfile
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

from sqlalchemy import and_, create_engine, func, insert, literal, select, true

from bench.race import Row, percentile, scaled
from remit.inventory.model import IdentityKind, State
from remit.inventory.records import SORTABLE, CredentialRecord, IdentityFilter, IdentityRecord
from remit.kernel.clock import SystemClock
from remit.storage.database import open_database
from remit.storage.inventory_codec import row_of
from remit.storage.migrate import upgrade
from remit.storage.schema.inventory import inventory_credential, inventory_identity, inventory_tally

_MANY = scaled(1_000_000, 3_000)
_ROUNDS = scaled(30, 3)
_BATCH = 5_000
_BAR_MS = 200.0
_NOON = datetime(2026, 11, 22, 12, tzinfo=UTC)
_SYSTEMS = ("aws", "kubernetes", "postgres", "github", "ldap", "ssh", "mariadb", "rabbitmq")
_ENVIRONMENTS = ("prod", "prod", "staging", "test", "dev", None, None)
_WORDS = ("billing", "report", "ingest", "mail", "search", "ledger", "backup", "metrics", "deploy", "sync")


def before_registry(tell: Callable[[str], None]) -> Iterator[Row]:
    """Every list that the console and the API ask for, each p50 and p95."""
    with tempfile.TemporaryDirectory(prefix="remit-bench-") as folder:
        yield from asyncio.run(_measure(Path(folder), tell))


async def _measure(folder: Path, tell: Callable[[str], None]) -> list[Row]:
    _fill(folder / "remit.db", tell)
    tell("registry: the index for text")
    store = await open_database(f"sqlite:///{folder / 'remit.db'}", clock=SystemClock(), published=lambda events: None)
    try:
        rows: list[Row] = []
        for name, pages in _asked().items():
            tell(f"registry: {name}")
            waits: list[float] = []
            for number in range(_ROUNDS):
                wanted = pages[number % len(pages)]
                begun = time.perf_counter()
                await store.read(lambda unit: unit.inventory.list_identities(wanted))  # noqa: B023
                waits.append((time.perf_counter() - begun) * 1000)
            waits.sort()
            for share in (0.5, 0.95):
                rows.append(_row(f"{name}, p{share * 100:.0f}", percentile(waits, share)))
        return rows
    finally:
        await store.close()


def _row(name: str, waited: float) -> Row:
    return Row(
        name=f"{_MANY:,} identities: {name}", ours=waited, unit="ms", against="floor", theirs=_BAR_MS, better="lower",
        bar=1.0,
    )  # fmt: skip


def _asked() -> dict[str, list[IdentityFilter]]:
    """What is asked, each in several forms so that no page is only remembered."""
    return {
        "first page": [IdentityFilter()],
        "each order": [IdentityFilter(sort=sort) for sort in SORTABLE],
        "each order, descending": [IdentityFilter(sort=sort, descending=True) for sort in SORTABLE],
        "page in the middle": [IdentityFilter(offset=_MANY // 2 + at) for at in (0, 1000, 5000)],
        "filter by system": [IdentityFilter(system=each) for each in _SYSTEMS],
        "filter by system and environment": [
            IdentityFilter(system=each, environment="prod", sort="owner") for each in _SYSTEMS
        ],
        "filter by owner": [IdentityFilter(owner=f"person{number:04}") for number in (1, 77, 500)],
        "privileged without an owner": [
            IdentityFilter(privileged=True, unowned=True, sort=sort) for sort in ("title", "last_used")
        ],
        "privileged in one environment of one system": [
            IdentityFilter(privileged=True, system=each, environment="dev") for each in _SYSTEMS
        ],
        "with an exposed secret": [IdentityFilter(exposed=True, sort=sort) for sort in ("title", "system")],
        "text that few have": [IdentityFilter(text=f"{number:07}") for number in range(1, _MANY, _MANY // 9)],
        "text that many have": [IdentityFilter(text=each) for each in _WORDS],
        "text that none has": [IdentityFilter(text=each) for each in ("no-such-thing", "zzzqqq")],
        "text that many have, of one system": [
            IdentityFilter(text=word, system=system, sort=sort)
            for word, system, sort in zip(_WORDS, _SYSTEMS, SORTABLE, strict=False)
        ],
        "text of two letters": [IdentityFilter(text=each) for each in ("il", "99", "de")],
        "also what is gone": [IdentityFilter(include_gone=True)],
    }


def _fill(path: Path, tell: Callable[[str], None]) -> None:
    """Rows straight into the file, before the store opens it: it then makes its search index itself."""
    dice = random.Random(7)
    engine = create_engine(f"sqlite:///{path}")
    with engine.connect() as conn:
        upgrade(conn)
        for pragma in ("synchronous=OFF", "cache_size=-400000", "journal_mode=WAL"):
            conn.exec_driver_sql(f"PRAGMA {pragma}")
        conn.commit()
        for start in range(0, _MANY, _BATCH):
            tell(f"registry: {start:,} of {_MANY:,} identities")
            records = [_identity(number, dice) for number in range(start, min(start + _BATCH, _MANY))]
            exposed = [_credential(each, dice) for each in records if dice.random() < 0.05]
            conn.execute(insert(inventory_identity), [row_of(each) for each in records])
            conn.execute(insert(inventory_credential), [row_of(each) for each in exposed])
            conn.commit()
        tell("registry: tallies")
        listed = and_(inventory_identity.c.present, inventory_identity.c.merged_into.is_(None))
        for field in ("kind", "system", "environment", "state"):
            column = inventory_identity.c[field]
            counted = select(literal(field), column, func.count()).where(listed, column.is_not(None)).group_by(column)
            conn.execute(insert(inventory_tally).from_select(["field", "value", "number"], counted))
        for field, more in (
            ("total", true()),
            ("unowned", inventory_identity.c.owner.is_(None)),
            ("privileged", inventory_identity.c.privileged),
        ):
            counted = select(literal(field), literal(""), func.count()).select_from(inventory_identity)
            conn.execute(insert(inventory_tally).from_select(["field", "value", "number"], counted.where(listed, more)))
        conn.commit()
    engine.dispose()


def _identity(number: int, dice: random.Random) -> IdentityRecord:
    word, system = dice.choice(_WORDS), dice.choice(_SYSTEMS)
    return IdentityRecord(
        id=f"id_{number:026}",
        name=f"urn:remit:{system}:one:role:{word}-{number:07}",
        kind=dice.choice(list(IdentityKind)),
        title=f"{word}-{dice.randrange(1000):03}-{number:07}",
        system=system,
        instance="one",
        state=State.ACTIVE,
        owner=f"person{dice.randrange(1000):04}" if dice.random() < 0.6 else None,
        environment=dice.choice(_ENVIRONMENTS),
        service=word if dice.random() < 0.3 else None,
        tier=dice.choice((None, 0, 1, 2, 3)),
        privileged=dice.random() < 0.02,
        last_used=_NOON - timedelta(seconds=dice.randrange(10**8)) if dice.random() < 0.5 else None,
        first_seen=_NOON - timedelta(seconds=dice.randrange(10**7)),
        last_seen=_NOON,
        present=dice.random() < 0.97,
    )


def _credential(holder: IdentityRecord, dice: random.Random) -> CredentialRecord:
    return CredentialRecord(
        fingerprint=f"hmac:{holder.id[3:]}", identity=holder.id, kind="password", title="a password", state="active",
        first_seen=_NOON, last_seen=_NOON, exposed=dice.random() < 0.5,
    )  # fmt: skip
