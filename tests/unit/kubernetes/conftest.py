"""A cluster in a few lines."""

from __future__ import annotations

import hmac
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from textwrap import dedent

import pytest

from remit.inventory.connectors.kubernetes import KubernetesConnector
from remit.inventory.connectors.port import Scan
from remit.inventory.model import Fact, Skipped

Discover = Callable[..., list[Fact]]


def _fingerprint(secret: bytes) -> str:
    return "hmac:" + hmac.digest(b"key of the test", secret, "sha256").hex()


@pytest.fixture
def discover(tmp_path: Path) -> Discover:
    """Write the text (or bytes) to a manifest and return every fact of the connector."""

    def run(text: str | bytes, *, file: str = "all.yaml", **options: str) -> list[Fact]:
        path = tmp_path / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(text if isinstance(text, bytes) else dedent(text).encode())
        connector = KubernetesConnector(tmp_path, cluster="c1", **options)
        connector.open()
        scan = Scan(now=datetime(2026, 1, 1, tzinfo=UTC), fingerprint=_fingerprint)
        facts: list[Fact] = []
        for raw in connector.fetch(scan):
            facts.extend([raw] if isinstance(raw, Skipped) else connector.translate(raw, scan))
        return facts

    return run
