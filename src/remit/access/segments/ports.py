"""What segments need of storage."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from remit.access.ports import AccessRows
from remit.access.segments.model import Applied, Check, Form, Place, Probe, Segment
from remit.kernel.unit import Unit


class SegmentRows(Protocol):
    """Rows as they were written; they count only while their signature verifies."""

    def places(self) -> Sequence[Place]: ...
    def put_place(self, place: Place) -> None: ...
    def remove_place(self, subject: str) -> bool: ...
    def applied(self) -> Sequence[Applied]: ...
    def put_applied(self, applied: Applied) -> None: ...
    def remove_applied(self, target: str, form: Form) -> bool:
        """With what was seen of them."""
        ...

    def probes(self) -> Sequence[Probe]: ...
    def put_probe(self, probe: Probe) -> None: ...


class SegmentUnit(Unit, Protocol):
    @property
    def segments(self) -> SegmentRows: ...
    @property
    def access(self) -> AccessRows: ...


class Ground(Protocol):
    """A place where rules hold. Every verb names the rules by their mark, `remit_<instance>_<target>`."""

    def require(self) -> None:
        """Raise `Rejected` where rules are not ours to put: `access.segment.by_hand`, `.file`."""
        ...

    async def put(self, mark: str, text: str) -> None:
        """Let these rules hold, all or none, in place of ours that held before. Raises and changes nothing."""
        ...

    async def back(self, mark: str, text: str) -> None:
        """Let our former rules hold again; none where `text` is empty. Works twice."""
        ...

    async def listing(self, mark: str) -> str:
        """A digest of our rules as the place tells them; empty where they do not hold."""
        ...

    async def checks(self, segment: Segment, *, thorough: bool) -> Sequence[Check]:
        """Try from here what should work and what should not; `thorough`: with a credential made for it."""
        ...
