"""For tests: build trees to scan, and read one file as the connector would."""

from __future__ import annotations

import hashlib
import hmac
import os
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

from remit.inventory.connectors.files import FileRead, FilesConnector
from remit.inventory.connectors.port import Scan
from remit.inventory.model import CredentialFact, EdgeFact, Fact, FindingFact, IdentityFact, Skipped

NOW = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)
HOST = "0123456789abcdef"
F = TypeVar("F")


def fingerprint(secret: bytes) -> str:
    return "hmac:" + hmac.new(b"key of the test", secret, hashlib.sha256).hexdigest()


SCAN = Scan(now=NOW, fingerprint=fingerprint)


def write(root: Path, files: Mapping[str, str | bytes], *, mode: int = 0o600) -> Path:
    for path, content in files.items():
        target = root / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(content if isinstance(content, bytes) else content.encode())
        target.chmod(mode)
    return root


def discover(root: Path, **options: Any) -> list[Fact]:
    """Every fact of one run over `root`."""
    connector = FilesConnector(root, instance=HOST, **options)
    connector.open()
    facts: list[Fact] = []
    for raw in connector.fetch(SCAN):
        facts.extend([raw] if isinstance(raw, Skipped) else connector.translate(raw, SCAN))
    connector.close()
    return facts


def read(reader: str, name: str, data: str | bytes, **known: Any) -> tuple[Fact, ...]:
    """The facts of one file, read by `reader`."""
    raw = FileRead(
        path=f"/srv/app/{name}" if not name.startswith("/") else name,
        reader=reader,
        data=data if isinstance(data, bytes) else data.encode(),
        host=HOST,
        **{"account": "app", **known},
    )
    return tuple(FilesConnector(Path("/srv/app"), instance=HOST).translate(raw, SCAN))


def of(kind: type[F], facts: Any) -> list[F]:
    return [fact for fact in facts if isinstance(fact, kind)]


def credentials(facts: Any) -> list[CredentialFact]:
    return of(CredentialFact, facts)


def identities(facts: Any) -> list[IdentityFact]:
    return of(IdentityFact, facts)


def rules(facts: Any) -> set[str]:
    return {fact.rule for fact in of(FindingFact, facts)}


def skips(facts: Any) -> set[str]:
    return {fact.reason for fact in of(Skipped, facts)}


def edges(facts: Any, relation: str) -> list[EdgeFact]:
    return [edge for edge in of(EdgeFact, facts) if edge.relation.value == relation]


def secret(length: int = 32) -> str:
    """A value that looks like a secret, another one each time."""
    return ("Aa1" + hashlib.sha256(os.urandom(16)).hexdigest())[:length]
