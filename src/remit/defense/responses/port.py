"""What a response is: it does its steps by a `Hand`. In a dry run the hand writes them down and does nothing.

One code path for rehearsal and reality. A response is idempotent: after a crash it is carried out again from the start.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from remit.defense.model import Effect, Order, VerifiedPerson
from remit.defense.ports import DefenseUnit
from remit.kernel.canonical import Json


@dataclass(frozen=True, slots=True, kw_only=True)
class ResponseManifest:
    """What a response says of itself."""

    id: str
    title: str
    contains: bool
    """Takes the identity out of service, so that the limits apply."""
    reversible: bool
    hazards: tuple[str, ...] = ()


class Hand:
    """Does the steps of one response, or, when `dry`, only writes down what would be done."""

    def __init__(self, *, dry: bool) -> None:
        self._dry = dry
        self._effects: list[Effect] = []

    @property
    def effects(self) -> tuple[Effect, ...]:
        """What was done, or would be, so far."""
        return tuple(self._effects)

    async def do(
        self, foreseen: Sequence[Effect], act: Callable[[], Awaitable[Mapping[str, Mapping[str, Json]]]]
    ) -> None:
        """Do one step that has the effects `foreseen`; `act` answers with the result for each subject.

        A subject that `act` names and nobody foresaw is written down too.
        """
        if self._dry:
            self._effects.extend(foreseen)
            return
        results = dict(await act())
        for effect in foreseen:
            self._effects.append(replace(effect, done=True, result=results.pop(effect.subject, {})))
        kind = foreseen[0].kind if foreseen else "step"
        for subject, result in results.items():
            self._effects.append(
                Effect(kind=kind, subject=subject, text=f"{kind} `{subject}`", done=True, result=result)
            )


class ResponsePlugin(Protocol):
    """A response plug-in."""

    @property
    def id(self) -> str: ...
    @property
    def manifest(self) -> ResponseManifest: ...

    async def carry_out(self, order: Order, hand: Hand) -> None:
        """Do it, every step by the hand. Raises `Unavailable` to be tried again; any other error is kept and shown."""
        ...

    def undo(self, unit: DefenseUnit, order: Order, *, by: VerifiedPerson, reason: str) -> None:
        """Take it back, in the running unit of work; `Conflict` (`defense.response.irreversible`) where nothing can."""
        ...

    async def settled(self, order: Order) -> None:
        """Return when the undo is known wherever we decide."""
        ...
