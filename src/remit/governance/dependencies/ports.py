"""What a scream test needs of the system on which it holds somebody back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

from remit.governance.dependencies.scream import Heard, Scream
from remit.kernel.canonical import Json


@dataclass(frozen=True, slots=True, kw_only=True)
class Outlook:
    """What holding would do, and what stands in the way."""

    does: str
    fails_safe: str
    """What restores where the control plane dies."""
    before: Mapping[str, Json] = field(default_factory=dict)
    log: Mapping[str, Json] = field(default_factory=dict)
    obstacles: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """What was heard since the last look, and from where on to listen next."""

    heard: tuple[Heard, ...] = ()
    log: Mapping[str, Json] = field(default_factory=dict)
    tries: int = 0


class Means(Protocol):
    """One way of holding back. Every verb may be called again; `restore` works after half a `hold` as well."""

    async def look(self, test: Scream) -> Outlook:
        """What `hold` would do now; changes nothing."""
        ...

    async def hold(self, test: Scream) -> None:
        """Hold back until `restore`, and never longer than a little after `test.ends`, as far as the system can."""
        ...

    async def listen(self, test: Scream) -> Told:
        """Who screamed since `test.log`."""
        ...

    async def restore(self, test: Scream) -> str:
        """Put everything back as `test.before` says; what could not be is told in words."""
        ...
