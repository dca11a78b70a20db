"""Strategies over the product's own schema: policies that say anything that Cedar can, and situations for them."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

from hypothesis import strategies as st

from remit.access.model import Entity
from remit.access.policy.facts import GrantFacts, IdentityFacts, ResourceFacts
from remit.access.policy.situation import Situation

DEPTH = 3
MOMENT = datetime(2026, 1, 1, 12, tzinfo=UTC)
NAMES = ("a", "b", "ab", "a*b", "job-7", "é\\u{41}")
TEXTS = ("", "a", "b", "ab", "a*b", "job-7", "public", "restricted", "production")
RULES = ("one", "two")
LONGS = (-1, 0, 1, 3, 60, 600, 2**63 - 1, -(2**63))
PATTERNS = ("*", "a*", "*b", "a*b", "*a*", "ab", "", "a\\*b", "job-*", "*b*a", "b*b")
ACTIONS = ("lease", "lease:issue", "read", "write", "orders:refund", "svid:x509")
ADDRESSES = ("10.0.0.1", "10.0.0.0/8", "127.0.0.1", "224.1.2.3", "::1", "ff02::1", "2001:db8::/32", "10.1.2.3/32")
MOMENTS = ("2026-01-01", "2026-01-01T12:00:00Z", "1969-12-31T23:59:59.999Z", "2030-06-01", "2023-02-29")
SPANS = ("1d", "1h30m", "-1ms", "106751991167d", "", "5ms", "600s")
DECIMALS = ("0.0", "1.5", "-0.5", "922337203685477.5807", "1.23456")

Writer = Callable[[int], st.SearchStrategy[str]]


def quote(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


@st.composite
def expressions(draw: st.DrawFn, kind: str, depth: int = 0) -> str:
    """An expression of `kind`; seldom of another, which an untyped engine has to survive too."""
    if draw(st.integers(0, 79)) == 0:
        kind = draw(st.sampled_from(tuple(_LEAVES)))
    writers = _LEAVES[kind] if depth >= DEPTH else _LEAVES[kind] + _WRITERS.get(kind, []) * 2
    return draw(draw(st.sampled_from(writers))(depth + 1))


def _just(strategy: st.SearchStrategy[str]) -> Writer:
    return lambda _: strategy


def _of(template: str, *kinds: str) -> Writer:
    return lambda depth: st.tuples(*(expressions(kind, depth) for kind in kinds)).map(lambda p: template.format(*p))


def _guarded(base: str, *names: str) -> Writer:
    """An optional fact, with its guard or without."""
    return _just(st.sampled_from([f"{base}.{name}" for name in names]))


def _extension(name: str, texts: tuple[str, ...]) -> Writer:
    return _just(st.sampled_from([f"{name}({quote(text)})" for text in texts]))


def _has(depth: int) -> st.SearchStrategy[str]:
    paths = {
        "principal": ("owner", "environment", "service", "tier", "nothing"),
        "resource": ("environment", "system", "kind"),
        "context": ("grant", "task", "scope", "attestation_age", "source_address", "claimed", "attested"),
        "context.claimed": ("tool", "amount", "data_classes", "interactive"),
        "action": ("name",),
    }
    return st.sampled_from([f"({base} has {name})" for base, names in paths.items() for name in names])


def _binary(operators: tuple[str, ...], kind: str) -> Writer:
    return lambda depth: st.tuples(expressions(kind, depth), st.sampled_from(operators), expressions(kind, depth)).map(
        lambda p: f"({p[0]} {p[1]} {p[2]})"
    )


def _sets(*kinds: str) -> Writer:
    return lambda depth: st.sampled_from(kinds).flatmap(
        lambda kind: st.lists(expressions(kind, depth), max_size=3).map(lambda items: f"[{', '.join(items)}]")
    )


_TEXT_SETS: Writer = lambda depth: st.one_of(  # noqa: E731
    st.sampled_from(("context.selectors", "context.exceptions", "context.actors", "context.claimed.data_classes")),
    st.lists(expressions("string", depth), max_size=3).map(lambda items: f"[{', '.join(items)}]"),
)
_ENTITIES = {
    "principal": [f"Remit::Identity::{quote(name)}" for name in NAMES],
    "resource": [f"Remit::Resource::{quote(name)}" for name in NAMES],
    "action": [f"Remit::Action::{quote(name)}" for name in ACTIONS],
}
_LITERALS = [each for group in _ENTITIES.values() for each in group]


def _inside(depth: int) -> st.SearchStrategy[str]:
    several = st.lists(st.sampled_from(_LITERALS), max_size=3).map(lambda items: f"[{', '.join(items)}]")
    group = st.one_of(st.sampled_from(_LITERALS), several)
    return st.tuples(st.sampled_from((*_ENTITIES, *_LITERALS[:2])), group).map(lambda p: f"({p[0]} in {p[1]})")


def _is(depth: int) -> st.SearchStrategy[str]:
    kinds = st.sampled_from(("Remit::Identity", "Remit::Resource", "Other::Thing"))
    group = st.sampled_from(("", *(f" in {each}" for each in _ENTITIES["principal"])))
    return st.tuples(st.sampled_from(("principal", "resource")), kinds, group).map(
        lambda p: f"({p[0]} is {p[1]}{p[2]})"
    )


_LEAVES: dict[str, list[Writer]] = {
    "bool": [
        _just(st.sampled_from(("true", "false", "context.attested", "principal.owner_active", "resource.known",
                               "principal.quarantined", "context.exception", "context.claimed.interactive"))),
        _has,
        _has,
    ],
    "long": [
        _just(st.sampled_from(LONGS).map("({})".format)),
        _guarded("principal", "tier", "risk"),
        _guarded("context", "attestation_age", "attested_at", "claimed.amount"),
    ],
    "string": [
        _just(st.sampled_from(TEXTS).map(quote)),
        _guarded("principal", "kind", "state", "environment", "owner", "name"),
        _guarded("resource", "sensitivity", "environment", "name", "kind"),
        _guarded("context", "task", "scope", "claimed.tool"),
    ],
    "entity": [_just(st.sampled_from(("principal", "resource", *_LITERALS)))],
    "ip": [_extension("ip", (*ADDRESSES, "zz")), _guarded("context", "source_address")],
    "decimal": [_extension("decimal", DECIMALS)],
    "datetime": [_extension("datetime", MOMENTS), _guarded("context", "time")],
    "duration": [_extension("duration", SPANS)],
    "set": [_TEXT_SETS],
    "record": [_just(st.sampled_from(("context.claimed", "{a: 1}", "{a: 1, b: true}")))],
}  # fmt: skip


def _over(depth: int) -> st.SearchStrategy[str]:
    """Sums near the end of 64 bits, which some tiers and amounts carry over it."""
    numbers = st.sampled_from(("9223372036854775807", "(-9223372036854775807)", "9223372036854775806"))
    terms = st.sampled_from(("principal.tier", "principal.risk", "context.attestation_age"))
    signs = st.sampled_from(("+", "-", "*"))
    return st.tuples(terms, signs, numbers).map(lambda p: f"({p[0]} {p[1]} {p[2]} > 0)")


def _missing(depth: int) -> st.SearchStrategy[str]:
    """An optional fact on either side of a junction, with or without its guard."""
    facts = {"context.task": '"a"', "principal.environment": '"a"', "context.attestation_age": "60",
             "principal.owner": '"a"', "context.claimed.amount": "3"}  # fmt: skip
    asked = st.sampled_from(sorted(facts)).map(lambda fact: f"{fact} == {facts[fact]}")
    guard = st.sampled_from(("context has task", "principal has environment", "principal has owner", "context.attested",
                             "principal.owner_active"))  # fmt: skip
    return st.tuples(guard, st.sampled_from(("&&", "||")), asked).flatmap(
        lambda p: st.sampled_from((f"({p[0]} {p[1]} {p[2]})", f"({p[2]} {p[1]} {p[0]})"))
    )


def _pairs(template: str) -> Writer:
    return lambda depth: st.sampled_from(tuple(_LEAVES)).flatmap(lambda kind: _of(template, kind, kind)(depth))


_WRITERS: dict[str, list[Writer]] = {
    "bool": [
        _of("({0} && {1})", "bool", "bool"),
        _of("({0} || {1})", "bool", "bool"),
        _of("(!{0})", "bool"),
        _over,
        _missing,
        _of("(if {0} then {1} else {2})", "bool", "bool", "bool"),
        _pairs("({0} == {1})"),
        _pairs("({0} != {1})"),
        _binary(("<", "<=", ">", ">="), "long"),
        _binary(("<", "<=", ">", ">="), "datetime"),
        _binary(("<", ">="), "duration"),
        _inside,
        _is,
        lambda depth: st.tuples(expressions("string", depth), st.sampled_from(PATTERNS)).map(
            lambda p: f'({p[0]} like "{p[1]}")'
        ),
        _of("{0}.contains({1})", "set", "string"),
        _of("{0}.containsAll({1})", "set", "set"),
        _of("{0}.containsAny({1})", "set", "set"),
        _of("{0}.isEmpty()", "set"),
        lambda depth: _sets("long", "string", "entity", "bool", "datetime")(depth).flatmap(
            lambda group: expressions("long", depth).map(lambda item: f"{group}.contains({item})")
        ),
        lambda depth: st.sampled_from(("principal", "resource")).flatmap(
            lambda who: expressions("string", depth).map(lambda tag: f"{who}.hasTag({tag})")
        ),
        lambda depth: st.tuples(
            expressions("ip", depth), st.sampled_from(("isIpv4()", "isIpv6()", "isLoopback()", "isMulticast()"))
        ).map(".".join),
        lambda depth: st.tuples(expressions("ip", depth), st.sampled_from(ADDRESSES)).map(
            lambda p: f"{p[0]}.isInRange(ip({quote(p[1])}))"
        ),
        lambda depth: st.tuples(
            expressions("decimal", depth), st.sampled_from(("lessThan", "greaterThanOrEqual")),
            expressions("decimal", depth),
        ).map(lambda p: f"{p[0]}.{p[1]}({p[2]})"),
    ],
    "long": [
        _binary(("+", "-", "*"), "long"),
        _of("(-{0})", "long"),
        _of("(if {0} then {1} else {2})", "bool", "long", "long"),
        lambda depth: st.tuples(
            expressions("duration", depth), st.sampled_from(("Milliseconds", "Seconds", "Minutes", "Hours", "Days"))
        ).map(lambda p: f"{p[0]}.to{p[1]}()"),
    ],
    "string": [
        _of("(if {0} then {1} else {2})", "bool", "string", "string"),
        lambda depth: expressions("string", depth).map(lambda tag: f"principal.getTag({tag})"),
    ],
    "ip": [_of("(if {0} then {1} else {2})", "bool", "ip", "ip")],
    "datetime": [_of("{0}.offset({1})", "datetime", "duration"), _of("{0}.toDate()", "datetime")],
    "duration": [_of("{0}.durationSince({1})", "datetime", "datetime"), _of("{0}.toTime()", "datetime")],
    "set": [_of("(if {0} then {1} else {2})", "bool", "set", "set")],
}  # fmt: skip


def _scope(variable: str) -> st.SearchStrategy[str]:
    named = st.sampled_from(_ENTITIES[variable])
    forms = [st.just(variable), named.map(lambda each: f"{variable} == {each}"),
             named.map(lambda each: f"{variable} in {each}")]  # fmt: skip
    if variable == "action":
        forms.append(st.lists(named, min_size=1, max_size=3).map(lambda each: f"action in [{', '.join(each)}]"))
    else:
        kind = "Remit::Identity" if variable == "principal" else "Remit::Resource"
        forms += [st.just(f"{variable} is {kind}"), named.map(lambda each: f"{variable} is {kind} in {each}")]
    return st.one_of(forms)


@st.composite
def policies(draw: st.DrawFn) -> str:
    """One policy, of any scope now and then; most take every request, so that their clauses are asked."""
    scoped = draw(st.integers(0, 3)) == 0
    scope = ", ".join(
        draw(_scope(variable)) if scoped else variable for variable in ("principal", "action", "resource")
    )
    clauses = draw(st.lists(st.tuples(st.sampled_from(("when", "unless")), expressions("bool")), max_size=2))
    effect = draw(st.sampled_from(("permit", "forbid")))
    return f"{effect} ({scope}) " + " ".join(f"{word} {{ {body} }}" for word, body in clauses) + ";"


_texts = st.sampled_from(TEXTS)


@st.composite
def situations(draw: st.DrawFn) -> Situation:
    """A request that comes as far as the policies, with facts that the registry and enforcement points can have."""
    owner = draw(st.sampled_from((None, "a", "person:ana")))
    identity = IdentityFacts(
        id=draw(st.sampled_from(("id_1", *NAMES))), name=draw(st.sampled_from(("n", *NAMES))),
        kind=draw(st.sampled_from(("workload", "ai-agent", "a"))), state=draw(st.sampled_from(("active", "rotating"))),
        owner=owner, owner_active=owner is not None and draw(st.booleans()),
        tier=draw(st.sampled_from((None, 0, 1, 3))), risk=draw(st.sampled_from((0, 60, 100))),
        environment=draw(st.sampled_from((None, "production", "a"))),
        names=tuple(draw(st.lists(st.sampled_from(NAMES), max_size=2))),
        labels=tuple(sorted(draw(st.dictionaries(_texts, _texts, max_size=2)).items())),
    )  # fmt: skip
    resource = Entity(type="thing", id=draw(st.sampled_from(NAMES)))
    known = ResourceFacts(
        name=resource.id, kind=draw(st.sampled_from(("thing", "a"))),
        sensitivity=draw(st.sampled_from(("public", "restricted"))),
        environment=draw(st.sampled_from((None, "production", "b"))),
        parents=tuple(draw(st.lists(st.sampled_from(NAMES), max_size=2))),
        labels=tuple(sorted(draw(st.dictionaries(_texts, _texts, max_size=1)).items())),
    )  # fmt: skip
    seconds = int(MOMENT.timestamp())
    optional: dict[str, st.SearchStrategy[Any]] = {
        "attested": st.booleans(), "task": _texts, "scope": _texts, "selectors": st.lists(_texts, max_size=2),
        "attested_at": st.sampled_from((seconds - 600, seconds - 60, seconds + 30, seconds + 3600)),
        "source_address": st.sampled_from(ADDRESSES), "actors": st.lists(_texts, max_size=2),
        "grant": st.just("gr_1"), "step_up_at": st.just(seconds - 30),
    }  # fmt: skip
    proven = draw(st.fixed_dictionaries({}, optional=optional))
    claimed = draw(
        st.fixed_dictionaries(
            {}, optional={"tool": _texts, "amount": st.sampled_from(LONGS), "interactive": st.booleans(),
                          "data_classes": st.lists(_texts, max_size=2)},
        )
    )  # fmt: skip
    grant = GrantFacts(id="gr_1", identity=identity.id, digest="d", approved=draw(st.sampled_from(((), ("d",)))),
                       usable=True, expires=MOMENT + timedelta(hours=1))  # fmt: skip
    return Situation(
        identity=identity, action=draw(st.sampled_from(ACTIONS)), resource=resource,
        known=draw(st.sampled_from((known, None))), proven=proven, claimed=claimed,
        grant=grant if "grant" in proven else None,
        exceptions=tuple(draw(st.lists(st.sampled_from(RULES), unique=True, max_size=2))), at=MOMENT,
    )  # fmt: skip
