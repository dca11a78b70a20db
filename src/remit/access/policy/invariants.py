"""Invariants: what must hold of whatever is allowed, in words or in Cedar.

    restricted requires attested within 10 minutes, owned, granted;
    @id("tier-0") tier 0, action lease requires approved;
    when { resource.sensitivity == "restricted" } requires { context.attested };
    whatever is allowed on a restricted resource is attested, owned by an active owner, inside an unexpired grant;

Commas and `and` join, `or` gives alternatives, `not` negates one word. Each word is a sentence of Cedar (`WORDS`), so
that the same text is translated for the solver and asked of the engine.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from functools import lru_cache
from typing import Any, Literal, TypeAlias

from remit.access.policy.check import check, errors_of
from remit.access.policy.schema import STANDARD, Vocabulary
from remit.access.policy.source import quoted, read_policies
from remit.kernel.errors import Rejected

MAX_BYTES = 1 << 20
MAX_INVARIANTS = 200
_UNITS = {"second": 1, "minute": 60, "hour": 3600, "day": 86_400}


@dataclass(frozen=True, slots=True)
class Claim:
    """One word, or one expression: its Cedar text and JSON. `approved` is the one that Cedar cannot say."""

    words: str
    cedar: str
    est: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Joined:
    """Several: `all` of them, `any` of them, or `not` the only one."""

    how: Literal["all", "any", "not"]
    parts: tuple[Formula, ...]


Formula: TypeAlias = Claim | Joined


@dataclass(frozen=True, slots=True, kw_only=True)
class Invariant:
    """Whatever is allowed and lies in `guard` has all of `requires`."""

    id: str
    text: str
    guard: Formula
    requires: tuple[Formula, ...]


APPROVED = Claim("approved", "", {"Approved": {}})
"""A person approved the very digest of the grant: the decision point knows, policies do not."""


def _sensitivity(found: re.Match[str]) -> str:
    return f'resource.sensitivity == "{found[1]}"'


def _fresh(found: re.Match[str]) -> str:
    seconds = int(found[1]) * _UNITS[found[2]]
    return f"context.attested && context has attestation_age && context.attestation_age <= {seconds}"


def _tiers(found: re.Match[str]) -> str:
    least, most = found[1], found[2] or found[1]
    return f"principal.tier >= {least} && principal.tier <= {most}"


def _named(template: str) -> Callable[[re.Match[str]], str]:
    return lambda found: template.replace("%", quoted(found[1]))


def _fixed(text: str) -> Callable[[re.Match[str]], str]:
    return lambda _: text


_NAME = r"([A-Za-z0-9_.:/*@-]{1,128})"
WORDS: tuple[tuple[str, str, Callable[[re.Match[str]], str]], ...] = (
    # how it is written, pattern, Cedar
    ("anything", r"anything|everything", _fixed("true")),
    ("nothing", r"nothing|never", _fixed("false")),
    ("public, internal, confidential, restricted", "(public|internal|confidential|restricted)", _sensitivity),
    ("sensitive", r"sensitive", _fixed('["confidential", "restricted"].contains(resource.sensitivity)')),
    ("known", r"known", _fixed("resource.known")),
    ("attested within N minutes", r"attested within ([0-9]{1,6}) (second|minute|hour|day)s?", _fresh),
    ("attested", r"attested", _fixed("context.attested")),
    ("owned", r"owned(?: by an active owner)?", _fixed("principal.owner_active")),
    ("granted", r"granted|(?:inside|under) (?:an unexpired|a) grant", _fixed("context has grant")),
    ("bound", r"bound|sender-bound", _fixed('context has sender_constraint && context.sender_constraint != ""')),
    ("tasked", r"tasked|for a task", _fixed("context has task")),
    ("tier N, tier N to M", r"tier ([0-9])(?: to ([0-9]))?", _tiers),
    ("risk below N", r"risk below ([0-9]{1,3})", lambda found: f"principal.risk < {found[1]}"),
    ("privileged", r"privileged", _fixed("principal.privileged")),
    ("same environment", r"same environment", _fixed(
        "principal has environment && resource has environment && principal.environment == resource.environment")),
    ("environment NAME", rf"environment {_NAME}", _named("resource has environment && resource.environment == %")),
    ("action NAME", rf"action {_NAME}", _named("action in Remit::Action::%")),
    ("kind NAME", rf"kind {_NAME}", _named("principal.kind == %")),
    ("agent", r"agent|an agent", _fixed('principal.kind == "ai-agent"')),
    ("from ADDRESS/BITS", r"from ([0-9A-Fa-f:./]{2,43})", _named(
        "context has source_address && context.source_address.isInRange(ip(%))")),
    ("excepted from RULE", rf"excepted from {_NAME}", _named("context.exceptions.contains(%)")),
    ("excepted", r"excepted", _fixed("context.exception")),
)  # fmt: skip
"""The vocabulary of invariants; besides these, `approved` and `not …`."""
_PLAIN = ("approved", *(name for written, _, _ in WORDS for name in written.split(", ")))


def read_invariants(text: str, vocabulary: Vocabulary = STANDARD) -> tuple[Invariant, ...]:
    """Read a file of invariants. Raises `Rejected` (`access.policy.invariant`) with the line of what is wrong."""
    if len(text) > MAX_BYTES:
        raise _wrong(f"the file is larger than {MAX_BYTES} bytes")
    found: dict[str, Invariant] = {}
    for line, statement in _statements(text):
        if len(found) >= MAX_INVARIANTS:
            raise _wrong(f"line {line}: there are more than {MAX_INVARIANTS} invariants")
        invariant = read_invariant(statement, vocabulary, place=f"line {line}: ")
        if invariant.id in found:
            raise _wrong(f"line {line}: the id `{invariant.id}` is there twice")
        found[invariant.id] = invariant
    return tuple(found.values())


def read_invariant(text: str, vocabulary: Vocabulary = STANDARD, *, place: str = "") -> Invariant:
    """Read one invariant, in words or in Cedar. Raises `Rejected` (`access.policy.invariant`)."""
    named = _ID.match(text)
    body = " ".join(text[named.end() if named else 0 :].split())
    in_cedar = _pair(text[named.end() if named else 0 :])
    if in_cedar is not None:
        guard: Formula = _cedar(in_cedar[0], vocabulary, place)
        requires: tuple[Formula, ...] = (_cedar(in_cedar[1], vocabulary, place),)
    else:
        if len(halves := _halves(body)) != 2:
            raise _wrong(f"{place}`{body[:80]}` is not `… requires …`")
        guard = _joined("all", _words(halves[0], vocabulary, place))
        requires = tuple(_words(halves[1], vocabulary, place))
    return Invariant(id=named[1] if named else body[:120], text=body, guard=guard, requires=requires)


def is_sentence(text: str) -> bool:
    """Whether a text says what something requires, whatever its words; a path does not."""
    return len(_halves(" ".join(text.split()))) >= 2 or _pair(text) is not None


def _halves(body: str) -> Sequence[str]:
    if (found := _WHATEVER.fullmatch(body.strip())) is not None:
        return ("anything" if found[1] == "resource" else found[1], found[2])
    return re.split(r"\srequires?\s", f" {body} ")


_WHATEVER = re.compile(r"whatever is allowed on (?:an? |any )?(.+?)(?: resources?)? is (.+)")
_ID = re.compile(r'\s*@id\(\s*"([^"\\]{1,120})"\s*\)')
_TOKEN = re.compile(r'//[^\n]*|"(?:\\.|[^"\\])*"|[;{}]', re.DOTALL)


def _statements(text: str) -> Iterator[tuple[int, str]]:
    """Each statement with its line; comments are left out, strings respected."""
    kept, start, depth = [], 0, 0
    first = 1
    for match in _TOKEN.finditer(text):
        token = match.group()
        kept.append(text[start : match.start()])
        start = match.end()
        if token.startswith("//"):
            continue
        depth += (token == "{") - (token == "}")
        if token == ";" and depth <= 0:
            yield from _statement("".join(kept), first, text, start)
            kept, first = [], text.count("\n", 0, start) + 1
        else:
            kept.append(token)
    yield from _statement("".join(kept) + text[start:], first, text, len(text))


def _statement(raw: str, first: int, text: str, end: int) -> Iterator[tuple[int, str]]:
    if raw.strip():
        yield text.count("\n", 0, end) + 1 if first == 0 else first + _blank_lines(raw), raw.strip()


def _blank_lines(raw: str) -> int:
    return raw[: len(raw) - len(raw.lstrip())].count("\n")


def _pair(text: str) -> tuple[str, str] | None:
    """The two expressions of `when { … } requires { … }`."""
    parts: list[str] = []
    depth = start = 0
    outside = ""
    last = 0
    for match in _TOKEN.finditer(text):
        if match.group() == "{":
            if depth == 0:
                outside += text[last : match.start()] + "{}"
                start = match.end()
            depth += 1
        elif match.group() == "}":
            depth -= 1
            if depth == 0:
                parts.append(text[start : match.start()])
                last = match.end()
    outside += text[last:]
    if len(parts) != 2 or depth != 0 or "".join(outside.split()) != "when{}requires{}":
        return None
    return parts[0], parts[1]


def _words(text: str, vocabulary: Vocabulary, place: str) -> list[Formula]:
    parts = [part.strip() for part in re.split(r",|\sand\s", text)]
    if not any(parts):
        raise _wrong(f"{place}a side of `requires` is empty")
    return [_alternatives(part, vocabulary, place) for part in parts if part]


def _alternatives(text: str, vocabulary: Vocabulary, place: str) -> Formula:
    return _joined("any", [_word(each.strip(), vocabulary, place) for each in re.split(r"\sor\s", text)])


def _word(text: str, vocabulary: Vocabulary, place: str) -> Formula:
    if text.startswith("not "):
        return Joined("not", (_word(text[4:].strip(), vocabulary, place),))
    if text == "approved":
        return APPROVED
    for _, pattern, write in WORDS:
        found = re.fullmatch(pattern, text)
        if found is not None:
            cedar = write(found)
            return Claim(text, cedar, _parse(cedar, place))
    near = get_close_matches(text, _PLAIN, 1)
    raise _wrong(f"{place}`{text[:80]}` is no word of invariants" + (f"; `{near[0]}` is" if near else ""))


def _cedar(text: str, vocabulary: Vocabulary, place: str) -> Claim:
    """A boolean expression that somebody wrote, typed by the schema."""
    errors = errors_of(check(_policy(text), vocabulary))
    if errors:
        raise _wrong(f"{place}`{text.strip()[:80]}`: {errors[0].message}")
    return Claim(" ".join(text.split()), text, _parse(text, place))


@lru_cache(maxsize=1024)
def _parse(text: str, place: str) -> Mapping[str, Any]:
    read = read_policies(_policy(text))
    if len(read) != 1 or len(read[0].est["conditions"]) != 1:
        raise _wrong(f"{place}`{text.strip()[:80]}` is not one expression")
    body: Mapping[str, Any] = read[0].est["conditions"][0]["body"]
    return body


def _policy(text: str) -> str:
    return f"permit (principal, action, resource) when {{ {text} }};"


def _joined(how: Literal["all", "any"], parts: list[Formula]) -> Formula:
    return parts[0] if len(parts) == 1 else Joined(how, tuple(parts))


def words_of(formula: Formula) -> str:
    """The formula as a person wrote it."""
    if isinstance(formula, Claim):
        return formula.words
    if formula.how == "not":
        return f"not {words_of(formula.parts[0])}"
    return (" or " if formula.how == "any" else ", ").join(map(words_of, formula.parts))


def _wrong(what: str) -> Rejected:
    return Rejected("access.policy.invariant", what, next_step="docs/policies.md lists the words of invariants")
