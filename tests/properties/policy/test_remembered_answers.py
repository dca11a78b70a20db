"""A remembered answer never differs from a fresh one, whatever happens between two times that a question is asked."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from remit.access.enforcers.asking import framed
from remit.access.enforcers.model import Asker, Enforcer
from remit.access.policy.compile import compile_policies
from remit.access.policy.decide import Pdp
from remit.access.policy.facts import ExceptionFacts, GrantFacts, IdentityFacts, ResourceFacts
from remit.access.snapshot import Delta, Snapshot, SnapshotCell
from remit.kernel.clock import ManualClock
from remit.kernel.errors import Denied
from remit.surface.api.authzen_json import read_request
from remit.wiring.hot import DecisionDesk, answer_json, sees_facts

START = datetime(2026, 1, 1, 12, 0, 0, 250_000, tzinfo=UTC)
POINT = Enforcer(
    id="ef_1", name="gw", spiffe_id="spiffe://remit.test/gw", created=START, created_by="person:ann",
    fulfils=("redact",), vouches=("attested", "attested_at", "grant", "credential", "step_up_at"),
)  # fmt: skip
NARROW = replace(POINT, id="ef_2", name="narrow", resources=("api/r",), vouches=())
ASKERS = [
    Asker(name="enforcer:gw", enforcer=POINT),
    Asker(name="enforcer:narrow", enforcer=NARROW),
    Asker(name="job", identity="id_job", proven={"attested": True, "attested_at": int(START.timestamp()) - 59}),
    Asker(name="local:uid:0", administrates=True),
]
BASE = """
@id("read") permit(principal, action == Remit::Action::"read", resource)
unless { context has attestation_age && context.attestation_age > 60 };
@id("fresh") @obligation("fresh-attestation: 61") permit(principal, action == Remit::Action::"list", resource);
@id("redacted") @obligation("redact") permit(principal, action == Remit::Action::"delete", resource);
@id("no") forbid(principal, action == Remit::Action::"write", resource) unless { context.exception };
@id("write") permit(principal, action == Remit::Action::"write", resource);
"""
POLICIES = [
    compile_policies(text)
    for text in (
        BASE,
        BASE + 'forbid(principal in Remit::Identity::"group", action, resource);',
        BASE + 'forbid(principal, action, resource) when { context.time > datetime("2026-01-01T12:00:00.700Z") };',
        BASE + "forbid(principal, action, resource) unless { principal.tier > 2 };",
        BASE + "forbid(principal, action, resource) when { context.step_up_at > 0 };",
        'permit(principal, action == Remit::Action::"list", resource);',
    )
]
PEOPLE = {
    name: IdentityFacts(id=f"id_{name}", name=name, kind="workload", owner_active=True, tier=tier)
    for name, tier in (("job", 3), ("strict", 1), ("group", 3))
}
PROVEN: list[dict[str, Any]] = [
    {}, {"attested": True, "attested_at": int(START.timestamp()) - 59}, {"grant": "gr_1"}, {"credential": "c1"},
    {"step_up_at": int(START.timestamp())}, {"attested": "yes"},
]  # fmt: skip
QUESTIONS = [
    json.dumps({
        "subject": {"type": "identity", "id": subject}, "action": {"name": action},
        "resource": {"type": "api", "id": resource}, **({"context": {"proven": proven}} if proven else {}),
    }).encode()
    for subject in ("job", "strict", "mallory") for action in ("read", "list", "delete", "write")
    for resource in ("r", "excused") for proven in PROVEN
]  # fmt: skip


def grant(usable: bool, lasts: int) -> GrantFacts:
    return GrantFacts(
        id="gr_1", identity="id_job", digest="sha256:x", approved=("sha256:x",), usable=usable,
        expires=START + timedelta(milliseconds=lasts),
    )  # fmt: skip


def exception(lasts: int) -> ExceptionFacts:
    return ExceptionFacts(
        id="ex_1", rule="no", identities=frozenset({"id_job", "id_strict"}), actions=frozenset({"write"}),
        resource="api/excused", expires=START + timedelta(milliseconds=lasts),
    )  # fmt: skip


def whole(sequence: int, policies: int, at: float, **more: Any) -> Snapshot:
    return Snapshot.of(
        POLICIES[policies], epoch=1, sequence=sequence, at=at, identities=PEOPLE.values(),
        resources=[ResourceFacts(name=f"api/{name}", kind="api", sensitivity="internal") for name in ("r", "excused")],
        **more,
    )  # fmt: skip


NAMES, LASTS = st.sampled_from(sorted(PEOPLE)), st.integers(0, 1500)
CHANGES = st.one_of(
    st.builds(lambda n, why: {"quarantined": {f"id_{n}": why}}, NAMES, st.sampled_from(["seen", None])),
    st.builds(lambda n: {"revoked": {n: "lost"}}, st.sampled_from(["id_job", "c1", "gr_1", "strict"])),
    st.builds(lambda n: {"policies": POLICIES[n]}, st.integers(0, len(POLICIES) - 1)),
    st.builds(lambda u, t: {"grants": {"gr_1": grant(u, t)}}, st.booleans(), LASTS),
    st.builds(lambda t: {"exceptions": {"ex_1": exception(t)}}, LASTS),
    st.just({"exceptions": {"ex_1": None}, "grants": {"gr_1": None}}),
    st.builds(
        lambda n, tier, state, groups: {
            "identities": {f"id_{n}": msgspec.structs.replace(PEOPLE[n], tier=tier, state=state, groups=groups)}
        },
        NAMES, st.sampled_from([None, 1, 3]), st.sampled_from(["active", "suspended"]),
        st.sampled_from([(), ("id_group",), ("id_job", "id_strict")]),
    ),
    st.builds(
        lambda kind: {"resources": {"api/r": ResourceFacts(name="api/r", kind="api", sensitivity=kind)}},
        st.sampled_from(["internal", "restricted"]),
    ),
)  # fmt: skip
ASK = st.tuples(st.just("ask"), st.sampled_from(ASKERS), st.sampled_from(QUESTIONS))
STEPS = st.one_of(
    ASK, ASK, ASK,
    st.tuples(st.just("again")), st.tuples(st.just("again")), st.tuples(st.just("again")),
    st.tuples(st.just("change"), CHANGES),
    st.tuples(st.just("pass"), st.sampled_from([1, 49, 200, 251, 400, 750]), st.booleans()),
    st.tuples(st.just("pass"), st.sampled_from([400, 750]), st.just(True)),
    st.tuples(st.just("beat")),
    st.tuples(st.just("gap")),
    st.tuples(
        st.just("load"), st.sampled_from([0, 1]), st.integers(0, len(POLICIES) - 1),
        st.sampled_from([{}, {"quarantined": {"id_job": "seen"}}, {"revoked": {"c1": "lost"}}]),
    ),
)  # fmt: skip


class Log:
    """A disk on which everything is, at once."""

    def append_group(self, records: list[bytes], done: asyncio.Future[Any]) -> None:
        done.set_result(None)

    def append_nowait(self, record: bytes) -> None: ...


class Decisions:
    log = Log()

    def publish(self, plain: Any, now: datetime) -> None: ...


class House:
    def __init__(self) -> None:
        self.clock = ManualClock(START)
        self.cell = SnapshotCell(whole(1, 0, self.clock.monotonic(), grants=[grant(True, 900)]))
        self.desk = DecisionDesk(Pdp(self.cell.current, self.clock), Decisions(), clock=self.clock)  # type: ignore[arg-type]
        self.asked: list[tuple[Asker, bytes]] = []

    async def step(self, kind: str, *given: Any) -> None:
        now, before = self.clock.monotonic(), self.cell.current()
        if kind == "pass":
            self.clock.advance(timedelta(milliseconds=given[0]))
            if given[1]:
                self.cell.beat(self.clock.monotonic())
        elif kind == "beat":
            self.cell.beat(now)
        elif kind == "change":
            self.cell.apply(Delta(epoch=before.epoch, sequence=before.sequence + 1, **given[0]), at=now)
        elif kind == "gap":
            self.cell.apply(Delta(epoch=before.epoch, sequence=before.sequence + 9), at=now)
        elif kind == "load":
            self.cell.load(whole(before.sequence + given[0], given[1], now, **given[2]))
        elif kind == "ask":
            self.asked.append((given[0], given[1]))
            await self.ask(*self.asked[-1])
        else:
            for each in self.asked[-3:]:
                await self.ask(*each)

    async def ask(self, asker: Asker, body: bytes) -> None:
        told: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        try:
            self.desk.submit(body, read_request, asker, told.set_result)
        except Denied as refusal:
            assert refusal.code == self.fresh(asker, body)
            return
        expected = self.fresh(asker, body)
        answer = json.loads(await told)
        del answer["context"]["id"]
        assert answer == expected

    def fresh(self, asker: Asker, body: bytes) -> Any:
        """What a decision point says that has never been asked."""
        snapshot = self.cell.current()
        try:
            request = framed(read_request(body), asker, snapshot)
        except Denied as refusal:
            return refusal.code
        decision = Pdp(lambda: replace(snapshot, _views={}), self.clock).decide(request, fulfils=asker.fulfils)
        plain = json.loads(msgspec.json.encode(answer_json(decision, facts=sees_facts(asker))))
        del plain["context"]["id"]
        return plain


@settings(max_examples=300, deadline=None)
@given(st.lists(STEPS, min_size=3, max_size=30))
def test_a_remembered_answer_is_what_a_fresh_decision_would_be(steps: list[tuple[Any, ...]]) -> None:
    async def live() -> None:
        house = House()
        for step in steps:
            await house.step(*step)

    asyncio.run(live())


def question(subject: str, action: str) -> bytes:
    named = {"subject": {"type": "identity", "id": subject}, "action": {"name": action}}
    return json.dumps({**named, "resource": {"type": "api", "id": "r"}}).encode()


def answers(asker: Asker, body: bytes, *, first: list[tuple[Any, ...]], then: list[tuple[Any, ...]]) -> list[bool]:
    """What a question is answered after `first`, and again after `then`: each time what a fresh decision says."""
    told: list[bool] = []

    async def live() -> None:
        house = House()
        for steps in (first, then):
            for step in steps:
                await house.step(*step)
            await house.ask(asker, body)
            told.append(house.fresh(asker, body)["decision"])

    asyncio.run(live())
    return told


def test_a_proof_that_grows_too_old_within_the_same_snapshot_is_not_remembered() -> None:
    beats = [("pass", 500, True)] * 4
    assert answers(ASKERS[2], question("job", "read"), first=[], then=beats) == [True, False]


def test_a_snapshot_that_goes_stale_within_the_same_second_is_not_remembered() -> None:
    first = [("pass", 200, True), ("pass", 600, False)]  # 12:00:01.05, and 0.6 s old
    assert answers(ASKERS[3], question("strict", "read"), first=first, then=[("pass", 900, False)]) == [True, False]
