"""The plug-in catalog: an explicit list for each kind; third parties come by entry point `remit.<kind>`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from importlib.metadata import entry_points
from typing import Generic, Protocol, TypeVar

from remit.kernel.errors import Misconfigured, NotFound


class Plugin(Protocol):
    """A plug-in has a stable id, which appears in ledger entries."""

    @property
    def id(self) -> str: ...


P = TypeVar("P", bound=Plugin)


class Catalog(Generic[P]):
    """The plug-ins of one kind, by id, in the order in which they were listed."""

    def __init__(self, kind: str, builtin: Iterable[P]) -> None:
        self._kind = kind
        self._plugins: dict[str, P] = {}
        for plugin in builtin:
            self._add(plugin)

    def load_entry_points(self) -> None:
        """Add what installed distributions offer under the group `remit.<kind>`; call it from the composition root."""
        for entry in entry_points(group=f"remit.{self._kind}"):
            self._add(entry.load())

    def _add(self, plugin: P) -> None:
        if plugin.id in self._plugins:
            raise Misconfigured(
                "kernel.catalog.duplicate",
                f"two {self._kind} plug-ins are called `{plugin.id}`",
                next_step="uninstall one of the distributions that provide it",
            )
        self._plugins[plugin.id] = plugin

    def get(self, plugin_id: str) -> P:
        """The plug-in of that id; `NotFound` (`kernel.catalog.unknown`) names those that exist."""
        if plugin_id not in self._plugins:
            known = ", ".join(self._plugins)
            raise NotFound(
                "kernel.catalog.unknown",
                f"no {self._kind} is called `{plugin_id}`",
                next_step=f"use one of: {known}",
            )
        return self._plugins[plugin_id]

    def __iter__(self) -> Iterator[P]:
        return iter(self._plugins.values())
