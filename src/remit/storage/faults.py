"""What a database's failures mean, and whose move is next."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta

from sqlalchemy import exc

from remit.kernel.errors import Misconfigured, RemitError, Unavailable


@contextmanager
def translated() -> Iterator[None]:
    """Turn the engine's errors into ours; nothing of the statement or its parameters is carried over."""
    try:
        yield
    except exc.DBAPIError as error:
        raise _meaning(str(error.orig)) from None
    except (OSError, TimeoutError, exc.TimeoutError) as error:  # the last: no connection came free
        raise Unavailable(
            "storage.database.unreachable",
            f"the database does not answer: {error}",
            next_step="check that it runs and that `--database` names it; nothing was changed",
            retry_after=timedelta(seconds=2),
        ) from None


def _meaning(said: str) -> RemitError:
    lowered = said.lower()
    if "disk is full" in lowered or "no space left" in lowered or "readonly database" in lowered:
        return Unavailable(
            "storage.disk.full",
            "the database cannot be written: the disk is full or read-only",
            next_step="free space or rights for the data directory; nothing was changed",
        )
    if "malformed" in lowered or "not a database" in lowered:
        return Misconfigured(
            "storage.database.damaged",
            "the database file is damaged or is no database",
            next_step="restore it from a backup, then run `remit doctor`",
        )
    if "password authentication failed" in lowered or ("does not exist" in lowered and "role" in lowered):
        return Misconfigured(
            "storage.database.refused", "the database refused our login", next_step="correct `--database`"
        )
    return Unavailable(
        "storage.database.failed",
        f"the database failed: {said.splitlines()[0][:200] if said else 'no reason given'}",
        next_step="try again; nothing was changed",
        retry_after=timedelta(seconds=1),
    )
