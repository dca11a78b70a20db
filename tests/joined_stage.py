"""What several connectors of servers are tested with: a whole run into a registry, beside what a file shows."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import tempfile
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from remit.inventory.connectors.files.connector import make as make_files
from remit.inventory.connectors.port import AnyConnector, Scan
from remit.inventory.model import Fact, Skipped
from remit.inventory.registry import begin_run, finish_run, reconcile
from remit.kernel.clock import SystemClock
from remit.storage.database import open_database


def scan(**changes: Any) -> Scan:
    return Scan(
        now=datetime.now(UTC),
        fingerprint=lambda secret: "hmac:" + hmac.new(b"k", secret, hashlib.sha256).hexdigest(),
        **changes,
    )


def _whole(connector: AnyConnector) -> tuple[list[Fact], str, str]:
    connector.open()
    try:
        run_of = scan()
        facts: list[Fact] = []
        for raw in connector.fetch(run_of):
            facts += [raw] if isinstance(raw, Skipped) else connector.translate(raw, run_of)
        return facts, connector.instance, connector.scope
    finally:
        connector.close()


def identities_after(connectors: list[tuple[str, AnyConnector]]) -> list[tuple[Any, list[Any]]]:
    """Every identity with its credentials, once the connectors were read into one registry, in turn."""

    async def play(folder: Path) -> list[tuple[Any, list[Any]]]:
        store = await open_database(
            f"sqlite:///{folder / 'remit.db'}", clock=SystemClock(), published=lambda events: None
        )
        try:
            for name, connector in connectors:
                facts, instance, scope = await asyncio.to_thread(_whole, connector)
                records = connector.manifest.record_of
                run = await store.write(
                    lambda unit: begin_run(unit, connector=name, instance=instance, scope=scope, record_of=records)  # noqa: B023
                )
                await store.write(lambda unit: reconcile(unit, run, facts))  # noqa: B023
                await store.write(lambda unit: finish_run(unit, run, {}, []))  # noqa: B023
            identities = await store.read(lambda unit: list(unit.inventory.all_identities()))
            credentials = await store.read(lambda unit: list(unit.inventory.all_credentials()))
            return [(one, [each for each in credentials if each.identity == one.id]) for one in identities]
        finally:
            await store.close()

    with tempfile.TemporaryDirectory(prefix="remit-join-") as folder:
        return asyncio.run(play(Path(folder)))


def joined(dsn: str, name: str, connector: AnyConnector, *, files_first: bool, user: str) -> tuple[Any, list[Any]]:
    """The one identity of `user`, once a file with `dsn` and a server were read; fails when there are two."""
    with tempfile.TemporaryDirectory(prefix="remit-tree-") as tree:
        (Path(tree) / ".env").write_text(f"SERVICE_URL={dsn}\n")
        files = ("files", make_files(tree, {}, ""))
        found = identities_after([files, (name, connector)] if files_first else [(name, connector), files])
    mine = [(one, held) for one, held in found if user in (one.title, one.title.partition("@")[0].partition(" ")[0])]
    assert len(mine) == 1, [(one.name, one.title) for one, _ in found]
    return mine[0]
