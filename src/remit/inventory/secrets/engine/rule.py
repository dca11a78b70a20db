"""A rule: what one kind of secret looks like, as data. `rules/` holds them, one file a family of providers."""

from __future__ import annotations

import re
from dataclasses import dataclass

from remit.inventory.model import CredentialKind

ALNUM = "A-Za-z0-9"
WORD = "A-Za-z0-9_"
URLSAFE = r"A-Za-z0-9_\-"
BASE64 = "A-Za-z0-9+/"
HEX = "a-fA-F0-9"
UPPER = "A-Z0-9"
LOWER = "a-z0-9"

_ESCAPABLE = re.compile(r"\\.")


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """A format that announces itself: a fixed beginning, then characters of one alphabet.

    `signal` is a pattern of bounded width that both finders understand; wherever it matches, `confirm` is tried at the
    same start. What `confirm` calls `secret` is the value; its other named groups become `Hit.parts`.
    """

    id: str
    title: str
    kind: CredentialKind
    signal: str
    confirm: str
    keywords: tuple[str, ...]
    """In lower case; one of them occurs in every match of `signal`."""
    alphabet: str = WORD
    """The character before and after a match is none of these; empty: no such demand."""
    prior: int = 95
    """Confidence (0–100) of a value that no decider speaks against."""
    checksum: str = ""
    """The name of the check in `checksums`, where the format carries one."""
    entropy: float = 2.6
    """Bits a character, below which the part behind the fixed beginning is no random value."""
    width: int = 0
    """The greatest width of `signal` in bytes; 0: worked out from the pattern."""
    ignore_case: bool = False
    basic: bool = False
    """The value is base 64 of `user:password`; else it is something else."""
    reach: int = 0
    """How many bytes before the match belong to the value, where they are of the URL-safe alphabet."""
    like_arguments: bool = False
    """The arguments of a call look the same: in source code the member of something is no value."""
    multiline: bool = False
    """The value may span lines; it is then not looked for in the decoded views of single values."""


def token(
    name: str,
    title: str,
    prefix: str,
    alphabet: str,
    least: int,
    most: int | None = None,
    *,
    tail: str = "",
    kind: CredentialKind = CredentialKind.TOKEN,
    keywords: tuple[str, ...] = (),
    prior: int = 95,
    checksum: str = "",
    entropy: float = 2.6,
    edge: str | None = None,
    ignore_case: bool = False,
) -> Rule:
    """A token of `least` to `most` characters of `alphabet` behind `prefix` (a pattern); `most` None: exactly `least`.

    `tail` is a pattern that must follow. The keywords are taken from a literal prefix when none are given.
    """
    most = least if most is None else most
    body = f"[{alphabet}]{{{least}}}" if least == most else f"[{alphabet}]{{{least},{most}}}"
    run = f"[{alphabet}]{{{least}}}" if least else ""
    body = body if most else ""
    return Rule(
        id=name,
        title=title,
        kind=kind,
        signal=prefix + run + (tail if least == most else ""),
        confirm=f"(?P<secret>{prefix}{body}{tail})",
        keywords=keywords or (literal(prefix),),
        alphabet=(WORD if edge is None else edge),
        prior=prior,
        checksum=checksum,
        entropy=entropy,
        ignore_case=ignore_case,
    )


def literal(pattern: str) -> str:
    """The fixed beginning of `pattern`, in lower case; raises ValueError where it has none to search for."""
    found = re.match(r"(?:[A-Za-z0-9_\-:/@ ]|\\[.\-_$+/])+", pattern)
    text = re.sub(r"\\(.)", r"\1", found.group()) if found else ""
    rest = pattern[found.end() :] if found else pattern
    if rest[:1] in {"?", "*", "{"}:
        text = text[:-1]
    if len(text) < 2:
        raise ValueError(f"`{pattern}` needs keywords")
    return text.lower()
