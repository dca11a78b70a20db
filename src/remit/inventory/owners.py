"""Who seems to answer for what a file declares: evidence for an owner, never the fact itself.

CODEOWNERS says who must review a path, version control who wrote its lines, a comment or label what its author said.
Each becomes an `OwnerFact` with its method and a confidence; it counts only when somebody claims or assigns.
All of this module is pure; `providers/git.py` runs the program.

Spec: GitHub "About code owners"; GitLab "Code Owners"; gitignore(5), "PATTERN FORMAT".
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import lru_cache

from remit.inventory.model import OwnerFact, Place
from remit.kernel.ids import Name

CODEOWNERS_PATHS = (".github/CODEOWNERS", "CODEOWNERS", "docs/CODEOWNERS", ".gitlab/CODEOWNERS")
"""Where forges look, the first that exists counts."""
MAX_RULES = 5_000


@dataclass(frozen=True, slots=True, kw_only=True)
class OwnerRule:
    """One line of CODEOWNERS. No owners: the path has none, whatever came before."""

    pattern: str
    owners: tuple[str, ...]
    line: int


@dataclass(frozen=True, slots=True, kw_only=True)
class LineAuthor:
    """Lines `first` to `last` were last changed by `author`."""

    first: int
    last: int
    author: str
    commit: str = field(default="")
    when: datetime | None = None


_OWNER = re.compile(r"@[\w./-]{1,100}|[^\s@]{1,100}@[\w.-]{1,150}")


def parse_codeowners(text: str) -> tuple[OwnerRule, ...]:
    """Read a CODEOWNERS file, at most `MAX_RULES` rules; lines that are none are passed over.

    GitLab's `[Section] @default` gives its owners to the rules below that name none.
    """
    rules: list[OwnerRule] = []
    default: tuple[str, ...] = ()
    for number, raw in enumerate(text.splitlines(), 1):
        line = re.split(r"(?:^|\s)#", raw, maxsplit=1)[0].strip()
        if not line or len(line) > 2000:
            continue
        if section := re.fullmatch(r"\^?\[[^\]]*\](?:\[\d+\])?(.*)", line):
            default = tuple(_OWNER.findall(section.group(1)))
            continue
        pattern, *rest = re.split(r"(?<!\\)\s+", line)
        owners = tuple(owner for owner in rest if _OWNER.fullmatch(owner))
        rules.append(OwnerRule(pattern=pattern.replace("\\ ", " "), owners=owners or default, line=number))
        if len(rules) == MAX_RULES:
            break
    return tuple(rules)


def owners_of(rules: Sequence[OwnerRule], path: str) -> OwnerRule | None:
    """The rule that decides for `path` (from the root of the repository): the last that matches; `None` without one."""
    segments = path.split("/")
    matching = (rule for rule in reversed(rules) if _matches(_segments(rule.pattern), segments, _is_any, _fits))
    return next(matching, None)


@lru_cache(maxsize=MAX_RULES)
def _segments(pattern: str) -> tuple[str, ...]:
    """A CODEOWNERS pattern as segments to match: gitignore's, where whatever matches owns what is below it."""
    body = pattern.strip("/")[:400]
    anchored = "/" in pattern.rstrip("/")
    # `docs/` owns what is in the directory, `docs/*` its files but not those of its subdirectories.
    below = ("*", "**") if pattern.endswith("/") else () if body.endswith("/*") else ("**",)
    return (*(() if anchored else ("**",)), *body.split("/"), *below)


def _is_any(segment: str) -> bool:
    return segment == "**"


def _fits(pattern: str, segment: str) -> bool:
    return _matches(pattern, segment, "*".__eq__, lambda mark, character: mark in {"?", character})


def _matches(
    pattern: Sequence[str], subject: Sequence[str], is_star: Callable[[str], bool], equal: Callable[[str, str], bool]
) -> bool:
    """Match with stars by going back to the last one only: never dearer than pattern times subject."""
    at = position = mark = 0
    star = -1
    while position < len(subject):
        if at < len(pattern) and is_star(pattern[at]):
            star, mark, at = at, position, at + 1
        elif at < len(pattern) and equal(pattern[at], subject[position]):
            at, position = at + 1, position + 1
        elif star >= 0:
            at, mark = star + 1, mark + 1
            position = mark
        else:
            return False
    return all(is_star(rest) for rest in pattern[at:])


_COMMENT = re.compile(
    r"^\s*(?:#|//|--|;|\*)\s*(?:@)?(owners?|maintainers?|(?:maintained|owned)[- ]by|contact|team)\s*[:=]\s*"
    r"([^\s,;#][^,;#\n]{1,100})",
    re.IGNORECASE,
)


def owner_comments(text: str) -> tuple[tuple[int, str], ...]:
    """Line and owner of each `# owner: NAME` comment (also maintainer, contact, team); at most ten."""
    found = []
    for number, line in enumerate(text.splitlines(), 1):
        hit = _COMMENT.match(line) if len(line) < 400 else None
        if hit:
            found.append((number, hit.group(2).strip(" \t\"'*/")))
        if len(found) == 10:
            break
    return tuple(found)


def parse_blame(porcelain: str) -> tuple[LineAuthor, ...]:
    """Read `git blame --porcelain`: runs of lines by one commit, with the author's mail address (else the name)."""
    mails: dict[str, str] = {}
    names: dict[str, str] = {}
    times: dict[str, datetime] = {}
    runs: list[LineAuthor] = []
    commit = ""
    for line in porcelain.splitlines():
        head = re.match(r"([0-9a-f]{40,64}) \d+ (\d+) (\d+)$", line)
        if head:
            commit, first, count = head.group(1), int(head.group(2)), int(head.group(3))
            runs.append(LineAuthor(first=first, last=first + count - 1, author="", commit=commit))
        elif line.startswith("author-mail "):
            mails[commit] = line[12:].strip("<>")
        elif line.startswith("author "):
            names[commit] = line[7:]
        elif (seconds := re.match(r"author-time (\d{1,11})$", line)) is not None:
            times[commit] = datetime.fromtimestamp(int(seconds.group(1)), UTC)
    return tuple(
        LineAuthor(
            first=run.first,
            last=run.last,
            author=mails.get(run.commit) or names[run.commit],
            commit=run.commit[:12],
            when=times.get(run.commit),
        )
        for run in runs
        if run.commit.strip("0") and (mails.get(run.commit) or names.get(run.commit))
    )


def author_of(authors: Iterable[LineAuthor], line: int | None) -> tuple[LineAuthor, int] | None:
    """Who wrote `line`, or most of the file; with a confidence. `None` when version control does not say.

    A bot that commits is no owner.
    """
    people = [
        run for run in authors if not re.search(r"\[bot\]|noreply@github\.com$|^(?:root|git|nobody)@", run.author)
    ]
    if line is not None:
        return next(((run, 50) for run in people if run.first <= line <= run.last), None)
    share: Counter[str] = Counter()
    for run in people:
        share[run.author] += run.last - run.first + 1
    if not share:
        return None
    author, count = share.most_common(1)[0]
    latest = next(run for run in people if run.author == author)
    return latest, 30 + 20 * count // share.total()


def propose(
    identity: Name,
    *,
    rules: Sequence[OwnerRule],
    path: str,
    authors: Sequence[LineAuthor],
    comments: Sequence[tuple[int, str]],
    place: Place,
    weight: int = 100,
) -> tuple[OwnerFact, ...]:
    """Gather the evidence for who owns `identity`, shown at `place`, which is `path` in its repository.

    `weight` (percent) scales the confidence: a file that brings an identity into being says more than one that uses it.
    """
    facts = []
    if (rule := owners_of(rules, path)) is not None:
        for position, owner in enumerate(rule.owners[:5]):
            evidence = f"CODEOWNERS line {rule.line}: {rule.pattern}"
            facts.append(_fact(identity, owner, "codeowners", evidence, 80 - 5 * position, place))
    if (written := author_of(authors, place.line)) is not None:
        run, confidence = written
        where = f"line {place.line}" if place.line else "most lines"
        changed = f"{where} last changed in {run.commit}"
        facts.append(replace(_fact(identity, run.author, "git", changed, confidence, place), at=run.when))
    for number, owner in comments[:3]:
        near = place.line is not None and 0 <= place.line - number <= 5
        if near or number <= 15:
            facts.append(_fact(identity, owner, "comment", f"comment on line {number}", 70 if near else 60, place))
    return tuple(replace(fact, confidence=fact.confidence * weight // 100) for fact in facts)


def _fact(identity: Name, owner: str, method: str, evidence: str, confidence: int, place: Place) -> OwnerFact:
    return OwnerFact(
        identity=identity, owner=owner, method=method, evidence=evidence, confidence=confidence, place=place
    )
