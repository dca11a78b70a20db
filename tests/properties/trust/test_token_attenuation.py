"""No exchange widens anything: the arithmetic against an oracle, and whole chains of exchanges against it."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from remit.kernel.errors import RemitError
from remit.trust.testing import NOON
from remit.trust.tokens.attenuate import Offer, cut, is_narrower, offer_exchange
from remit.trust.tokens.model import MAX_ACTORS, Held, Proven, Request, TokenGrant, TokenKind
from remit.trust.tokens.testing import ALICE, API, BOB, CAROL, OTHER, example_grant, token_house

PEOPLE = st.sampled_from([ALICE, BOB, CAROL, "spiffe://remit.test/dave", "spiffe://remit.test/erin"])
SCOPES = st.sampled_from(["read", "write", "list", "pay"])
PLACES = st.sampled_from([API, OTHER, "https://third.test"])
LISTS = st.lists(st.sampled_from(["a", "b", "c"]), max_size=3, unique=True)
DETAILS = st.lists(
    st.fixed_dictionaries(
        {"type": st.sampled_from(["payment", "file"])},
        optional={"actions": LISTS, "locations": LISTS, "amount": st.integers(0, 3), "identifier": st.text("xy", max_size=1)},
    ),
    max_size=3,
).map(tuple)  # fmt: skip
MOMENTS = st.integers(1, 3600).map(lambda seconds: NOON + timedelta(seconds=seconds))


@st.composite
def held_tokens(draw: st.DrawFn) -> Held:
    return Held(
        subject=draw(PEOPLE),
        identity_proof=False,
        kind=draw(st.sampled_from(list(TokenKind))),
        expires=draw(MOMENTS),
        client_id=draw(PEOPLE),
        actors=tuple(draw(st.lists(PEOPLE, max_size=MAX_ACTORS, unique=True))),
        scopes=frozenset(draw(st.frozensets(SCOPES))),
        audience=tuple(draw(st.lists(PLACES, min_size=1, max_size=2, unique=True))),
        details=draw(DETAILS),
        may_act=draw(st.sampled_from(["", BOB, CAROL])),
    )


@st.composite
def requests(draw: st.DrawFn) -> Request:
    return Request(
        grant_type="exchange",
        scopes=tuple(draw(st.lists(SCOPES, max_size=3, unique=True))),
        resources=tuple(draw(st.lists(PLACES, max_size=2, unique=True))),
        details=draw(DETAILS),
    )


def oracle_covers(asked: Any, held: Any) -> bool:
    """In words: the same members, each the same; but a list of what is allowed may be a shorter, not empty one."""
    if sorted(asked) != sorted(held):
        return False
    for name, value in asked.items():
        if name in ("actions", "locations") and value != held[name]:
            if not value or any(one not in held[name] for one in value):
                return False
        elif value != held[name] or (name in ("actions", "locations") and not value):
            return False
    return True


def permitted(offer: Offer, held: Held, actor: str) -> None:
    """What must hold of whatever comes of a token, said without the code under test."""
    assert offer.subject == held.subject
    assert set(offer.scopes) <= held.scopes
    assert offer.expires <= held.expires
    assert all(
        any(oracle_covers(each, one) for one in held.details) for each in offer.details if each not in held.details
    )
    assert len(offer.actors) <= MAX_ACTORS
    if actor == held.subject and not held.actors:
        assert offer.actors == ()
    else:
        assert offer.actors[0] == actor
        assert offer.actors in (held.actors, (actor, *held.actors))
    if offer.actors == held.actors or held.kind is TokenKind.TRANSACTION:
        assert set(offer.audience) <= set(held.audience)
    elif held.may_act:
        assert actor == held.may_act


@settings(max_examples=600)
@given(held=held_tokens(), request=requests(), actor=PEOPLE)
def test_what_comes_of_a_token_is_a_part_of_it(held: Held, request: Request, actor: str) -> None:
    proof = Proven(subject=actor, method="x509-svid", attested=True)
    try:
        offer = offer_exchange(request, proof, held, now=NOON, lifetime=timedelta(minutes=5))
    except RemitError:
        return
    permitted(offer, held, actor)
    assert offer.expires <= NOON + timedelta(minutes=5)
    assert set(request.scopes) in (set(), set(offer.scopes))


@settings(max_examples=400)
@given(held=held_tokens(), request=requests(), given_scopes=st.frozensets(SCOPES), details=DETAILS, ends=MOMENTS)
def test_a_grant_only_takes_away(
    held: Held, request: Request, given_scopes: frozenset[str], details: Any, ends: datetime
) -> None:
    proof = Proven(subject=held.subject, method="x509-svid", attested=True)
    grant: TokenGrant = replace(example_grant(expires=ends), scopes=tuple(sorted(given_scopes)), details=details)
    try:
        offer = offer_exchange(request, proof, held, now=NOON, lifetime=timedelta(minutes=5))
        grant = replace(grant, subject=offer.subject, actors=offer.actors, resources=offer.audience)
        left = cut(offer, grant)
    except RemitError:
        return
    assert set(left.scopes) == set(offer.scopes) & given_scopes
    assert set(map(repr, left.details)) <= set(map(repr, offer.details))
    assert all(any(oracle_covers(each, one) or each == one for one in details) for each in left.details)
    assert left.expires == min(offer.expires, ends)
    assert (left.actors, left.audience) == (offer.actors, offer.audience)


@given(one=DETAILS, other=DETAILS, third=DETAILS)
def test_less_of_less_is_less(one: Any, other: Any, third: Any) -> None:
    for a in one:
        for b in other:
            for c in third:
                if is_narrower(a, b) and is_narrower(b, c):
                    assert is_narrower(a, c)


HOPS = st.lists(st.tuples(PEOPLE, st.frozensets(SCOPES, max_size=2), st.integers(0, 100)), min_size=1, max_size=6)


@settings(max_examples=60)
@given(first=st.frozensets(SCOPES, min_size=1), hops=HOPS)
def test_along_any_chain_scope_and_life_only_shrink_and_nobody_is_forgotten(first: frozenset[str], hops: Any) -> None:
    async def walk() -> None:
        async with token_house() as house:
            everybody = {who for who, *_ in hops} | {ALICE}
            house.grants.allowed = {ALICE: frozenset({"read", "write", "list"})}
            for number, who in enumerate(sorted(everybody - {ALICE}), 1):
                await house.server(who, f"https://{number}.test")
            serves = {who: f"https://{n}.test" for n, who in enumerate(sorted(everybody - {ALICE}), 1)}
            try:
                answer = await house.ask(
                    svid=house.certificate(ALICE), scope=" ".join(sorted(first)), resource=list(serves.values())[:4]
                )
            except RemitError:
                return
            before = house.claims(answer)
            for who, scopes, later in hops:
                house.clock.advance(timedelta(seconds=later))
                try:
                    answer = await house.exchange(
                        answer.token, svid=house.certificate(who), scope=" ".join(sorted(scopes)),
                        resource=list(serves.values())[:2],
                    )  # fmt: skip
                except RemitError:
                    continue
                now = house.claims(answer)
                shrank(before, now, who)
                before = now

    asyncio.run(walk())


def shrank(before: Any, now: Any, who: str) -> None:
    assert set(now["scope"].split()) <= set(before["scope"].split())
    assert now["exp"] <= before["exp"]
    assert now["sub"] == before["sub"] == ALICE
    was, chain = actors(before), actors(now)
    assert chain in (was, [who, *was])
    assert who in (ALICE, *chain)


def actors(claims: Any) -> list[str]:
    found, link = [], claims.get("act")
    while link is not None:
        found.append(link["sub"])
        link = link.get("act")
    return found


def test_the_oracle_tells_wide_from_narrow() -> None:
    held = {"type": "payment", "actions": ["a", "b"], "amount": 3}
    assert oracle_covers({"type": "payment", "actions": ["a"], "amount": 3}, held)
    for wide in (
        {"type": "payment", "actions": ["a", "c"], "amount": 3},
        {"type": "payment", "actions": ["a"], "amount": 4},
        {"type": "payment", "actions": ["a"]},
        {"type": "payment", "actions": [], "amount": 3},
        {"type": "file", "actions": ["a"], "amount": 3},
        {**held, "locations": ["x"]},
    ):
        assert not oracle_covers(wide, held)
        assert not is_narrower(wide, held)


def test_a_grant_of_another_is_never_used() -> None:
    offer = Offer(subject=ALICE, actors=(), scopes=("read",), audience=(API,), details=(), expires=NOON)
    for grant in (
        replace(example_grant(), subject=BOB, actors=()),
        replace(example_grant(), actors=(BOB,)),
        replace(example_grant(), actors=(), resources=(OTHER,)),
    ):
        try:
            cut(offer, grant)
        except AssertionError:
            continue
        raise AssertionError("a grant of another was used")
