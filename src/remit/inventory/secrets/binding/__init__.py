"""Whose secret is it? Answered from the value, its form and its neighbours alone: nobody is asked.

One module for each family of systems. The first binder that knows the value answers; what none knows is a secret
by its keyed fingerprint, of nobody until somebody says so.
"""

from __future__ import annotations

from collections.abc import Callable

from remit.inventory.secrets.binding import (
    aws,
    azure,
    chat,
    dsn,
    forges,
    google,
    jwt,
    keys,
    observability,
    registries,
    services,
    stores,
    vaults,
)
from remit.inventory.secrets.binding.model import MAX_VALUE, Binding, Reached, Seen, Subject
from remit.inventory.secrets.model import Blob, Hit

__all__ = ["Binding", "Reached", "Subject", "bind"]

BINDERS: tuple[Callable[[Seen], Binding | None], ...] = (
    aws.bind,
    google.bind,
    azure.bind,
    keys.bind,
    stores.bind,
    forges.bind,
    chat.bind,
    registries.bind,
    observability.bind,
    vaults.bind,
    services.bind,
    jwt.bind,
    dsn.bind,
)
"""Asked in this order: what is known by its own form before what is known by its neighbours."""


def bind(hit: Hit, blob: Blob) -> Binding:
    """Say whose secret `hit` is, offline, in time linear in the value and a few kilobytes round it.

    A value that breaks a binder is bound by nobody: hostile bytes never end a scan.
    """
    seen = Seen(hit, blob)
    if hit.value and len(hit.value) <= MAX_VALUE * 16:
        for binder in BINDERS:
            try:
                answer = binder(seen)
            except (ValueError, KeyError, IndexError, TypeError, RecursionError, OverflowError):
                continue
            if answer is not None:
                return answer
    return Binding(provider="", method="")
