"""What a token of certain policies may do at a path: OpenBao's rules of priority, evaluated.

The same path in several policies gives what all of them give, unless one denies. Of the paths that match, one alone
counts: the exact one, else the one whose first wildcard stands furthest to the right, then that without `*`, with fewer
`+`, and the longer. Tested against `sys/capabilities`.

Spec: OpenBao documentation, "Policies" (priority matching, capabilities, parameter constraints, templates).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from remit.providers.openbao.inventory import PathRule

ROOT: Final = frozenset({"root"})
_KNOWN: Final = frozenset({"create", "read", "update", "delete", "list", "scan", "sudo", "patch", "deny"})
_DENIED: Final[frozenset[str]] = frozenset()


@dataclass(frozen=True, slots=True, kw_only=True)
class Allowed:
    """What may be done at a path; nothing where it is denied or not named."""

    capabilities: frozenset[str] = _DENIED
    limits: tuple[str, ...] = ()
    """Conditions that were not evaluated."""
    rule: str = ""
    """The path of the policy that decides."""

    def __bool__(self) -> bool:
        return bool(self.capabilities)

    def has(self, *any_of: str) -> bool:
        return self.capabilities == ROOT or bool(self.capabilities.intersection(any_of))


@dataclass(slots=True)
class _Rule:
    path: str
    capabilities: set[str]
    limits: dict[str, None]
    free: set[str]
    """Capabilities that some policy gives without limits."""


class Rights:
    """The rules of one or several policies together. Templated paths are kept apart: whom they mean is not known."""

    def __init__(self, rules: Iterable[PathRule], *, root: bool = False) -> None:
        self._root = root
        self._exact: dict[str, _Rule] = {}
        self._prefixes: dict[str, _Rule] = {}
        self._segments: dict[str, _Rule] = {}
        self.templated: list[PathRule] = []
        for rule in rules:
            if "{{" in rule.path:
                self.templated.append(rule)
            else:
                self._add(rule)
        self._lengths = sorted({len(each) for each in self._prefixes}, reverse=True)

    def _add(self, rule: PathRule) -> None:
        words = set(rule.capabilities) & _KNOWN
        table, key = self._exact, rule.path
        if rule.path == "+" or "/+" in rule.path or rule.path.startswith("+/"):
            table = self._segments
        elif rule.path.endswith("*"):
            table, key = self._prefixes, rule.path[:-1]
        known = table.get(key)
        if known is None:
            known = table[key] = _Rule(path=rule.path, capabilities=set(), limits={}, free=set())
        if "deny" in words or "deny" in known.capabilities:
            known.capabilities, known.free = {"deny"}, set()
            return
        known.capabilities |= words
        if rule.limits:
            known.limits |= dict.fromkeys(rule.limits)
        else:
            known.free |= words

    def at(self, path: str) -> Allowed:
        """What may be done at a path, as it is asked for with a token of these policies alone."""
        if self._root:
            return Allowed(capabilities=ROOT, rule="*")
        # To list `a/` the server also takes what is said of `a`.
        bare = path.removesuffix("/")
        rule = self._exact.get(path) or self._exact.get(bare) or self._wild(path) or self._wild(bare)
        if rule is None or "deny" in rule.capabilities:
            return Allowed(rule=rule.path if rule else "")
        limits = tuple(f"the policy limits what may be written ({each})" for each in rule.limits)
        return Allowed(
            capabilities=frozenset(rule.capabilities), limits=() if rule.capabilities <= rule.free else limits,
            rule=rule.path,
        )  # fmt: skip

    def _wild(self, path: str) -> _Rule | None:
        found: list[tuple[tuple[int, bool, int, int], str, _Rule]] = []
        for length in self._lengths:
            if length <= len(path) and (rule := self._prefixes.get(path[:length])) is not None:
                found.append(((length, False, 0, length), path[:length], rule))
                break
        parts = path.split("/")
        for pattern, rule in self._segments.items():
            bare = pattern.removesuffix("*")
            if _meets(bare.split("/"), parts, prefix=bare != pattern):
                count = bare.split("/").count("+")
                found.append(((pattern.index("+"), bare == pattern, -count, len(bare)), bare, rule))
        return max(found, key=lambda each: (each[0], [-ord(mark) for mark in each[1]]))[2] if found else None


def _meets(wanted: list[str], given: list[str], *, prefix: bool) -> bool:
    if len(given) < len(wanted) or (not prefix and len(given) != len(wanted)):
        return False
    last = len(wanted) - 1
    return all(
        want in ("+", have) or (prefix and at == last and have.startswith(want))
        for at, (want, have) in enumerate(zip(wanted, given, strict=False))
    )


PROBE: Final = "any"
"""A segment that stands for whatever a wildcard lets in."""


def instance_of(pattern: str) -> str:
    """A concrete path that a rule's path covers."""
    bare = pattern.removesuffix("*")
    ends = PROBE if bare != pattern and (not bare or bare.endswith("/")) else ""
    return "/".join(PROBE if each == "+" else each for each in bare.split("/")) + ends


def taken_away(rules: Iterable[PathRule], others: Iterable[PathRule]) -> tuple[str, ...]:
    """Paths of `rules` at which who also has `others` may do less than with `rules` alone: deny and priority."""
    mine = list(rules)
    alone, together = Rights(mine), Rights([*mine, *others])
    lost = []
    for rule in mine:
        path = instance_of(rule.path)
        if "{{" not in path and not alone.at(path).capabilities <= together.at(path).capabilities:
            lost.append(rule.path)
    return tuple(dict.fromkeys(lost))
