"""What is granted, what is proposed in its place, and what the replay of all observed acts says of it."""

from __future__ import annotations

import difflib
import enum
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol

from remit.inventory.use.model import UNCLEAR, Deed
from remit.kernel.canonical import Json, digest


class Level(enum.Enum):
    """What an action does, as the Service Authorization Reference of AWS grades it."""

    LIST = "list"
    READ = "read"
    TAGGING = "tagging"
    WRITE = "write"
    PERMISSIONS = "permissions"


WEIGHTS: Final[Mapping[Level, int]] = {
    Level.LIST: 1, Level.READ: 2, Level.TAGGING: 1, Level.WRITE: 4, Level.PERMISSIONS: 10,
}  # fmt: skip
"""What one right counts in the ratio of granted to used."""


class Confidence(enum.Enum):
    """How far the logs bear out that what was not seen is not needed."""

    HIGH = "high"
    MEDIUM = "medium"
    LOW = "low"
    NONE = "none"


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class Right:
    """One action on one resource (or pattern), and by what it is held."""

    action: str
    resource: str
    via: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Text:
    """One text of the target, before and after."""

    name: str
    before: str
    after: str

    def diff(self) -> str:
        """The unified difference; empty where nothing changes."""
        lines = difflib.unified_diff(
            self.before.splitlines(), self.after.splitlines(), f"{self.name} (now)", f"{self.name} (proposed)",
            lineterm="",
        )  # fmt: skip
        return "".join(f"{line}\n" for line in lines)


@dataclass(frozen=True, slots=True, kw_only=True)
class Draft:
    """A proposal: the texts, what goes, what does it, and why what is unused stays."""

    texts: tuple[Text, ...]
    removed: tuple[Right, ...]
    commands: tuple[str, ...]
    """What applies it, in the target's language; empty where there is nothing to change."""
    inverse: tuple[str, ...] = ()
    """What takes it back."""
    notes: tuple[str, ...] = ()
    granted: int = 0
    used: int = 0
    ratio: float = 0.0
    """1 − used / granted, weighted by `WEIGHTS`: 0 where all is used, near to 1 where nearly nothing is."""

    @property
    def digest(self) -> str:
        """By which the ledger knows the proposal."""
        texts: list[Json] = [[text.name, text.after] for text in self.texts]
        return digest({"commands": list(self.commands), "texts": texts})


class Judge(Protocol):
    """Evaluates one act against rights; the language's own evaluator."""

    def allows(self, deed: Deed) -> bool:
        """Whether all acts that the row stands for are allowed."""
        ...


class Holding(Judge, Protocol):
    """What one identity holds now, in one language."""

    language: str

    def draft(self, deeds: Sequence[Deed]) -> tuple[Draft, Judge]:
        """The smallest rights that the admitted deeds need, and what judges them."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """An act that was admitted, and would be refused."""

    action: str
    resource: str
    count: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Replay:
    """All observed acts through a proposal. Each number counts acts, not rows."""

    observed: int
    """Admitted ones of which it is known what they were."""
    refused: tuple[Refusal, ...]
    outside: int
    """Admitted by something that is not what was read (PUBLIC, a resource's own policy): the proposal leaves it."""
    unclear: int
    """The log shows that something was done, and not what."""
    beyond: int
    """Beyond the bound of what is kept of one name."""

    @property
    def refusals(self) -> int:
        return sum(each.count for each in self.refused)

    @property
    def proven(self) -> bool:
        """Nothing would be refused, and there is nothing of which that is not known."""
        return self.observed > self.outside and not (self.refused or self.unclear or self.beyond)

    @property
    def said(self) -> str:
        """In one sentence or two."""
        text = f"{self.refusals} of {self.observed} observed calls would be refused"
        if self.outside:
            text += f"; {self.outside} of them rest on rights outside of this proposal, which stay"
        if self.beyond:
            text += f"; {self.beyond} were beyond the bound and are not replayed"
        if self.unclear:
            text += f"; {self.unclear} could not be read and are not replayed"
        return text + ("" if self.proven else ": not proven")

    def as_json(self) -> dict[str, Any]:
        return {
            "observed": self.observed, "refusals": self.refusals, "outside": self.outside, "unclear": self.unclear,
            "beyond": self.beyond, "proven": self.proven, "said": self.said,
            "refused": [
                {"action": each.action, "resource": each.resource, "count": each.count} for each in self.refused
            ],
        }  # fmt: skip


def admitted(deeds: Sequence[Deed]) -> list[Deed]:
    """Rows that tell of acts that were admitted, and of what they were."""
    return [deed for deed in deeds if deed.count and deed.action != UNCLEAR]


def ratio_of(granted: Mapping[str, Level], used: set[str]) -> float:
    """The over-privilege ratio: of actions (or pairs) by their level."""
    whole = sum(WEIGHTS[level] for level in granted.values())
    kept = sum(WEIGHTS[level] for key, level in granted.items() if key in used)
    return round(1 - kept / whole, 4) if whole else 0.0
