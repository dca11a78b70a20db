"""Strategies that write Cedar: policies over the whole language, well typed most of the time, and requests for them."""

from __future__ import annotations

from hypothesis import strategies as st

from remit.access.policy.entities import EntityTable, EntityView
from remit.access.policy.extensions import Datetime, Decimal, Duration, parse_ip
from remit.access.policy.values import CedarSet, Uid

TYPES = ("Remit::Identity", "Remit::Resource")
IDS = ("a", "b", "g", "h")
ATTRIBUTES = ("flag", "tier", "name", "tags", "record", "peer", "addr", "price", "when", "span")
TEXTS = ("", "a", "ab", "a*b", "ünï", "😀", "job-7", "\\")
LONGS = (0, 1, -1, 2, 3, 7, 60, 2**63 - 1, -(2**63) + 1, -(2**63))
MAX_DEPTH = 4

_uids = st.builds(Uid, st.sampled_from(TYPES), st.sampled_from(IDS))


def quote(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def entity(uid: Uid) -> str:
    return f"{uid.type}::{quote(uid.id)}"


_VARIABLES = st.sampled_from(("principal", "resource"))
_PATTERNS = st.lists(st.sampled_from(("a", "b", "*", "\\*", "ü", "job-", "\\\\")), max_size=4).map("".join)
_IPS = st.sampled_from(
    ("10.0.0.1", "10.0.0.0/8", "10.1.0.0/16", "127.0.0.1", "224.0.0.1", "::1", "ff00::/8", "zz", "1.2.3.4/33")
)
_DECIMALS = st.sampled_from(
    ("0.0", "1.5", "1.50", "-0.5", "922337203685477.5807", "922337203685477.5808", "1.23456", "1")
)
_MOMENTS = st.sampled_from(
    (
        "2024-02-29",
        "2023-02-29",
        "2024-02-29T12:00:00Z",
        "2024-02-29T12:00:00.5Z",
        "1969-12-31T23:59:59.999Z",
        "2024-01-01T00:00:00.000+0130",
        "0000-01-01",
        "9999-12-31T23:59:59Z",
    )
)
_SPANS = st.sampled_from(("1d", "1h30m", "-1ms", "106751991167d", "106751991168d", "1m1d", "", "5ms", "-"))


@st.composite
def expressions(draw: st.DrawFn, kind: str, depth: int = 0) -> str:
    """An expression meant to be of `kind`; now and then of another, so that type errors are met too."""
    if draw(st.integers(0, 49)) == 0:
        kind = draw(st.sampled_from(tuple(_WRITERS)))
    writers = _LEAVES[kind] if depth >= MAX_DEPTH else _WRITERS[kind] if depth == 0 else _LEAVES[kind] + _WRITERS[kind]
    return draw(draw(st.sampled_from(writers))(depth + 1))


def _of(kind: str, depth: int) -> st.SearchStrategy[str]:
    return expressions(kind, depth)


def _join(template: str, *kinds: str):  # type: ignore[no-untyped-def]
    """A writer that fills `{0}`, `{1}`, … with expressions of `kinds`."""
    return lambda depth: st.tuples(*(_of(kind, depth) for kind in kinds)).map(lambda parts: template.format(*parts))


def _just(strategy: st.SearchStrategy[str]):  # type: ignore[no-untyped-def]
    return lambda _depth: strategy


def _attribute(*names: str):  # type: ignore[no-untyped-def]
    bases = st.sampled_from(
        ("principal", "resource", "context", "context.record", "principal.peer", 'Remit::Identity::"a"')
    )
    return _just(st.tuples(bases, st.sampled_from(names)).map(".".join))


def _extension(name: str, texts: st.SearchStrategy[str]):  # type: ignore[no-untyped-def]
    return _just(texts.map(lambda text: f"{name}({quote(text)})"))


_LEAVES = {
    "bool": [_just(st.sampled_from(("true", "false"))), _attribute("flag")],
    "long": [_just(st.sampled_from(LONGS).map("({})".format)), _attribute("tier")],
    "string": [_just(st.sampled_from(TEXTS).map(quote)), _attribute("name")],
    "entity": [_just(_VARIABLES), _just(_uids.map(entity)), _attribute("peer")],
    "set": [_attribute("tags"), _just(st.just("[]"))],
    "record": [_just(st.just("context")), _attribute("record")],
    "ip": [_extension("ip", _IPS), _attribute("addr")],
    "decimal": [_extension("decimal", _DECIMALS), _attribute("price")],
    "datetime": [_extension("datetime", _MOMENTS), _attribute("when")],
    "duration": [_extension("duration", _SPANS), _attribute("span")],
}
_KINDS = tuple(_LEAVES)


def _any_pair(template: str):  # type: ignore[no-untyped-def]
    return lambda depth: st.sampled_from(_KINDS).flatmap(lambda kind: _join(template, kind, kind)(depth))


def _choice(kind: str):  # type: ignore[no-untyped-def]
    return _join("(if {0} then {1} else {2})", "bool", kind, kind)


def _members(kind: str):  # type: ignore[no-untyped-def]
    return lambda depth: st.lists(_of(kind, depth), max_size=3).map(lambda items: f"[{', '.join(items)}]")


_ORDER = st.sampled_from(("<", "<=", ">", ">="))
_PREDICATES = ("isIpv4()", "isIpv6()", "isLoopback()", "isMulticast()")
_DECIMAL_ORDER = ("lessThan", "lessThanOrEqual", "greaterThan", "greaterThanOrEqual")


def _ordered(kind: str):  # type: ignore[no-untyped-def]
    return lambda depth: st.tuples(_of(kind, depth), _ORDER, _of(kind, depth)).map(lambda p: f"({p[0]} {p[1]} {p[2]})")


_WRITERS = {
    "bool": [
        _join("({0} && {1})", "bool", "bool"),
        _join("({0} || {1})", "bool", "bool"),
        _join("(!{0})", "bool"),
        _any_pair("({0} == {1})"),
        _any_pair("({0} != {1})"),
        _ordered("long"),
        _ordered("datetime"),
        _ordered("duration"),
        _join("({0} in {1})", "entity", "entity"),
        lambda depth: st.tuples(_of("entity", depth), _members("entity")(depth)).map(lambda p: f"({p[0]} in {p[1]})"),
        lambda depth: st.tuples(_of("entity", depth), st.sampled_from(TYPES)).map(lambda p: f"({p[0]} is {p[1]})"),
        lambda depth: st.tuples(_of("entity", depth), st.sampled_from(TYPES), _of("entity", depth)).map(
            lambda p: f"({p[0]} is {p[1]} in {p[2]})"
        ),
        lambda depth: st.tuples(_of("entity", depth), st.sampled_from((*ATTRIBUTES, "peer.name", "record.flag"))).map(
            lambda p: f"({p[0]} has {p[1]})"
        ),
        lambda depth: st.tuples(_of("record", depth), st.sampled_from((*ATTRIBUTES, "record.record.flag"))).map(
            lambda p: f"({p[0]} has {p[1]})"
        ),
        lambda depth: st.tuples(_of("string", depth), _PATTERNS).map(lambda p: f'({p[0]} like "{p[1]}")'),
        _join("({0}.contains({1}))", "set", "string"),
        _join("({0}.contains({1}))", "set", "long"),
        _join("({0}.containsAll({1}))", "set", "set"),
        _join("({0}.containsAny({1}))", "set", "set"),
        _join("({0}.isEmpty())", "set"),
        _join("({0}.hasTag({1}))", "entity", "string"),
        lambda depth: st.tuples(_of("ip", depth), st.sampled_from(_PREDICATES)).map(".".join),
        _join("{0}.isInRange({1})", "ip", "ip"),
        lambda depth: st.tuples(_of("decimal", depth), st.sampled_from(_DECIMAL_ORDER), _of("decimal", depth)).map(
            lambda p: f"{p[0]}.{p[1]}({p[2]})"
        ),
        _choice("bool"),
    ],
    "long": [
        _join("({0} + {1})", "long", "long"),
        _join("({0} - {1})", "long", "long"),
        _join("({0} * {1})", "long", "long"),
        _join("(-{0})", "long"),
        lambda depth: st.tuples(
            _of("duration", depth), st.sampled_from(("Milliseconds", "Seconds", "Minutes", "Hours", "Days"))
        ).map(lambda p: f"{p[0]}.to{p[1]}()"),
        _choice("long"),
    ],
    "string": [_join("{0}.getTag({1})", "entity", "string"), _choice("string")],
    "entity": [_choice("entity")],
    "set": [
        _members("string"),
        _members("long"),
        _members("entity"),
        _members("bool"),
        _members("set"),
        _choice("set"),
    ],
    "record": [
        _join("{{flag: {0}, tier: {1}}}", "bool", "long"),
        _join("{{name: {0}, record: {1}}}", "string", "record"),
    ],
    "ip": [_choice("ip")],
    "decimal": [_choice("decimal")],
    "datetime": [
        _join("{0}.offset({1})", "datetime", "duration"),
        _join("{0}.toDate()", "datetime"),
    ],
    "duration": [_join("{0}.durationSince({1})", "datetime", "datetime"), _join("{0}.toTime()", "datetime")],
}


@st.composite
def policies(draw: st.DrawFn) -> str:
    """One policy, scope and clauses."""
    effect = draw(st.sampled_from(("permit", "forbid")))
    scopes = [draw(_scope(name)) for name in ("principal", "resource")]
    action = draw(
        st.sampled_from(
            (
                "action",
                "action",
                "action",
                'action == Remit::Action::"use"',
                'action in Remit::Action::"all"',
                'action in [Remit::Action::"use", Remit::Action::"all"]',
                'action == Remit::Action::"other"',
            )
        )
    )
    clauses = draw(
        st.lists(st.tuples(st.sampled_from(("when", "unless")), expressions("bool")), min_size=1, max_size=2)
    )
    body = " ".join(f"{word} {{ {expression} }}" for word, expression in clauses)
    return f"{effect}({scopes[0]}, {action}, {scopes[1]}) {body};"


def _scope(variable: str) -> st.SearchStrategy[str]:
    name = entity
    return st.one_of(
        *(st.just(variable) for _ in range(8)),
        _uids.map(lambda uid: f"{variable} == {name(uid)}"),
        _uids.map(lambda uid: f"{variable} in {name(uid)}"),
        st.sampled_from(TYPES).map(lambda kind: f"{variable} is {kind}"),
        st.tuples(st.sampled_from(TYPES), _uids).map(lambda p: f"{variable} is {p[0]} in {name(p[1])}"),
    )


_FIELDS = {
    "flag": st.booleans(),
    "tier": st.sampled_from(LONGS),
    "name": st.sampled_from(TEXTS),
    "tags": st.lists(st.sampled_from((*TEXTS[:3], 1, True)), max_size=3).map(CedarSet),
    "peer": _uids,
    "addr": st.sampled_from(("10.0.0.1", "10.0.0.0/8", "::1")).map(parse_ip),
    "price": st.sampled_from((0, 15_000, -5_000, 2**63 - 1)).map(Decimal),
    "when": st.sampled_from((0, 1_709_208_000_000, -1)).map(Datetime),
    "span": st.sampled_from((0, 3_600_000, -(2**63))).map(Duration),
}


def records(depth: int = 0) -> st.SearchStrategy[dict[str, object]]:
    fields = dict(_FIELDS)
    if depth < 2:
        fields["record"] = st.deferred(lambda: records(depth + 1))  # type: ignore[assignment]
    whole = st.fixed_dictionaries(fields)
    return st.one_of(whole, whole, whole, st.fixed_dictionaries({}, optional=fields))  # type: ignore[return-value]


@st.composite
def worlds(draw: st.DrawFn) -> EntityTable:
    """Some of the entities exist; the hierarchy is closed and free of cycles."""
    rows: dict[Uid, EntityView] = {}
    order = {name: rank for rank, name in enumerate(IDS)}
    for uid in (Uid(kind, name) for kind in TYPES for name in reversed(IDS)):
        if draw(st.integers(0, 4)):
            above = [up for up in rows if order[up.id] > order[uid.id] and draw(st.integers(0, 3)) == 0]
            closure = frozenset((uid, *above, *(far for up in above for far in rows[up].ancestors)))
            tags = draw(st.dictionaries(st.sampled_from(TEXTS[:3]), st.sampled_from(TEXTS), max_size=2))
            rows[uid] = EntityView(uid=uid, ancestors=closure, attributes=draw(records()), tags=tags)
    return EntityTable(rows)


uids = _uids
