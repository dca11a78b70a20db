"""The scan of one blob: signals → confirmation → deciders → score → one hit for each place."""

from __future__ import annotations

import bisect
import itertools
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeAlias

from remit.inventory.model import CredentialKind
from remit.inventory.secrets.engine import assignment, checksums, decode, placeholders
from remit.inventory.secrets.engine.assignment import LINE_LIMIT, Candidate
from remit.inventory.secrets.engine.finder import Found, Signal, open_finder
from remit.inventory.secrets.engine.language import RANDOM_FROM, likeness
from remit.inventory.secrets.engine.placeholders import is_identifier, is_mechanism, is_pattern, is_syntax
from remit.inventory.secrets.engine.places import Role, role_of
from remit.inventory.secrets.engine.rule import Rule
from remit.inventory.secrets.engine.rules import catalogue
from remit.inventory.secrets.engine.score import confidence
from remit.inventory.secrets.engine.values import shape
from remit.inventory.secrets.model import Blob, Hit

FLOOR = 5
"""Hits below this confidence are not kept at all: templates, look-ups, identifiers."""
HIT_LIMIT = 20_000
CANDIDATE_LIMIT = 5_000
"""Values given to names that are weighed in one window, and one more for every hundred bytes: beyond, it is noise."""
DEPTH_LIMIT = 2
"""Encodings within encodings that are undone."""
_RANDOM_LINES = frozenset(range(assignment.STRONG_LINES, len(assignment.LINES)))
_LAST = {assignment.LINES.index(assignment.STRONG_LAST)}
_OPENERS = frozenset(b"=:({|>,\\"[place : place + 1] for place in range(9))
"""In source code a bare word at a line's end is a name, no value: only a line that opens something goes on."""
_ESCAPED = len(assignment.LINES)
_JOINED = _ESCAPED + 1


Judge: TypeAlias = Callable[[Candidate, Role], int]
"""How sure, from 0 to 100, that a value given to a name is a secret."""


class Engine:
    """Finds secrets in blobs. Holds no state of a scan: threads and forked children may share one."""

    def __init__(self, rules: Sequence[Rule], *, cache: Path | None, pure: bool, judge: Judge = confidence) -> None:
        signals = [Signal(pattern=rule.signal, keywords=rule.keywords, ignore_case=rule.ignore_case) for rule in rules]
        self._rules = tuple(rules)
        self._judge = judge
        self._ready: list[_Ready | None] = [None] * len(rules)
        self._finder = open_finder([*signals, *assignment.LINES, *decode.SIGNALS], cache=cache, pure=pure)

    def scan(self, blob: Blob) -> list[Hit]:
        """Every value in `blob` that looks like a secret, by place; nothing is raised for any bytes.

        A place has one hit: that of the most specific rule. Values of low confidence are in it, marked as such.
        """
        view = decode.text_of(blob.data)
        if view is not None:
            return [view.back(hit, blob.data) for hit in self._scan(view.data, None, blob.path)]
        return self._scan(blob.data, blob.windows, blob.path) or _file_of_one(blob, self._judge)

    def _scan(self, data: bytes, windows: tuple[tuple[int, int], ...] | None, path: str) -> list[Hit]:
        announced: list[tuple[Found, int]] = []
        for start, end in windows if windows is not None else ((0, len(data)),):
            start, end = max(0, start), min(end, len(data))
            signals = self._finder.find(data, start, end)
            if signals:
                announced.append((signals, end - start))
        # Most of what is scanned ends here.
        return self._weighed(data, announced, role_of(path)) if announced else []

    def _weighed(self, data: bytes, announced: list[tuple[Found, int]], role: Role) -> list[Hit]:
        found: dict[tuple[int, int], Hit] = {}
        lines = _Lines(data)
        for signals, size in announced:
            for hit in self._window(data, signals, size, role, lines):
                _keep(found, hit)
                if len(found) >= HIT_LIMIT:
                    break
        return sorted(_without_covered(found), key=lambda hit: (hit.start, hit.end))

    def _window(
        self, data: bytes, signals: Found, size: int, role: Role, lines: _Lines, depth: int = 0
    ) -> Iterator[Hit]:
        """What comes of the signals of one window of `size` bytes."""
        pieces: dict[tuple[int, int, int, int], set[int]] = {}
        count = len(self._rules)
        line = (0, -1)
        for number, at in sorted(signals):
            if number < count:
                hit = self._confirmed(data, number, at, role, lines)
                if hit is not None:
                    yield hit
            else:
                if not line[0] <= at <= line[1]:  # a line of megabytes has many signals, and its ends are far
                    line = _line_round(data, at)
                pieces.setdefault(_piece(*line, at), set()).add(number - count)
        budget = itertools.repeat(None, CANDIDATE_LIMIT + size // 100)
        for piece, kinds in sorted(pieces.items()):
            yield from self._line(data, piece, kinds, role, lines, depth, budget)

    def _line(
        self,
        data: bytes,
        piece: tuple[int, int, int, int],
        kinds: set[int],
        role: Role,
        lines: _Lines,
        depth: int,
        budget: Iterator[None],
    ) -> Iterator[Hit]:
        """What one line gives: values given to names, then the same in the line with its encodings undone."""
        low, high, first, last = piece
        if role is Role.CODE and kinds == _LAST and data[max(low, high - 4) : high].rstrip()[-1:] not in _OPENERS:
            return
        named = min(kinds) < assignment.STRONG_LINES
        random = not kinds.isdisjoint(_RANDOM_LINES)
        if named or random:
            found = assignment.candidates(data, low, high, core=(first, last), named=named, random=random)
            for candidate, _ in zip(found, budget, strict=False):
                yield from self._valued(data, candidate, role, lines, depth)
        if depth < DEPTH_LIMIT:
            for kind, undo in ((_ESCAPED, decode.unescape), (_JOINED, decode.join)):
                view = undo(data, low, high) if kind in kinds else None
                if view is not None:
                    yield from self._within(view, data, role, lines, depth)

    def _valued(self, data: bytes, candidate: Candidate, role: Role, lines: _Lines, depth: int) -> Iterator[Hit]:
        named = candidate.strong and candidate.value.isascii()
        bare = not named and _in_binary(data, candidate.start, candidate.end)
        hit = None if bare else _scored(candidate, role, lines, self._judge)
        inner = decode.inner_text(candidate.value) if depth < DEPTH_LIMIT and role is not Role.LOCK else None
        if inner is not None:
            found = False
            view = decode.whole(candidate.start, candidate.end, *inner)
            for deeper in self._within(view, data, role, lines, depth):
                found = True
                yield deeper
            if not found and hit is not None and inner[1] == "base64" and b"kind: Secret" in data[:LINE_LIMIT]:
                hit = replace(hit, value=inner[0].strip(), decoded=("base64",), confidence=max(hit.confidence, 80))
            elif not found and hit is not None and inner[1] == "hex" and len(inner[0]) >= 8:
                # Random digits are text as good as never: what the name was given is the text.
                hit = replace(hit, value=inner[0].strip(), decoded=("hex",))
        if hit is not None:
            yield hit

    def _within(self, view: decode.View, data: bytes, role: Role, lines: _Lines, depth: int) -> Iterator[Hit]:
        inner = _Lines(view.data)
        size = len(view.data)
        hits = self._window(view.data, self._finder.find(view.data, 0, size), size, role, inner, depth + 1)
        again = decode.inner_text(view.data) if depth + 1 < DEPTH_LIMIT else None
        if again is not None:
            deeper = decode.whole(0, len(view.data), *again)
            hits = itertools.chain(hits, self._within(deeper, view.data, role, inner, depth + 1))
        for hit in hits:
            back = view.back(hit)
            unveiled = hit.value != data[back.start : back.end] or data[back.start - 3 : back.start - 2] == b"%"
            if hit.confidence >= 50 and (hit.rule not in _GENERIC or unveiled):
                yield replace(back, line=lines.number(back.start))

    def _confirmed(self, data: bytes, number: int, at: int, role: Role, lines: _Lines) -> Hit | None:
        ready = self._ready[number]
        if ready is None:
            ready = self._ready[number] = _made_ready(self._rules[number])
        edge = ready.edge
        if at and data[at - 1] in edge and data[at] in edge and not _escaped(data, at):
            return None
        match = ready.confirm.match(data, at)
        if match is None:
            return None
        low, high = match.span("secret")
        if high < len(data) and data[high] in edge and data[high - 1] in edge:
            return None
        rule = self._rules[number]
        if rule.reach:
            low -= len(_REACH.match(data[max(0, low - rule.reach) : low][::-1]).group())  # type: ignore[union-attr]
        value = data[low:high]
        if rule.reach and (_in_binary(data, low, high) or _REACH.match(data[max(0, low - 1) : low]).end()):  # type: ignore[union-attr]
            return None
        if rule.prior < _OF_CERTIFICATES and _in_block(data, low, high):
            return None
        verdict = checksums.verify(rule.checksum, value) if rule.checksum else ""
        sure = _of_format(rule, value, verdict, role)
        if sure < FLOOR:
            return None
        parts = {
            name: text.decode("utf-8", "replace")
            for name, text in match.groupdict().items()
            if text and name != "secret"
        }
        return Hit(
            rule=rule.id,
            title=rule.title,
            kind=rule.kind,
            value=value,
            start=low,
            end=high,
            line=lines.number(low),
            confidence=sure,
            variable=_variable(data, low),
            checksum=verdict,
            parts=parts,
        )


@dataclass(frozen=True, slots=True)
class _Ready:
    """What a rule needs once something announced it: of hundreds, a scan meets a few."""

    confirm: re.Pattern[bytes]
    edge: frozenset[int]


def _made_ready(rule: Rule) -> _Ready:
    confirm = re.compile(rule.confirm.encode("latin-1"), re.IGNORECASE if rule.ignore_case else 0)
    return _Ready(confirm, frozenset(_alphabet(rule.alphabet)))


def make_engine(*, cache: Path | None = None, pure: bool = False, judge: Judge = confidence) -> Engine:
    """An engine over the whole catalogue.

    `cache` is a folder of ours for the compiled patterns (compiling takes seconds, loading milliseconds). `pure` does
    without Vectorscan, as does an installation without the extra `secrets`: the same hits, more slowly. `judge` takes
    the place of the fitted score (`tools/fit_secret_score.py`).
    """
    return Engine(catalogue(), cache=cache, pure=pure, judge=judge)


_FEW_LINES = 32


class _Lines:
    """Line numbers, worked out when first asked for."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._ends: list[int] | None = None
        self._asked = self._at = 0
        self._line = 1

    def number(self, at: int) -> int:
        if self._ends is None and self._asked < _FEW_LINES:
            # Few places are ever asked of, mostly in their order: counting from the last is much less than a list.
            self._asked += 1
            low, high = sorted((self._at, at))
            between = self._data.count(b"\n", low, high)
            self._at, self._line = at, self._line + (between if at >= self._at else -between)
            return self._line
        if self._ends is None:
            self._ends = [match.start() for match in re.finditer(rb"\n", self._data)]
        return bisect.bisect_left(self._ends, at) + 1


def _line_round(data: bytes, at: int) -> tuple[int, int]:
    end = data.find(b"\n", at)
    return data.rfind(b"\n", 0, at) + 1, len(data) if end < 0 else end


def _piece(start: int, end: int, at: int) -> tuple[int, int, int, int]:
    """The line from `start` to `end`, and what of it counts; of a very long line a piece round `at`, cut at fixed
    places."""
    if end - start <= LINE_LIMIT:
        return start, end, start, end
    step = LINE_LIMIT // 2
    middle = start + (at - start) // step * step
    return max(start, middle - 200), min(end, middle + 2 * step), middle, min(end, middle + step)


def _alphabet(pattern: str) -> list[int]:
    if not pattern:
        return []
    member = re.compile(f"[{pattern}]".encode("latin-1"))
    return [byte for byte in range(256) if member.match(bytes((byte,)))]


def _escaped(data: bytes, at: int) -> bool:
    r"""True where the character before `at` belongs to an escape (`\n`, `%3D`, `=3D`), not to a word."""
    return data[at - 2 : at - 1] == b"\\" or data[max(0, at - 3) : at - 2] in (b"%", b"=")


def _in_binary(data: bytes, low: int, high: int) -> bool:
    """True where a NUL is near: strings of programs, of which only a name or a format says that one is a secret."""
    return b"\x00" in data[max(0, low - 48) : low] or b"\x00" in data[high : high + 16]


_OF_CERTIFICATES = 90
"""A format that says so little of itself occurs by chance in the lines of certificates."""
_BLOCK = re.compile(rb"[A-Za-z0-9+/]{60,76}={0,2}\r?")


def _in_block(data: bytes, low: int, high: int) -> bool:
    """True where the value is a part of a full line of base 64, as certificates have them."""
    start, end = data.rfind(b"\n", max(0, low - 81), low) + 1, data.find(b"\n", high, high + 81)
    end = len(data) if end < 0 else end
    return 60 <= end - start <= 80 and end - start > high - low and _BLOCK.fullmatch(data, start, end) is not None


def _of_format(rule: Rule, value: bytes, verdict: str, role: Role) -> int:
    sure = rule.prior
    if verdict == "pass":
        return max(sure, 98)
    if verdict == "fail":
        sure = min(sure, 80) - 5
    if rule.basic and not _is_login(value):
        return 0
    if rule.like_arguments and role is Role.CODE and placeholders.is_member(value):
        return 0
    if rule.reach and (likeness(value) < RANDOM_FROM or value.startswith(b"_Z")):
        return 0  # a name that a compiler made: nothing but its prefix speaks for such a token
    measured = shape(value)
    if placeholders.is_template(value):
        sure -= 85
    elif (
        not rule.entropy and not rule.multiline and (placeholders.is_plain_word(value) or placeholders.says_so(value))
    ) or (
        measured.entropy < rule.entropy
        or measured.sequence * 2 > measured.length
        or measured.distinct * 5 < min(measured.length, 40)
    ):
        sure -= 60
    elif rule.entropy and placeholders.says_so(value) and measured.length < 200:
        sure -= 45 if measured.digits else 50
    if role is Role.LOCK and rule.prior < 90:
        sure -= 40
    return max(0, min(99, sure))


def _is_login(value: bytes) -> bool:
    """True where `value` is base 64 of printable text with a colon in it."""
    plain = checksums.unpad(value)
    return (
        plain is not None and 0 < plain.find(b":") < len(plain) - 1 and plain.isascii() and plain.decode().isprintable()
    )


_REACH = re.compile(rb"[A-Za-z0-9_\-]*")
_VARIABLE = re.compile(
    rb"([A-Za-z_][\w.\-]{0,80})[\"'`\]]{0,3}\s{0,8}(?:=>|:=|=|:|\(|,|>)\s{0,8}[@$fFrRbBuU\[({]{0,2}\\?[\"'`]{0,3}(?:[A-Za-z]{4,8} )?$"
)


def _variable(data: bytes, at: int) -> str:
    start = max(data.rfind(b"\n", 0, at) + 1, at - 140)
    found = _VARIABLE.search(data[start:at])
    return found[1].decode("latin-1") if found else ""


def _scored(candidate: Candidate, role: Role, lines: _Lines, judge: Judge) -> Hit | None:
    if len(candidate.value) < 3 or _is_expression(candidate, role):
        return None
    if is_pattern(candidate.value) or is_mechanism(candidate.name, candidate.value):
        return None
    if is_syntax(candidate.value, candidate.operator):
        return None
    if is_identifier(candidate.value) or _is_titled(candidate) or _is_no_name(candidate):
        return None
    sure = judge(candidate, role)
    if sure < FLOOR:
        return None
    name = candidate.name.decode("latin-1").strip()
    return Hit(
        rule="generic-assignment" if candidate.strong else "random-value",
        title=_title(candidate),
        kind=_kind(candidate.name),
        value=candidate.value,
        start=candidate.start,
        end=candidate.end,
        line=lines.number(candidate.start),
        confidence=sure,
        variable=name,
    )


_FILE_LIMIT = 300
_NAMED_FILE = re.compile(
    r"(?:^|[/!])(?:(?:master|production|staging|secret|encryption|signing)\.key|\.?[\w.\-]{0,40}"
    r"(?:vault[-_]?pass|password|passwd|secret|api[-_]?key|token)(?:\.txt)?)$",
    re.IGNORECASE,
)
_ONE_VALUE = re.compile(rb"[!-~]{8,256}")


def _file_of_one(blob: Blob, judge: Judge) -> list[Hit]:
    """The secret that a small file named after it is made of: a master key, the password that opens a vault."""
    value = blob.data.strip() if len(blob.data) <= _FILE_LIMIT else b""
    if _ONE_VALUE.fullmatch(value) is None or _NAMED_FILE.search(blob.path) is None:
        return []
    name = blob.path.rpartition("/")[2].lstrip(".").lower().replace(".key", "_key").removesuffix(".txt")
    at = blob.data.index(value)
    candidate = Candidate(
        name=name.encode(), operator=b"=", quote=b"", value=value, start=at, end=at + len(value), strong=True
    )
    hit = _scored(candidate, Role.SETTINGS, _Lines(blob.data), judge)
    return [hit] if hit is not None else []


_LONGEST_NAME = 48
_PROPER_NOUN = re.compile(rb"[A-Z][a-z]{2,}(?:pass|pin|pat|otp)")


def _is_no_name(candidate: Candidate) -> bool:
    """True of a company (`Buypass AS-9831`), and of strings of a program that lie one after the other."""
    if candidate.quote or not candidate.strong:
        return False
    name = candidate.name.strip()
    glued = len(name) > _LONGEST_NAME and name.isalnum()
    return glued or (not candidate.operator.strip() and _PROPER_NOUN.fullmatch(name) is not None)


def _title(candidate: Candidate) -> str:
    """What a person calls it: a password by its name, else a secret; of a weak name only that it looks random."""
    if not candidate.strong:
        return "Random value"
    return "Hard-coded password" if _kind(candidate.name) is CredentialKind.PASSWORD else "Hard-coded secret"


_DIGIT = re.compile(rb"[0-9]")
_EXPRESSION = re.compile(rb"&?[A-Za-z_$][\w$]*(?:(?:\.|::|->|\?\.)[A-Za-z_$][\w$]*)*[=?!:]?")


def _is_expression(candidate: Candidate, role: Role) -> bool:
    """True where a value without quotes is a call, an index, or (in source code) a name: most of what lines hold."""
    if candidate.quote:
        return False
    if candidate.after[:1] in (b"(", b"[", b"{", b"<"):
        return candidate.after[:2] != b"</"
    if role is not Role.CODE or _EXPRESSION.fullmatch(candidate.value) is None:
        return False
    return candidate.operator.strip() != b"=" or not (
        _DIGIT.search(candidate.value) and likeness(candidate.value) > RANDOM_FROM
    )


_TITLE = re.compile(rb"[\"'][A-Z][\w./()\-]*(?: [\w./()\-]+)* $")


def _is_titled(candidate: Candidate) -> bool:
    """True where the name ends a title in prose, and what comes after the comma is as short as a prefix or a number."""
    titled = candidate.operator.strip() == b"," and _TITLE.search(candidate.before) is not None
    return titled and len(candidate.value) < 12


def _kind(name: bytes) -> CredentialKind:
    lower = name.lower()
    if re.search(rb"pass|pwd|pin", lower):
        return CredentialKind.PASSWORD
    if b"token" in lower or b"bearer" in lower:
        return CredentialKind.TOKEN
    return CredentialKind.API_KEY if b"key" in lower else CredentialKind.SECRET


def _keep(found: dict[tuple[int, int], Hit], hit: Hit) -> None:
    before = found.get((hit.start, hit.end))
    if before is None or _rank(hit) > _rank(before):
        if before is not None and not hit.variable:
            hit = replace(hit, variable=before.variable)
        found[(hit.start, hit.end)] = hit


def _rank(hit: Hit) -> tuple[bool, int]:
    return hit.rule not in _GENERIC and hit.confidence >= 50, hit.confidence


_GENERIC = frozenset({"generic-assignment", "random-value", "kubernetes-secret-value"})


def _without_covered(found: dict[tuple[int, int], Hit]) -> Iterator[Hit]:
    """Hits that lie within a hit of a named format, or overlap a better generic one, say nothing new."""
    named = sorted((hit for hit in found.values() if hit.rule not in _GENERIC), key=lambda hit: (hit.start, -hit.end))
    generic = [hit for hit in found.values() if hit.rule in _GENERIC]
    # A joined value is more than any one of its pieces, however sure the piece.
    generic.sort(key=lambda hit: ("joined" not in hit.decoded, -hit.confidence))
    kept: list[Hit] = []
    reach: list[tuple[int, int]] = []
    for hit in [*named, *generic]:
        if not _overlaps(reach, hit.start, hit.end):
            bisect.insort(reach, (hit.start, hit.end))
            kept.append(hit)
    yield from kept


def _overlaps(reach: list[tuple[int, int]], start: int, end: int) -> bool:
    place = bisect.bisect_left(reach, (start, end))
    before = place > 0 and reach[place - 1][1] > start
    return before or (place < len(reach) and reach[place][0] < end)
