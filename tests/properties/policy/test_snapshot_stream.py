"""Whatever is committed, in whatever order, a point that follows the stream decides as the source does."""

from __future__ import annotations

import asyncio
import io
import time
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from local_stage import KEY, SEED, point
from remit.access import stream
from remit.access.enforcers.asking import framed
from remit.access.enforcers.model import Asker
from remit.access.model import Entity, Request
from remit.access.policy.compile import compile_policies
from remit.access.policy.decide import Pdp
from remit.access.policy.facts import IdentityFacts, ResourceFacts
from remit.access.snapshot import Delta, Snapshot, SnapshotCell
from remit.client.enforce.stream import Follower, _Stream
from remit.kernel.clock import SystemClock
from remit.kernel.errors import Denied
from remit.wiring.streams import SnapshotStreams

CLOCK = SystemClock()
PEOPLE = ("a", "b", "c")
THINGS = ("api/x", "api/y", "vault/z")
POLICIES = (
    'permit(principal, action == Remit::Action::"read", resource);',
    '@id("b") permit(principal in Remit::Identity::"id_b", action, resource in Remit::Resource::"vault/z");',
    'permit(principal, action, resource) when { resource.sensitivity == "internal" };'
    "forbid(principal, action, resource) when { principal.tier < 2 };",
    '@id("né") permit(principal, action, resource) unless { Remit::Resource::"vault/z".sensitivity == "internal" };',
)
who, thing = st.sampled_from(PEOPLE), st.sampled_from(THINGS)


def person(name: str, tier: int, groups: tuple[str, ...]) -> IdentityFacts:
    return IdentityFacts(id=f"id_{name}", name=name, kind="workload", tier=tier, owner_active=True, groups=groups)


def resource(name: str, sensitivity: str, parents: tuple[str, ...], alias: str) -> ResourceFacts:
    kind, _, plain = name.partition("/")
    names = (alias,) if alias else (plain,)
    return ResourceFacts(name=name, kind=kind, sensitivity=sensitivity, parents=parents, names=names)


groups = st.lists(who.map("id_{}".format), max_size=2).map(tuple)
identities = st.dictionaries(
    who.map("id_{}".format), st.none() | st.tuples(st.integers(0, 3), groups), min_size=1, max_size=3
).map(lambda found: {key: value and person(key[3:], *value) for key, value in found.items()})
resources = st.dictionaries(
    thing,
    st.none()
    | st.tuples(
        st.sampled_from(["internal", "restricted"]), st.lists(thing, max_size=2).map(tuple), st.sampled_from(["", "q"])
    ),
    min_size=1,
    max_size=3,
).map(lambda found: {key: value and resource(key, *value) for key, value in found.items()})
commits = st.one_of(
    identities.map(lambda it: {"identities": it}),
    resources.map(lambda it: {"resources": it}),
    st.dictionaries(who.map("id_{}".format), st.none() | st.just("rogue"), min_size=1).map(
        lambda it: {"quarantined": it}
    ),
    st.dictionaries(who.map("id_{}".format), st.just("leaked"), min_size=1).map(lambda it: {"revoked": it}),
    st.sampled_from(POLICIES).map(lambda text: {"policies": compile_policies(text)}),
)
# What happens: a commit, a reload of everything at the source, or a cut of the stream.
steps = st.lists(st.one_of(commits, commits, st.sampled_from(["reload", "cut"])), max_size=10)


class Heard:
    """An HTTP response that has said so much, and then is cut."""

    fp = None

    def __init__(self, data: bytes) -> None:
        self._data = io.BytesIO(data)

    def read(self, count: int) -> bytes:
        return self._data.read(count)


@pytest.mark.parametrize("scope", [(), ("api/*",)])
@settings(deadline=None, max_examples=80)
@given(steps=steps)
def test_whatever_is_committed_the_follower_decides_the_same(scope: tuple[str, ...], steps: list[Any]) -> None:
    asyncio.run(follow(scope, steps))


async def follow(scope: tuple[str, ...], steps: list[Any]) -> None:
    source = SnapshotCell(
        Snapshot.of(
            compile_policies(POLICIES[0]), epoch=1, sequence=1, at=CLOCK.monotonic(),
            identities=[person("a", 3, ()), person("b", 1, ("id_a",))],
            resources=[resource("api/x", "internal", ("vault/z",), ""), resource("vault/z", "internal", (), "q")],
        )
    )  # fmt: skip
    streams = SnapshotStreams(source, SEED, clock=CLOCK)
    mine = point(resources=scope)
    follower = Follower(lambda: None, key=KEY)  # type: ignore[arg-type, return-value]
    waiting = [list(steps)]
    while waiting:
        todo = waiting.pop()
        nonce = f"{len(todo):064x}"
        incarnation, digest, sequence = follower._have
        asked = time.monotonic()
        frames = streams.frames(mine, stream.Ask(nonce=nonce, incarnation=incarnation, scope=digest, sequence=sequence))
        heard = bytearray()
        try:
            while True:
                await hear(frames, heard, source.current().sequence)
                if not todo:
                    break
                step = todo.pop(0)
                if step == "cut":
                    for _ in range(3):  # what the reader misses, it gets together
                        if todo and todo[0] != "cut":
                            commit(source, todo.pop(0))
                    waiting.append(todo)
                    break
                commit(source, step)
        finally:
            await frames.aclose()  # type: ignore[attr-defined]
        with pytest.raises(Exception, match=r"IncompleteRead|expected"):
            verifier = stream.FrameVerifier(stream.read_key(KEY), nonce)
            _Stream(follower, Heard(bytes(heard)), verifier, asked).run(asked + 600)  # type: ignore[arg-type]
    agree(source.current(), follower, mine)


async def hear(frames: Any, heard: bytearray, sequence: int) -> None:
    """Read on until the stream says that it is at `sequence`."""
    while True:
        data = await frames.__anext__()
        heard += data
        frame = stream._decode(data[stream.HEAD_BYTES :])
        if isinstance(frame, stream.Beat) and frame.sequence == sequence:
            return


def commit(source: SnapshotCell, step: Any) -> None:
    now = source.current()
    if step == "reload":
        whole = Snapshot.of(
            compile_policies("\n".join(each.source.text for each in now.policies.policies)),
            epoch=1, sequence=now.sequence + 1, at=CLOCK.monotonic(),
            identities=[one for _, one in now.identities.items() if one.tier != 3],
            resources=[one for _, one in now.resources.items()], quarantined=dict(now.quarantined.items()),
        )  # fmt: skip
        assert source.load(whole)
    else:
        assert source.apply(Delta(epoch=1, sequence=now.sequence + 1, **step), at=CLOCK.monotonic())


def agree(source: Snapshot, follower: Follower, mine: Any) -> None:
    """Every question of a small world has the same answer; what is not of the point's registration has none."""
    source, theirs = source.current_at(CLOCK.monotonic()), follower.cell.current().current_at(CLOCK.monotonic())
    assert theirs.sequence == source.sequence and not theirs.gap
    central, local = Pdp(lambda: source, CLOCK), Pdp(lambda: theirs, CLOCK)
    asker = Asker(name="enforcer:app", enforcer=mine)
    names = [*(name.partition("/")[::2] for name in THINGS), ("api", "q"), ("vault", "x"), ("api", "z"), ("api", "w")]
    for subject in PEOPLE:
        for action in ("read", "write"):
            for kind, name in names:
                request = Request(
                    subject=Entity(type="identity", id=subject), action=action, resource=Entity(type=kind, id=name)
                )
                assert answer(local, request, asker, theirs, follower) == answer(central, request, asker, source, None)


def answer(pdp: Pdp, request: Request, asker: Asker, known: Snapshot, follower: Follower | None) -> Any:
    try:
        fenced = follower is not None and follower.fence.stands_before(
            known, request.resource.type, request.resource.id
        )
        if fenced:
            return "not its own"
        decision = pdp.decide(framed(request, asker, known))
    except Denied:
        return "not its own"
    return decision.allowed, [each.id for each in decision.reasons], decision.errors, decision.facts
