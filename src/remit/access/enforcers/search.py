"""Searches: for whom, on what, or what? The same decisions as evaluations, over what the registry knows.

Candidates come from the scope index: where every permit that could apply names its principals (or resources), only
these are asked about. Each page does a bounded amount of work and gives way to other requests on the way; a page that
ran out of its share before the candidates did says where to go on, whether or not it found anything.

Spec: OpenID AuthZEN Authorization API 1.0, §8.
"""

from __future__ import annotations

import asyncio
from bisect import bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Final

from msgspec.structs import replace

from remit.access.enforcers.asking import covers, require_action, require_resource
from remit.access.enforcers.model import Asker, Enforcer
from remit.access.enforcers.ports import DecisionEngine
from remit.access.model import Effect, Request
from remit.access.policy.codegen import read_uid
from remit.access.policy.compile import CompiledPolicies
from remit.access.policy.decide import SUBJECT_TYPES
from remit.access.policy.facts import IdentityFacts, ResourceFacts
from remit.access.policy.schema import STANDARD, Vocabulary, actions_named
from remit.access.policy.values import Uid
from remit.access.snapshot import Snapshot
from remit.kernel.errors import Denied, Unavailable

MAX_ASKED: Final = 5_000
"""Candidates about which one page asks the decision point."""
MAX_AT_ONCE: Final = 4
"""Searches that run at the same time: they are for people and lists, and evaluations go first."""
_TURN: Final = 100
_LARGE: Final = 20_000


class Sought(StrEnum):
    """What a search looks for."""

    SUBJECT = "subject"
    RESOURCE = "resource"
    ACTION = "action"


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """A search: `request` holds what is given; of what is sought, it holds the type alone (an empty name)."""

    sought: Sought
    request: Request


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """One page: names in a fixed order. `after` is where the next page begins; `None` when there is none."""

    names: tuple[str, ...]
    after: str | None


@dataclass(slots=True)
class _Known:
    """What the registry holds, in order; made anew when it changed."""

    identities: Any = None
    resources: Any = None
    policies: CompiledPolicies | None = None
    ids: Sequence[str] = ()
    grouped: Sequence[str] = ()
    """Identities that are members of something: a scope may reach them by it."""
    by_kind: dict[str, list[str]] = field(default_factory=dict)
    nested: dict[str, list[str]] = field(default_factory=dict)
    actions: Sequence[str] = ()


class Searches:
    """Answers searches by asking `engine` about candidates. Belongs to the event loop."""

    def __init__(self, engine: DecisionEngine, *, vocabulary: Vocabulary = STANDARD) -> None:
        self._engine = engine
        self._vocabulary = vocabulary
        self._known = _Known()
        self._lock = asyncio.Lock()
        self._running = 0

    async def page(self, question: Question, asker: Asker, *, after: str, limit: int) -> Found:
        """The next `limit` names behind `after` (empty: from the beginning) for which the answer would be yes.

        Raises `Denied` (`access.enforcer.foreign`, `.bounds`) when `asker` may not ask this, `Unavailable`
        (`access.search.busy`) when too many searches run.
        """
        if self._running >= MAX_AT_ONCE:
            raise Unavailable("access.search.busy", "too many searches run already", next_step="try again in a moment")
        self._running += 1
        try:
            self._require(question, asker)
            candidates = await self._candidates(question, asker)
            return await self._ask(question, asker, candidates, after, limit)
        finally:
            self._running -= 1

    def _require(self, question: Question, asker: Asker) -> None:
        """Refuse a question that the asker could not ask of any candidate, before anything is looked at."""
        given, enforcer = question.request, asker.enforcer
        if enforcer is not None:
            _require_bounds(enforcer, question, self._engine.snapshot)
        if enforcer is not None or asker.administrates or question.sought is Sought.SUBJECT:
            if enforcer is None and not asker.administrates and not asker.identity:
                raise _nobody(asker)
            return
        facts = self._engine.snapshot.identity(given.subject.id)
        if facts is None or facts.id != asker.identity:
            raise _nobody(asker)

    async def _ask(self, question: Question, asker: Asker, candidates: Sequence[str], after: str, limit: int) -> Found:
        names: list[str] = []
        at = bisect_right(candidates, after) if after else 0
        for asked, candidate in enumerate(candidates[at : at + MAX_ASKED]):
            if len(names) >= limit:
                return Found(names=tuple(names), after=candidates[at + asked - 1])
            if asked % _TURN == _TURN - 1:
                await asyncio.sleep(0)
            name = self._name_if_allowed(question, asker, candidate)
            if name:
                names.append(name)
        end = at + MAX_ASKED
        return Found(names=tuple(names), after=candidates[end - 1] if end < len(candidates) else None)

    def _name_if_allowed(self, question: Question, asker: Asker, candidate: str) -> str:
        """How a result is called; empty when the answer is no, or not this asker's to know."""
        given, snapshot = question.request, self._engine.snapshot
        match question.sought:
            case Sought.SUBJECT:
                facts = snapshot.identities.get(candidate)
                name = _name_of_identity(facts) if facts is not None else ""
                request = replace(given, subject=replace(given.subject, id=candidate))
            case Sought.RESOURCE:
                name = candidate.removeprefix(f"{given.resource.type}/")
                request = replace(given, resource=replace(given.resource, id=name))
                if asker.enforcer is not None and not covers(asker.enforcer, snapshot, given.resource.type, name):
                    return ""
            case Sought.ACTION:
                name, request = candidate, replace(given, action=candidate)
                if asker.enforcer is not None and not asker.enforcer.covers_action(candidate):
                    return ""
        return name if name and self._engine.would_allow(request, asker) else ""

    # Candidates.

    async def _candidates(self, question: Question, asker: Asker) -> Sequence[str]:
        given, snapshot = question.request, self._engine.snapshot
        if given.subject.type not in SUBJECT_TYPES:
            return ()
        if question.sought is not Sought.SUBJECT and snapshot.identity(given.subject.id) is None:
            return ()
        if question.sought is not Sought.RESOURCE and snapshot.resource(given.resource.type, given.resource.id) is None:
            return ()
        known = await self._read(snapshot)
        match question.sought:
            case Sought.SUBJECT:
                if asker.enforcer is None and not asker.administrates:
                    return (asker.identity,)
                scopes = permit_scopes(snapshot.policies, self._profile(given.action), "principal")
                if scopes is None:
                    return known.ids
                named = {facts.id for uid in scopes if (facts := snapshot.identity(uid.id)) is not None}
                return sorted({*named, *known.grouped})
            case Sought.RESOURCE:
                kind = given.resource.type
                scopes = permit_scopes(snapshot.policies, self._profile(given.action), "resource")
                if scopes is None:
                    return known.by_kind.get(kind, ())
                here = {
                    found.name for uid in scopes if (found := snapshot.resource(kind, uid.id)) and found.kind == kind
                }
                return sorted({*here, *known.nested.get(kind, ())})
            case Sought.ACTION:
                return known.actions

    def _profile(self, action: str) -> frozenset[str]:
        return frozenset({action, *self._vocabulary.groups_of(action)})

    async def _read(self, snapshot: Snapshot) -> _Known:
        """What there is, as of this snapshot; a large registry is put in order beside the loop."""
        async with self._lock:
            known = self._known
            if known.policies is not snapshot.policies:
                known.policies, known.actions = snapshot.policies, self._actions(snapshot.policies)
            if known.resources is not snapshot.resources:
                known.by_kind, known.nested = await asyncio.to_thread(_read_resources, snapshot)
                known.resources = snapshot.resources
            if known.identities is not snapshot.identities:
                known.ids, known.grouped = (
                    await asyncio.to_thread(_read_identities, snapshot)
                    if len(known.ids) > _LARGE or not known.ids
                    else _read_identities(snapshot)
                )
                known.identities = snapshot.identities
            return known

    def _actions(self, policies: CompiledPolicies) -> Sequence[str]:
        """Every action that the vocabulary or a policy names; a group is none that anybody does."""
        named = {name for policy in policies.policies for name in actions_named(policy.source.est["action"])}
        return sorted((named | self._vocabulary.known_actions()) - self._vocabulary.actions.keys())


def permit_scopes(policies: CompiledPolicies, profile: frozenset[str], side: str) -> frozenset[Uid] | None:
    """The entities that the permits of an action name as their `principal` or `resource`; None where one names none."""
    found: set[Uid] = set()
    for policy in policies.policies:
        if policy.effect is not Effect.PERMIT or not _applies(policy.source.est["action"], profile):
            continue
        constraint = policy.source.est[side]
        raw = constraint.get("entity") or constraint.get("in", {}).get("entity")
        if raw is None or constraint["op"] not in ("==", "in", "is"):
            return None
        found.add(read_uid(raw))
    return frozenset(found)


def _applies(constraint: Any, profile: frozenset[str]) -> bool:
    if constraint["op"] not in ("==", "in"):
        return True
    raw = constraint["entities"] if "entities" in constraint else [constraint["entity"]]
    return any(read_uid(each).id in profile for each in raw)


def _read_identities(snapshot: Snapshot) -> tuple[Sequence[str], Sequence[str]]:
    listed = [(name, bool(facts.groups)) for name, facts in snapshot.identities.items()]
    return sorted(name for name, _ in listed), [name for name, grouped in listed if grouped]


def _read_resources(snapshot: Snapshot) -> tuple[dict[str, list[str]], dict[str, list[str]]]:
    by_kind: dict[str, list[str]] = {}
    nested: dict[str, list[str]] = {}
    for name, facts in snapshot.resources.items():
        by_kind.setdefault(facts.kind, []).append(name)
        if facts.parents:
            nested.setdefault(facts.kind, []).append(name)
    for names in by_kind.values():
        names.sort()
    return by_kind, nested


def _name_of_identity(facts: IdentityFacts) -> str:
    """The name by which an enforcement point meets it: its SPIFFE ID where it has one."""
    return _first_spiffe_id(facts.names) or facts.name


def _first_spiffe_id(names: Iterable[str]) -> str:
    return next((name for name in names if name.startswith("spiffe://")), "")


def _require_bounds(enforcer: Enforcer, question: Question, snapshot: Snapshot) -> None:
    """Of what is given; what is sought is filtered."""
    given = question.request
    if question.sought is not Sought.ACTION:
        require_action(enforcer, given.action)
    if question.sought is not Sought.RESOURCE:
        require_resource(enforcer, snapshot, given.resource.type, given.resource.id)


def _nobody(asker: Asker) -> Denied:
    return Denied(
        "access.enforcer.foreign",
        f"`{asker.name}` is no registered enforcement point, and searches about another than itself",
        next_step="search about yourself, or have it registered: `remit enforcer add NAME --spiffe-id ID`",
    )


__all__ = ["MAX_ASKED", "Found", "Question", "ResourceFacts", "Searches", "Sought", "permit_scopes"]
