"""Remit: a zero-trust control plane for non-human identities.

What exists, who it really is, what it may do now, what it did, who answers for it, and how that is proved:
one folder each (`inventory`, `trust`, `access`, `defense`, `governance`, `ledger`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from remit.client.task import task as task

__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    """`remit.task`, imported when it is first asked for: the package itself costs nothing."""
    if name != "task":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from remit.client.task import task

    return task
