"""Where a cloud's trust policy lets in a pattern of subjects (`repo:acme/*:*`), and a pipeline has one subject.

One source names the pattern, another the subject; neither knows of the other. Here each subject is joined to the
patterns of the same issuer that cover it, in bounded time.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import chain, islice
from typing import Final

from remit.inventory.connectors.aws.patterns import covers, meets
from remit.inventory.graph.model import Edge
from remit.inventory.model import Relation
from remit.kernel.ids import Name, name, parse_name

MOST: Final = 200_000
"""Pairs of a pattern and a subject below its fixed beginning that are looked at for one issuer."""


def at_will(issuer: str, pattern: str) -> Name:
    """The node of whoever can have any subject of a form, as he likes: `repo:acme/shop:ref:refs/heads/*`."""
    return name("oidc", issuer, "any-subject", pattern)


def join_subjects(names: Iterable[str]) -> Iterator[Edge]:
    """An edge from each subject among `names` to each pattern of its issuer that covers it, and from each form that
    somebody can have at will to what it meets.

    A pattern whose fixed beginning leaves more pairs than the bound is joined under a condition that says so.
    """
    issuers: dict[str, _Issuer] = defaultdict(_Issuer)
    for each in names:
        if not each.startswith("urn:remit:oidc:") or (parts := parse_name(each)) is None:
            continue
        if parts[2] == "any-subject":
            issuers[parts[1]].forms.append((parts[3], each))
        elif parts[2] == "subject":
            wild = "*" in parts[3] or "?" in parts[3]
            (issuers[parts[1]].patterns if wild else issuers[parts[1]].subjects).append((parts[3], each))
    for known in issuers.values():
        known.subjects.sort()
        known.patterns.sort()
        yield from _covered(known)
        yield from _met(known)


@dataclass(slots=True)
class _Issuer:
    subjects: list[tuple[str, str]] = field(default_factory=list)
    patterns: list[tuple[str, str]] = field(default_factory=list)
    forms: list[tuple[str, str]] = field(default_factory=list)


def _head(pattern: str) -> str:
    return pattern[: min(pattern.find(mark) % (len(pattern) + 1) for mark in "*?")]


def _below(rows: list[tuple[str, str]], head: str) -> tuple[int, int]:
    return bisect_left(rows, (head, "")), bisect_right(rows, (head + "\U0010ffff", ""))


def _covered(known: _Issuer) -> Iterator[Edge]:
    left = MOST
    for pattern, target in known.patterns:
        start, end = _below(known.subjects, _head(pattern))
        for text, source in known.subjects[start : min(end, start + left)]:
            if covers(pattern, text):
                yield _edge(source, target, pattern)
        if end - start > left:
            yield from (_edge(source, target, pattern, seen=False) for _, source in known.subjects[start + left : end])
        left = max(0, left - (end - start))


def _met(known: _Issuer) -> Iterator[Edge]:
    """Any name of the form suffices for a pattern that covers it whole; else it must be one that no rule protects."""
    by_head: dict[str, list[tuple[str, str]]] = defaultdict(list)
    for pattern, target in known.patterns:
        by_head[_head(pattern)].append((pattern, target))
    lengths = sorted({len(head) for head in by_head})
    for form, source in known.forms:
        head = _head(form)
        wider = (by_head.get(head[:length], ()) for length in lengths if length < len(head))
        narrower = (rows[slice(*_below(rows, head))] for rows in (known.patterns, known.subjects))
        for pattern, target in islice(chain.from_iterable(chain(wider, narrower)), MOST):
            if covers(pattern, form):
                yield _edge(source, target, pattern)
            elif meets(pattern, form):
                yield _edge(source, target, pattern, condition="no rule protects such a branch")


def _edge(source: str, target: str, pattern: str, *, seen: bool = True, condition: str = "") -> Edge:
    unseen = "" if seen else f"it matches {pattern[:200]}: there were too many subjects to look at each"
    return Edge(
        source=source, relation=Relation.ASSUME, target=target, evidence=f"the trust policy's {pattern} covers it",
        conditions=tuple(filter(None, (condition, unseen))),
        cut=f"name the subject itself in the trust policy, instead of {pattern[:300]}",
    )  # fmt: skip
