"""What a directory shows, as plain records."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

MOST_PEOPLE = 200_000
_ADDRESS = re.compile(r"[^@\s:<>,;]{1,64}@[^@\s:<>,;]{1,189}")


def address_of(said: object) -> str:
    """An e-mail address in lower case; empty for what is none: it becomes a name here, and stands in messages."""
    text = said.strip().lower() if isinstance(said, str) else ""
    return text if text.isprintable() and _ADDRESS.fullmatch(text) else ""


def clean(said: object, most: int) -> str:
    """What a directory calls something, fit for a line of a message: printable and at most so long."""
    text = str(said) if isinstance(said, str | int) else ""
    return "".join(mark if mark.isprintable() else " " for mark in text[:most]).strip()


@dataclass(frozen=True, slots=True, kw_only=True)
class Human:
    """A person who is there; `manager` is an address."""

    email: str
    display: str
    manager: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Shown:
    """Everybody in one whole reading, and the teams by name with the addresses of their members."""

    people: tuple[Human, ...]
    teams: dict[str, tuple[str, ...]] = field(default_factory=dict)
    without_address: int = 0
    """People whom nobody could be told from: they have no e-mail address."""
