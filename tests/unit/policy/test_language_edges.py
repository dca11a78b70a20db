"""Edges of the Cedar language, one by one: what the answer is, and that the reference engine agrees."""

from __future__ import annotations

import pytest

from remit.access.policy.compile import compile_policies
from remit.access.policy.entities import EntityTable, EntityView, missing
from remit.access.policy.extensions import parse_ip
from remit.access.policy.reference import ReferenceEngine
from remit.access.policy.values import CedarSet, Uid

PRINCIPAL = Uid("Remit::Identity", "p")
GROUP = Uid("Remit::Identity", "g")
FAR = Uid("Remit::Identity", "far")
WORLD = EntityTable(
    {
        PRINCIPAL: EntityView(
            uid=PRINCIPAL,
            ancestors=frozenset((PRINCIPAL, GROUP, FAR)),
            attributes={"name": "job*7", "tier": 2, "record": {"a": {"b": 1}}, "boss": GROUP, "ghost": Uid("X", "x")},
            tags={"team": "pay"},
        ),
        GROUP: EntityView(uid=GROUP, ancestors=frozenset((GROUP, FAR)), attributes={"name": "g"}),
    }
)
CONTEXT = {
    "one": 1,
    "yes": True,
    "text": "a\nb",
    "mixed": CedarSet((1, True, "1", CedarSet(()))),
    "addr": parse_ip("10.1.2.3"),
    "claimed": {"tool": "rm -rf"},
}

EDGES = [
    # equality is total and never confuses types
    ("1 == true", "false"),
    ("context.one == context.yes", "false"),
    ("context.one == 1", "true"),
    ("context.yes == 1", "false"),
    ('1 == "1"', "false"),
    ("[1] == [true]", "false"),
    ("[1, 2, 2] == [2, 1]", "true"),
    ("{a: 1, b: true} == {b: true, a: 1}", "true"),
    ("{a: 1} == {a: true}", "false"),
    ("{a: [1, true]} == {a: [true, 1]}", "true"),
    ("principal == context.claimed", "false"),
    ('principal == Remit::Resource::"p"', "false"),
    ("context.one != context.missing", "error"),
    # longs
    ("9223372036854775807 + 1 == 0", "error"),
    ("-9223372036854775808 - 1 == 0", "error"),
    ("-(-9223372036854775808) == 0", "error"),
    ("3037000500 * 3037000500 == 0", "error"),
    ("-9223372036854775808 * -1 == 0", "error"),
    ("context.one + context.yes == 2", "error"),
    ("context.one < true", "error"),
    ("true < false", "error"),
    ('"a" < "b"', "error"),
    ("principal.tier >= 2", "true"),
    ("2 > principal.tier", "false"),
    # logic short-circuits, and only then hides errors
    ("false && context.missing", "false"),
    ("true || context.missing", "true"),
    ("true && context.one", "error"),
    ("false || context.one", "error"),
    ("context.one && true", "error"),
    ("false && 1", "false"),
    ("!context.one", "error"),
    ("if context.one then true else true", "error"),
    ("if true then true else context.missing", "true"),
    ('"x"', "error"),
    # has and access
    ("principal has record.a.b", "true"),
    ("principal has record.a.b.c", "error"),
    ("principal has record.x.b", "false"),
    ('principal has "no such"', "false"),
    ("principal.ghost has x", "false"),
    ("principal.ghost.x == 1", "error"),
    ("context.one has x", "error"),
    ("context.claimed has tool", "true"),
    ('principal["name"] == "job*7"', "true"),
    ("principal.boss.name == principal.name", "false"),
    ("action has anything", "false"),
    ("action.anything == 1", "error"),
    # hierarchy
    ('principal in Remit::Identity::"far"', "true"),
    ("principal in principal", "true"),
    ("principal in []", "false"),
    ('principal in [Remit::Identity::"zz", Remit::Identity::"g"]', "true"),
    ("principal in [principal, 1]", "error"),
    ("principal in 1", "error"),
    ("context.one in principal", "error"),
    ("principal in [principal.boss]", "true"),
    ("principal.ghost in principal.ghost", "true"),
    ("principal is Remit::Identity", "true"),
    ("principal is Remit::Resource in 1", "false"),
    ("principal is Remit::Identity in 1", "error"),
    ("principal is Remit::Identity in principal.boss", "true"),
    ("context.one is Remit::Identity", "error"),
    ('action in Remit::Action::"all"', "true"),
    ('action in [Remit::Action::"other", Remit::Action::"all"]', "true"),
    # sets
    ("context.mixed.contains(1)", "true"),
    ("context.mixed.contains(2)", "false"),
    ("context.mixed.contains([])", "true"),
    ("[1].contains(true)", "false"),
    ("[true].containsAny([1])", "false"),
    ("context.mixed.containsAll([])", "true"),
    ("[].containsAny([])", "false"),
    ("[].isEmpty()", "true"),
    ('"a".contains("a")', "error"),
    ("[1].containsAll(1)", "error"),
    ("context.one.isEmpty()", "error"),
    # like
    ('principal.name like "job\\*7"', "true"),
    ('"job-7" like "job\\*7"', "false"),
    ('context.text like "a*b"', "true"),
    ('"" like ""', "true"),
    ('"" like "*"', "true"),
    ('"aba" like "ab*ba"', "false"),
    ('"abcabc" like "*abc"', "true"),
    ('"abxbc" like "a*b*c"', "true"),
    ('"😀" like "\\u{1F600}"', "true"),
    ('"a\\\\b" like "a\\\\*"', "true"),
    ('context.one like "*"', "error"),
    # tags
    ('principal.hasTag("team")', "true"),
    ('principal.getTag("team") == "pay"', "true"),
    ('principal.getTag("nope") == "pay"', "error"),
    ('principal.ghost.hasTag("team")', "false"),
    ('principal.ghost.getTag("team") == ""', "error"),
    ("principal.hasTag(1)", "error"),
    ('context.claimed.hasTag("a")', "error"),
    # ip
    ('ip("10.1.2.3").isInRange(ip("10.0.0.0/8"))', "true"),
    ('context.addr.isInRange(ip("10.1.2.0/30"))', "true"),
    ('ip("10.0.0.0/8").isInRange(ip("10.0.0.0/16"))', "false"),
    ('ip("10.0.0.1/8") == ip("10.0.0.2/8")', "false"),
    ('ip("127.0.0.1") == ip("127.0.0.1/32")', "true"),
    ('ip("::1").isInRange(ip("0.0.0.0/0"))', "false"),
    ('ip("127.0.0.0/7").isLoopback()', "false"),
    ('ip("::1/127").isLoopback()', "false"),
    ('ip("224.0.0.0/4").isMulticast()', "true"),
    ('ip("ff00::/7").isMulticast()', "false"),
    ('ip("::ffff:1.2.3.4").isIpv6()', "error"),
    ('ip("1.2.3.4/032").isIpv4()', "error"),
    ('ip("1.2.3.4/0").isIpv4()', "true"),
    ('ip("1.2.3.4/").isIpv4()', "error"),
    ('ip("01.2.3.4").isIpv4()', "error"),
    ('ip("1.2.3.4/33").isIpv4()', "error"),
    ('ip("fe80::1%eth0").isIpv6()', "error"),
    ('ip("0000:0000:0000:0000:0000:0000:0000:0001").isLoopback()', "true"),
    ('ip("1::2::3").isIpv6()', "error"),
    ('ip(" 1.2.3.4").isIpv4()', "error"),
    ("ip(context.text).isIpv4()", "error"),
    ("ip(context.one).isIpv4()", "error"),
    ("context.one.isIpv4()", "error"),
    # decimal
    ('decimal("1.0") == decimal("1.0000")', "true"),
    ('decimal("1.00000") == decimal("1.0")', "error"),
    ('decimal("1") == decimal("1.0")', "error"),
    ('decimal("-0.5").lessThan(decimal("0.0"))', "true"),
    ('decimal("-0.0") == decimal("0.0")', "true"),
    ('decimal("922337203685477.5807").greaterThan(decimal("0.0"))', "true"),
    ('decimal("922337203685477.5808").greaterThan(decimal("0.0"))', "error"),
    ('decimal("-922337203685477.5808").lessThan(decimal("0.0"))', "true"),
    ('decimal("+1.0") == decimal("1.0")', "error"),
    ('decimal("000000000000000000000001.5") == decimal("1.5")', "true"),
    ('decimal("1.0") < decimal("2.0")', "error"),
    ('decimal("1.0").lessThan(1)', "error"),
    # datetime and duration
    ('datetime("2024-02-29") == datetime("2024-02-29T00:00:00Z")', "true"),
    ('datetime("2023-02-29") == datetime("2024-02-29")', "error"),
    ('datetime("2024-01-01T01:30:00.000+0130") == datetime("2024-01-01")', "true"),
    ('datetime("2024-01-01T00:00:00-0100") == datetime("2024-01-01T01:00:00Z")', "true"),
    ('datetime("2024-01-01T00:00:00+2400") == datetime("2024-01-01")', "error"),
    ('datetime("2024-01-01T00:00:60Z") == datetime("2024-01-01")', "error"),
    ('datetime("2024-01-01T24:00:00Z") == datetime("2024-01-02")', "error"),
    ('datetime("2024-01-01T00:00:00.5Z") == datetime("2024-01-01")', "error"),
    ('datetime("2024-01-01T00:00:00") == datetime("2024-01-01")', "error"),
    ('datetime("0000-01-01") < datetime("1970-01-01")', "true"),
    ('datetime("1969-12-31T23:59:59.999Z").toTime() == duration("86399999ms")', "true"),
    ('datetime("1969-12-31T23:59:59.999Z").toDate() == datetime("1969-12-31")', "true"),
    ('datetime("2024-01-01").offset(duration("-1d")) == datetime("2023-12-31")', "true"),
    ('datetime("2024-01-01").offset(duration("9223372036854775807ms")) == datetime("2024-01-01")', "error"),
    ('datetime("2024-01-02").durationSince(datetime("2024-01-01")) == duration("24h")', "true"),
    ('datetime("2024-01-02") < duration("1h")', "error"),
    ('duration("1d2h3m4s5ms").toMilliseconds() == 93784005', "true"),
    ('duration("-1d1h").toHours() == -25', "true"),
    ('duration("-90m").toHours() == -1', "true"),
    ('duration("1h1d").toHours() == 1', "error"),
    ('duration("").toHours() == 0', "error"),
    ('duration("-").toHours() == 0', "error"),
    ('duration("0s").toHours() == 0', "true"),
    ('duration("106751991168d").toDays() == 0', "error"),
    ('duration("-9223372036854775808ms").toMilliseconds() == -9223372036854775808', "true"),
    ('duration("1h") <= duration("60m")', "true"),
]


@pytest.mark.parametrize(("expression", "outcome"), EDGES)
def test_the_edge_is_as_the_reference_engine_has_it(expression: str, outcome: str) -> None:
    compiled = compile_policies(f"permit(principal, action, resource) when {{ {expression} }};")
    use, everything = Uid("Remit::Action", "use"), Uid("Remit::Action", "all")
    action = EntityView(uid=use, ancestors=frozenset((use, everything)))
    views = (WORLD.rows[PRINCIPAL], action, missing(Uid("Remit::Resource", "r")))
    verdict = compiled.evaluate(*views, CONTEXT, WORLD)
    answer = ReferenceEngine(policy.source for policy in compiled.policies).evaluate(*views, CONTEXT, WORLD)
    ours = "error" if verdict.errors else str(verdict.allowed).lower()
    reference = "error" if answer.errors else str(answer.allowed).lower()
    assert (ours, reference, compiled.engine) == (outcome, outcome, "compiled")
