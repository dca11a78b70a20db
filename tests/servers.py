"""Real servers for tests: each private to its block, on a free port of the loopback interface, ended by its pid."""

from __future__ import annotations

import secrets
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pytest

from ports import free_port
from remit.providers.postgres.local_server import LocalServer, available_postgres, local_server

__all__ = ["POSTGRES_MAJORS", "LocalServer", "available_postgres", "postgres_server"]

POSTGRES_MAJORS = tuple(major for major, _ in available_postgres()) or (None,)
"""For `pytest.mark.parametrize`: each major that this machine has; `None`, which skips, when it has none."""


@contextmanager
def postgres_server(
    major: int | None = None,
    *,
    settings: Mapping[str, str] | None = None,
    with_extension: str = "",
    without_extension: str = "",
) -> Iterator[LocalServer]:
    """A PostgreSQL with SCRAM and a superuser `remit_admin` of random password; skips the test without an initdb."""
    if extension := with_extension or without_extension:
        fit = (found for found, place in available_postgres() if _has(place, extension) is bool(with_extension))
        major = next(fit, None)
        if major is None:
            pytest.skip(f"postgres: none {'has' if with_extension else 'is without'} the extension {extension}")
    majors = [found for found, _ in available_postgres()]
    if not majors or (major is not None and major not in majors):
        pytest.skip(f"postgres{'' if major is None else f' {major}'}: no initdb found")
    with local_server(
        major=major, password=secrets.token_urlsafe(32), settings=settings, choose_port=free_port
    ) as server:
        yield server


def _has(place: Path, extension: str) -> bool:
    asked = subprocess.run([place / "pg_config", "--sharedir"], capture_output=True, text=True, timeout=20, check=False)
    return asked.returncode == 0 and (Path(asked.stdout.strip()) / "extension" / f"{extension}.control").exists()
