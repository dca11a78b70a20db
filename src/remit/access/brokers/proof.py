"""When a refusal proves something: it is of the credential, and another credential is admitted in the same way."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol, TypeVar

from remit.access.model import Proof, Proved, Unproved


class Attempt(Protocol):
    """What became of a login."""

    @property
    def admitted(self) -> bool: ...
    @property
    def words(self) -> str:
        """The target's own."""
        ...


_A = TypeVar("_A", bound=Attempt)


def judge(
    tried: Sequence[_A],
    controls: Sequence[Attempt],
    *,
    control: str,
    of_credential: Callable[[_A], bool] = lambda one: True,
    where: str = "the server",
) -> Proof:
    """`Proved` when the credential was refused at every place, and every control, which `control` names, was admitted.

    A server that is down, or refuses everybody, proves nothing. `of_credential` says whether a refusal is of the
    credential, and not of something else.
    """
    if any(one.admitted for one in tried):
        return Unproved(why=f"{where} still admits the credential")
    if not tried or not controls:
        return Unproved(why="nothing was tried that the refusal could be held against")
    if refused := [one.words for one in controls if not one.admitted]:
        return Unproved(why=f"the control was refused too: {refused[0]}")
    if other := [one.words for one in tried if not of_credential(one)]:
        return Unproved(why=f"the refusal is not of the credential: {other[0]}")
    return Proved(refusal=tried[0].words, control=control)
