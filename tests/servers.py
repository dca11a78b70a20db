"""Real servers for tests: each private to its block, on a free port of the loopback interface, ended by its pid."""

from __future__ import annotations

import secrets
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import pytest

from ports import free_port
from remit.providers.postgres.local_server import LocalServer, available_postgres, local_server

__all__ = ["POSTGRES_MAJORS", "LocalServer", "available_postgres", "postgres_server"]

POSTGRES_MAJORS = tuple(major for major, _ in available_postgres()) or (None,)
"""For `pytest.mark.parametrize`: each major that this machine has; `None`, which skips, when it has none."""


@contextmanager
def postgres_server(major: int | None = None, *, settings: Mapping[str, str] | None = None) -> Iterator[LocalServer]:
    """A PostgreSQL with SCRAM and a superuser `remit_admin` of random password; skips the test without an initdb."""
    majors = [found for found, _ in available_postgres()]
    if not majors or (major is not None and major not in majors):
        pytest.skip(f"postgres{'' if major is None else f' {major}'}: no initdb found")
    with local_server(
        major=major, password=secrets.token_urlsafe(32), settings=settings, choose_port=free_port
    ) as server:
        yield server
