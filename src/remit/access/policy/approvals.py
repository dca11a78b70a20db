"""Who must approve a grant, as a permit says it: `@obligation("approval: WHO [within HH:MM-HH:MM [DAYS] [ZONE]]")`.

    WHO   =  automatic                       policy alone: nobody is asked, the reason is kept
          |  TERM {and TERM} | TERM {or TERM}; parentheses group, `and` binds more closely
    TERM  =  anyone                          a registered person who did not ask
          |  owner                           who answers for the identity
          |  person/NAME  |  team/NAME       that person; whoever leads that team
          |  N of [NAME NAME …]              any N of these persons
          |  N of team/NAME                  any N of those who belong to that team, its lead among them

One person fills one place: `owner and 2 of [ann ben cho]` are three people. DAYS is `mon-fri` or `sat`, ZONE an IANA
name (UTC without one). Commas separate obligations, so lists have none.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, time
from functools import lru_cache
from typing import Final, TypeAlias
from zoneinfo import ZoneInfo

from remit.kernel.errors import Rejected

KIND: Final = "approval"
MAX_LENGTH: Final = 300
MAX_PLACES: Final = 9
_MAX_ALTERNATIVES: Final = 64
_MAX_DEPTH: Final = 8
_TOKEN = re.compile(r"\s*([()\[\]]|[a-z0-9][a-z0-9._/-]*)", re.ASCII)
_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")
_TEAM = re.compile(r"[a-z0-9][a-z0-9/._-]{0,127}")
_WINDOW = re.compile(r"(\d\d):(\d\d)-(\d\d):(\d\d)((?:\s+\S+)*)")
_DAYS: Final = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
_WORDS: Final = frozenset({"and", "or", "of", "anyone", "owner", "automatic"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Places:
    """How many people out of whom: `anyone`, `owner`, or `person/NAME`, `team/NAME`, `members/TEAM` each."""

    count: int
    whom: tuple[str, ...]

    def __str__(self) -> str:
        if len(self.whom) == 1:
            kind, _, name = self.whom[0].partition("/")
            return f"{self.count} of team/{name}" if kind == "members" else self.whom[0]
        return f"{self.count} of {', '.join(one.removeprefix('person/') for one in self.whom)}"


Alternative: TypeAlias = tuple[Places, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """When approving is allowed: from `start` until before `end`, on these days (0 is Monday), in a time zone."""

    start: time
    end: time
    days: frozenset[int]
    zone: str

    def holds(self, at: datetime) -> bool:
        """Whether `at` lies in it; one that ends before it starts goes over midnight."""
        local = at.astimezone(ZoneInfo(self.zone))
        moment, day = local.time().replace(tzinfo=None), local.weekday()
        if self.start < self.end:
            return day in self.days and self.start <= moment < self.end
        if moment >= self.start:
            return day in self.days
        return moment < self.end and (day - 1) % 7 in self.days


@dataclass(frozen=True, slots=True, kw_only=True)
class Requirement:
    """What a permit asks for before its grant counts: one alternative must be filled, within the window."""

    text: str
    automatic: bool
    alternatives: tuple[Alternative, ...]
    window: Window | None = None

    def filled(self, people: Iterable[str], known: Mapping[str, frozenset[str]], *, asker: str = "") -> bool:
        """Whether these persons fill an alternative. `known` says who `owner` and each team are."""
        given = sorted({one for one in people if one != asker})
        return self.automatic or any(_fits(alternative, given, known) for alternative in self.alternatives)

    def __str__(self) -> str:
        if self.automatic:
            return "nobody: policy approves it"
        return " or ".join(" and ".join(str(each) for each in alternative) for alternative in self.alternatives)


@lru_cache(maxsize=512)
def parse_requirement(text: str) -> Requirement:
    """Read the detail of an `approval`; empty means `anyone`. `Rejected` (`access.approval.requirement`)."""
    if len(text) > MAX_LENGTH:
        raise _malformed(text, f"it is longer than {MAX_LENGTH} characters")
    who, said, window = text.partition(" within ")
    reader = _Reader(who.strip() or "anyone")
    automatic = reader.words == ["automatic"]
    alternatives = () if automatic else reader.read()
    return Requirement(
        text=text,
        automatic=automatic,
        alternatives=alternatives,
        window=_window(text, window.strip()) if said else None,
    )


class _Reader:
    def __init__(self, text: str) -> None:
        self.text = text
        self.words: list[str] = []
        self._at = 0
        at = 0
        while at < len(text.rstrip()):
            found = _TOKEN.match(text, at)
            if found is None:
                raise _malformed(text, f"`{text[at : at + 20]}` is no word of it")
            self.words.append(found[1])
            at = found.end()

    def read(self) -> tuple[Alternative, ...]:
        found = self._either(0)
        if self._at != len(self.words):
            raise _malformed(self.text, f"`{self.words[self._at]}` stands where nothing more is expected")
        if any(sum(place.count for place in alternative) > MAX_PLACES for alternative in found):
            raise _malformed(self.text, f"it asks for more than {MAX_PLACES} people")
        return found

    def _either(self, depth: int) -> tuple[Alternative, ...]:
        found = self._both(depth)
        while self._takes("or"):
            found += self._both(depth)
        return self._bounded(found)

    def _both(self, depth: int) -> tuple[Alternative, ...]:
        found = self._term(depth)
        while self._takes("and"):
            other = self._term(depth)
            found = self._bounded(tuple((*one, *two) for one in found for two in other))
        return found

    def _term(self, depth: int) -> tuple[Alternative, ...]:
        if depth > _MAX_DEPTH:
            raise _malformed(self.text, "its parentheses are too deep")
        if self._takes("("):
            found = self._either(depth + 1)
            self._needs(")")
            return found
        word = self._next()
        if word in ("anyone", "owner"):
            return ((Places(count=1, whom=(word,)),),)
        kind, _, name = word.partition("/")
        if (kind == "person" and _NAME.fullmatch(name)) or (kind == "team" and _TEAM.fullmatch(name)):
            return ((Places(count=1, whom=(word,)),),)
        if word.isdecimal() and 1 <= int(word) <= MAX_PLACES:
            return ((self._of(int(word)),),)
        raise _malformed(
            self.text, f"`{word}` is none of anyone, owner, person/NAME, team/NAME, N of […], N of team/NAME"
        )

    def _of(self, count: int) -> Places:
        self._needs("of")
        if self._at < len(self.words) and self.words[self._at].startswith("team/"):
            return self._of_team(count)
        self._needs("[")
        names: list[str] = []
        while not self._takes("]"):
            word = self._next()
            if _NAME.fullmatch(word) is None or word in _WORDS:
                raise _malformed(self.text, f"`{word}` is no person's name")
            names.append(f"person/{word}")
        if len(set(names)) != len(names) or len(names) < count:
            raise _malformed(self.text, f"{count} of {len(set(names))} different persons cannot be")
        return Places(count=count, whom=tuple(names))

    def _of_team(self, count: int) -> Places:
        name = self._next().partition("/")[2]
        if _TEAM.fullmatch(name) is None:
            raise _malformed(self.text, f"`{name}` is no team's name")
        return Places(count=count, whom=(f"members/{name}",))

    def _bounded(self, found: tuple[Alternative, ...]) -> tuple[Alternative, ...]:
        if len(found) > _MAX_ALTERNATIVES:
            raise _malformed(self.text, f"it has more than {_MAX_ALTERNATIVES} alternatives")
        return found

    def _takes(self, word: str) -> bool:
        if self._at < len(self.words) and self.words[self._at] == word:
            self._at += 1
            return True
        return False

    def _needs(self, word: str) -> None:
        if not self._takes(word):
            raise _malformed(self.text, f"a `{word}` is missing")

    def _next(self) -> str:
        if self._at >= len(self.words):
            raise _malformed(self.text, "it ends too early")
        self._at += 1
        return self.words[self._at - 1]


def _window(text: str, window: str) -> Window:
    found = _WINDOW.fullmatch(window)
    if found is None:
        raise _malformed(text, "a window is `HH:MM-HH:MM [DAYS] [ZONE]`")
    try:
        start, end = time(int(found[1]), int(found[2])), time(int(found[3]), int(found[4]))
    except ValueError:
        raise _malformed(text, "a window's times lie between 00:00 and 23:59") from None
    days, zone = frozenset(range(7)), "UTC"
    for number, word in enumerate(found[5].split()):
        first, _, last = word.lower().partition("-")
        if number == 0 and first in _DAYS and (not last or last in _DAYS):
            days = _days(_DAYS.index(first), _DAYS.index(last or first))
        elif zone == "UTC" and _is_zone(word):
            zone = word
        else:
            raise _malformed(text, f"`{word[:40]}` is neither days nor a time zone")
    if start == end:
        raise _malformed(text, "its window is empty")
    return Window(start=start, end=end, days=days, zone=zone)


def _days(first: int, last: int) -> frozenset[int]:
    return frozenset((first + step) % 7 for step in range((last - first) % 7 + 1))


def _is_zone(word: str) -> bool:
    try:
        ZoneInfo(word)
    except (KeyError, ValueError, OSError):
        return False
    return True


def _fits(alternative: Alternative, given: list[str], known: Mapping[str, frozenset[str]]) -> bool:
    """Whether each place finds a person of its own: a matching by augmenting paths."""
    places = [place.whom for place in alternative for _ in range(place.count)]
    taken: dict[str, int] = {}

    def place(number: int, tried: set[str]) -> bool:
        for person in given:
            if person not in tried and _may_fill(person, places[number], known):
                tried.add(person)
                if person not in taken or place(taken[person], tried):
                    taken[person] = number
                    return True
        return False

    return all(place(number, set()) for number in range(len(places)))


def _may_fill(person: str, whom: tuple[str, ...], known: Mapping[str, frozenset[str]]) -> bool:
    return any(one == "anyone" or one == f"person/{person}" or person in known.get(one, frozenset()) for one in whom)


def _malformed(text: str, why: str) -> Rejected:
    return Rejected(
        "access.approval.requirement",
        f"`approval: {text[:120]}` cannot be read: {why}",
        next_step="for instance `approval: owner and 2 of [ann ben cho] within 08:00-18:00 mon-fri`",
    )
