"""Policy variables: `${aws:username}`, with a default `${aws:username, 'nobody'}`; the escapes `${*}` `${?}` `${$}`.

Spec: IAM User Guide, "IAM policy elements: Variables and tags".
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, TypeAlias

from remit.inventory.connectors.aws.patterns import literal


@dataclass(frozen=True, slots=True)
class Like:
    """A value of which only a pattern is known, as `AROAEXAMPLE:*` for the user id of a role's session."""

    pattern: str


One: TypeAlias = str | tuple[str, ...] | Like
"""A value, several values at once, or `()`: the key is certainly absent from the request."""
Value: TypeAlias = One | frozenset[One]
"""What is known of a key; a set holds the alternatives, one of which the request has."""
Known: TypeAlias = Mapping[str, Value]
"""Context keys in lower case. A key that is missing is unknown; `aws:principaltag/*` speaks for all tags not listed."""

_VARIABLE: Final = re.compile(r"\$\{([^}]{0,300})\}")
_ESCAPES: Final = {"*": literal("*"), "?": literal("?"), "$": "$"}


def known_value(known: Known, key: str) -> Value | None:
    """What is known of a key (lower case); `None` where nothing is."""
    if key in known:
        return known[key]
    head, slash, _ = key.partition("/")
    return known.get(f"{head}/*") if slash else None


@dataclass(frozen=True, slots=True)
class Filled:
    """A text with its variables filled in; a value that only a request has became `*`, and is named in `open`."""

    text: str
    open: tuple[str, ...] = ()
    void: bool = False
    """A variable without a value and without a default: the text matches nothing."""


def fill(text: str, known: Known) -> Filled:
    """Fill in what is known; values are literal, whatever characters they have."""
    if "${" not in text:
        return Filled(text)
    left: dict[str, None] = {}
    void = False

    def value(match: re.Match[str]) -> str:
        nonlocal void
        content = match[1].strip()
        if content in _ESCAPES:
            return _ESCAPES[content]
        key, comma, default = content.partition(",")
        found = known_value(known, key.strip().lower())
        if isinstance(found, str):
            return literal(found)
        if found == ():
            if comma:
                return literal(default.strip().strip("'"))
            void = True
            return ""
        left[f"depends on {match[0]}"] = None
        return found.pattern if isinstance(found, Like) else "*"

    filled = _VARIABLE.sub(value, text)
    return Filled(filled, tuple(left), void)
