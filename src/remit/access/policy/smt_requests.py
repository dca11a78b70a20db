"""Every request that the decision point may put to the policies, as symbols of the solver.

Symbols are made when an expression first asks for them, so that a question about two facts has two unknowns, and a
counter-example has no more than it needs. What is known of each fact comes with its symbol; each such sentence is one
of `ASSUMPTIONS`, which a proof names.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import z3

from remit.access.policy.decide import LIVE
from remit.access.policy.facts import CLOCK_SKEW_SECONDS
from remit.access.policy.operators import like
from remit.access.policy.schema import (
    ACTION,
    IDENTITY,
    IDENTITY_ATTRIBUTES,
    RESOURCE,
    RESOURCE_ATTRIBUTES,
    STANDARD,
    Kind,
    Vocabulary,
    context_kinds,
    is_action_name,
)
from remit.access.policy.smt_terms import (
    Field,
    Fields,
    Group,
    Ip,
    Term,
    Text,
    Truth,
    Untranslatable,
    all_of,
    any_of,
    code_of,
    implies,
    is_empty,
    is_long,
    negated,
    same_text,
)
from remit.access.policy.smt_text import Pattern, Patterns
from remit.inventory.model import Sensitivity

ASSUMPTIONS: Mapping[str, str] = {
    "live": "the principal is known, `active` or `rotating`, and neither quarantined nor revoked (steps 1 and 2)",
    "fresh": "the decision point has heard from the control plane within its bound (step 3)",
    "grant": "a grant in `context.grant` is the principal's own, in force, unexpired, and what was approved (step 4)",
    "facts": "facts come from the registry and from enforcement points, and have the types of the schema",
    "obligations": "an enforcement point that takes over an obligation fulfils it before it lets the request pass",
    "groups": "membership is transitive: no identity or resource has more than 1024 groups above it",
    "clock": "the decision is made in one of the years 1 to 9999",
    "engine": "the engine decides as Cedar's specification says (held by its own tests)",
}
"""What a proof rests on, beside the policies."""

_SORTS = {Kind.BOOL: "bool", Kind.LONG: "long", Kind.STRING: "string", Kind.STRINGS: "set", Kind.IP: "ip",
          Kind.DATETIME: "datetime"}  # fmt: skip
_USUAL_MS = range(1_767_225_600_000, 1_798_761_600_000)
"""2026: when a counter-example may as well happen."""
_CLOCK_MS = range(-62_135_510_400_000, 253_402_214_400_000)
"""The moments that a clock can tell: the years 1 to 9999, but for a day at each end."""
_THERE = frozenset({"principal.owner", "context.grant", "context.task", "context.attestation_age"})
_TRUE = frozenset({"principal.owner_active", "resource.known", "context.attested"})
_ORDINARY: Mapping[str, str | int] = {
    "principal.name": "urn:remit:example:local:workload:example",
    "principal.kind": "workload",
    "principal.state": "active",
    "principal.owner": "person:ana",
    "principal.tier": 3,
    "principal.risk": 0,
    "principal.blast_radius": 0,
    "resource.name": "example/resource",
    "resource.kind": "example",
    "resource.sensitivity": "internal",
    "context.grant": "gr_example",
    "context.task": "nightly",
    "context.attestation_age": 0,
    "context.sender_constraint": "mtls",
}
"""What an unremarkable request says."""


@dataclass(slots=True)
class Requests:
    """The symbols of one question. What it has made so far, a witness must fill."""

    vocabulary: Vocabulary = STANDARD
    fields: dict[str, Field] = field(default_factory=dict)
    """By path, as `context.claimed.tool`."""
    tags: list[tuple[str, Any]] = field(default_factory=list)
    """(`principal` or `resource`, tag) of each question about a tag."""
    inside: list[tuple[str, Any, Any]] = field(default_factory=list)
    """(type, entity, group) of each question whether one is in the other."""
    actions: dict[str, int] = field(default_factory=dict)
    texts: dict[str, Text] = field(default_factory=dict)
    """Every constant text. A number beyond theirs is a text that nobody named."""
    patterns: list[Pattern] = field(default_factory=list)
    matched: dict[str, Any] = field(default_factory=dict)
    """Each symbol that was held to a pattern."""
    approved: Any = field(default_factory=lambda: z3.Bool("grant.approved"))
    """Whether a person approved the grant."""

    def __post_init__(self) -> None:
        for name in sorted(self.vocabulary.known_actions()):
            self.action_code(name)
        for text in (
            "id_example",
            *LIVE,
            *Sensitivity,
            *(each for each in _ORDINARY.values() if isinstance(each, str)),
        ):
            self.text(str(text))

    # Variables.

    def variable(self, name: str) -> Term:
        match name:
            case "principal":
                return Term("entity", z3.Int("principal.id"), of=IDENTITY, variable=name)
            case "resource":
                # A resource's id is its name.
                return Term("entity", self.field_of("resource", "name").term.value, of=RESOURCE, variable=name)
            case "action":
                return Term("entity", z3.Int("action"), of=ACTION, variable=name)
        assert name == "context", name
        return Term("record", Fields((*_declared(context_kinds()), "claimed"), self._context))

    def literal(self, kind: str, name: str) -> Term:
        return Term("entity", self.action_code(name) if kind == ACTION else self.text(name), of=kind)

    def text(self, text: str) -> Text:
        """The constant, with its number."""
        return self.texts.setdefault(text, Text(text, len(self.texts) + 1))

    def action_code(self, name: str) -> int:
        return self.actions.setdefault(name, len(self.actions))

    def field_of(self, owner: str, name: str) -> Field:
        """An attribute of `principal`, `resource`, `context` or `context.claimed`; what no schema has is absent."""
        path = f"{owner}.{name}"
        made = self.fields.get(path)
        if made is None:
            made = self.fields[path] = self._new_field(owner, name, path)
        return made

    def _new_field(self, owner: str, name: str, path: str) -> Field:
        if path == "context.claimed":
            return Field(True, Term("record", Fields(tuple(self.vocabulary.claims), self._claim)))
        kind, may_lack = self._kinds(owner).get(name, (None, True))
        if kind is None:
            return Field(False, Term("bool", False))
        present = z3.Bool(f"{path}?") if may_lack else True
        return Field(present, Term(_SORTS[kind], _symbol(path, kind)))

    def _context(self, name: str) -> Field:
        return self.field_of("context", name)

    def _claim(self, name: str) -> Field:
        return self.field_of("context.claimed", name)

    def _kinds(self, owner: str) -> Mapping[str, tuple[Kind, bool]]:
        match owner:
            case "principal":
                return _declared(IDENTITY_ATTRIBUTES)
            case "resource":
                return _declared(RESOURCE_ATTRIBUTES)
            case "context":
                return _declared(context_kinds())
        return {name: (kind, True) for name, kind in self.vocabulary.claims.items()}

    # Hierarchy and tags.

    def within(self, one: Term, group: Term) -> Truth:
        """`one in group`, of entities."""
        if one.of != group.of:
            return False
        if one.of == ACTION:
            return self._action_within(one, group)
        same = same_text(one.value, group.value)
        if same is True or one.of not in (IDENTITY, RESOURCE):
            return same
        self.inside.append((one.of, one.value, group.value))
        return any_of(same, above(one.of, one.value, group.value))

    def _action_within(self, one: Term, group: Term) -> Truth:
        """Groups are known, and one level deep; an action that is no variable has none that the engine looks up."""
        if not isinstance(group.value, int) or isinstance(one.value, int):
            raise Untranslatable("`in` of actions, other than of `action` in one that is named")
        by_code = {code: name for name, code in self.actions.items()}
        members = self.vocabulary.actions.get(by_code[group.value], ())
        return any_of(*(same_text(one.value, code) for code in (group.value, *map(self.action_code, members))))

    def has_tag(self, owner: str, tag: Any) -> Truth:
        self.tags.append((owner, tag))
        return tagged(owner)(code_of(tag))

    def tag(self, owner: str, tag: Any) -> Any:
        return tag_of(owner)(code_of(tag))

    def like(self, value: Any, pattern: Pattern) -> Truth:
        """Whether a text matches; a constant one is settled here."""
        if isinstance(value, Text):
            return like(value.text, pattern)
        if len(pattern) == 1:
            return same_text(value, self.text(pattern[0]))
        if not any(pattern):
            return True
        if pattern not in self.patterns:
            self.patterns.append(pattern)
        self.matched[value.sexpr()] = value
        return matches(pattern)(value)

    # What is known.

    def constraints(self) -> list[Any]:
        """What holds of every request, for the symbols made so far. Makes some more."""
        known = [*self._always(), *self._linked()]
        known += [is_long(each.term.value) for path, each in self.fields.items()
                  if each.term.kind == "long" and path != "context.attestation_age"]  # fmt: skip
        known += [_is_told(each.term.value) for each in self.fields.values() if each.term.kind == "datetime"]
        known += [_sound_address(each.term.value) for each in self.fields.values() if each.term.kind == "ip"]
        known += self._transitive()
        known += self._likeness()
        return [each for each in known if each is not True]

    def _always(self) -> Iterator[Truth]:
        action = z3.Int("action")
        yield z3.And(action >= 0, action <= len(self.actions))  # the last one is any that nobody names
        yield from (action != code for name, code in self.actions.items() if not is_action_name(name))
        yield implies(self.approved, self.field_of("context", "grant").present)
        for kind, owner in ((IDENTITY, "principal"), (RESOURCE, "resource")):
            named = self.fields.get(f"{owner}.name")
            if named is not None and owner == "principal":
                yield from (
                    implies(same_text(named.term.value, group), above(kind, one, group))
                    for of, one, group in self.inside
                    if of == kind and not isinstance(one, Text)
                )

    def _linked(self) -> Iterator[Truth]:
        """Facts that hang together."""
        made = set(self.fields)
        if "principal.state" in made:
            yield any_of(*(same_text(self._value("principal.state"), self.text(state)) for state in sorted(LIVE)))
        if "principal.quarantined" in made:
            yield negated(self._value("principal.quarantined"))
        if "principal.owner_active" in made:
            yield implies(self._value("principal.owner_active"), self.field_of("principal", "owner").present)
        if "resource.known" in made:
            unknown, sensitivity = negated(self._value("resource.known")), self.field_of("resource", "sensitivity")
            yield implies(unknown, same_text(sensitivity.term.value, self.text(Sensitivity.RESTRICTED)))
            for name in ("system", "environment", "owner"):
                yield implies(unknown, negated(self.field_of("resource", name).present))
        if made & {"context.exception", "context.exceptions"}:
            none = is_empty(self.field_of("context", "exceptions").term.value)
            yield z3.Bool("context.exception") == z3.Not(none)
            self.field_of("context", "exception")
        if made & {"context.attested_at", "context.attestation_age"}:
            yield from self._attestation()

    def _attestation(self) -> Iterator[Truth]:
        at, age = self.field_of("context", "attested_at"), self.field_of("context", "attestation_age")
        attested, now = self.field_of("context", "attested").term.value, self.seconds()
        passed = now - at.term.value
        yield implies(at.present, all_of(age.present, age.term.value == z3.If(passed > 0, passed, 0)))
        yield implies(all_of(at.present, at.term.value > now + CLOCK_SKEW_SECONDS), negated(attested))

    def seconds(self) -> Any:
        """The moment of the decision in whole seconds."""
        return self.field_of("context", "time").term.value / z3.IntVal(1000)

    def _transitive(self) -> Iterator[Truth]:
        middle = [(kind, one, group) for kind, one, group in self.inside if isinstance(one, Text)]
        for kind, one, group in middle:
            for of, other, _ in [each for each in self.inside if each[0] == kind]:
                inner = any_of(same_text(other, one), above(of, other, one))
                outer = any_of(same_text(other, group), above(of, other, group))
                yield implies(all_of(inner, above(kind, one, group)), outer)

    def _likeness(self) -> Iterator[Truth]:
        """What each text matches: known of constants, and of the others which combinations exist."""
        if not self.patterns:
            return
        for text in list(self.texts.values()):
            yield from (matches(each)(text.code) == like(text.text, each) for each in self.patterns)
        combinations = Patterns(self.patterns).combinations()
        for symbol in self.matched.values() if combinations is not None else ():
            named = any_of(*(symbol == text.code for text in self.texts.values()))
            some = [
                all_of(
                    *(matches(each)(symbol) == is_so for each, is_so in zip(self.patterns, combination, strict=True))
                )
                for combination in sorted(combinations or ())
            ]
            yield any_of(named, *some)

    def hints(self) -> list[Any]:
        """What is usual: a counter-example is looked for among these first, because a person reads it."""
        made = set(self.fields)
        found: list[Any] = [z3.Int("action") < len(self.actions)]
        ranges = {"principal.tier": (0, 3), "principal.risk": (0, 100), "context.attestation_age": (0, 86_400)}
        for path, (least, most) in ranges.items():
            if path in made:
                found += [self._value(path) >= least, self._value(path) <= most]
        if "resource.sensitivity" in made:
            value = self._value("resource.sensitivity")
            found.append(any_of(*(same_text(value, self.text(each)) for each in Sensitivity)))
        if "context.time" in made:
            time = self._value("context.time")
            found += [time >= _USUAL_MS.start, time < _USUAL_MS.stop, time % 1000 == 0]
        if "resource.known" in made:
            found.append(self._value("resource.known"))
        found += [negated(each.present) for path, each in self.fields.items() if path.startswith("principal.partner")]
        return [each for each in found if each is not True]

    def ordinary(self) -> Iterator[Truth]:
        """What an unremarkable request would be like, fact by fact, the ones that matter most first."""
        yield same_text(z3.Int("principal.id"), self.text("id_example"))
        for path, each in self.fields.items():
            if each.present is not True and each.present is not False:
                yield each.present if path in _THERE else negated(each.present)
        for path, each in self.fields.items():
            if each.term.kind == "bool" and not isinstance(each.term.value, bool):
                yield each.term.value if path in _TRUE else negated(each.term.value)
            if each.term.kind in ("string", "long") and path in _ORDINARY:
                wanted = _ORDINARY[path]
                yield each.term.value == (wanted if isinstance(wanted, int) else self.text(wanted).code)
        yield negated(self.approved)
        yield from (negated(above(kind, one, group)) for kind, one, group in self.inside)
        yield from (is_empty(each.term.value) for each in self.fields.values() if each.term.kind == "set")

    def _value(self, path: str) -> Any:
        return self.fields[path].term.value


def _declared(kinds: Mapping[str, Kind]) -> dict[str, tuple[Kind, bool]]:
    """Names without their `?`, each with its kind and whether it may be absent."""
    return {name.removesuffix("?"): (kind, name.endswith("?")) for name, kind in kinds.items()}


def _symbol(path: str, kind: Kind) -> Any:
    match kind:
        case Kind.BOOL:
            return z3.Bool(path)
        case Kind.LONG | Kind.DATETIME | Kind.STRING:
            return z3.Int(path)
        case Kind.STRINGS:
            return Group(None, z3.Array(path, z3.IntSort(), z3.BoolSort()), "string")
        case Kind.IP:
            return Ip(z3.Bool(f"{path}.v4"), z3.BitVec(f"{path}.address", 128), z3.Int(f"{path}.prefix"))


def _is_told(ms: Any) -> Truth:
    """A moment that the decision point's clock can tell."""
    return all_of(ms >= _CLOCK_MS.start, ms < _CLOCK_MS.stop)


def _sound_address(ip: Ip) -> Truth:
    short = all_of(z3.LShR(ip.address, 32) == 0, ip.prefix <= 32)
    return all_of(ip.prefix >= 0, ip.prefix <= 128, implies(ip.v4, short))


def above(kind: str, one: Any, group: Any) -> Any:
    """Whether an entity has another one above it."""
    sort = z3.IntSort()
    return z3.Function(f"in {kind}", sort, sort, z3.BoolSort())(code_of(one), code_of(group))


def tagged(owner: str) -> Any:
    """The predicate of a tag's name: whether it is there."""
    return z3.Function(f"{owner}.hasTag", z3.IntSort(), z3.BoolSort())


def tag_of(owner: str) -> Any:
    """The function from a tag's name to its value."""
    return z3.Function(f"{owner}.getTag", z3.IntSort(), z3.IntSort())


def matches(pattern: Pattern) -> Any:
    """The predicate of a text: whether it matches."""
    return z3.Function(f"like {pattern!r}", z3.IntSort(), z3.BoolSort())
