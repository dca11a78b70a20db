"""Whatever happens to a leak, in whichever order: it is contained only by a refusal that came after it was last live."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from remit.defense.responses.leak import STEPS, Intent, Leak, Stage, Way, leak_of

START = datetime(2026, 1, 1, tzinfo=UTC)


class Life(RuleBasedStateMachine):
    """Drives one leak by every legal verb; the model knows when it was last admitted, refused, and by whose word."""

    def __init__(self) -> None:
        super().__init__()
        self.now = START
        self.leak = Leak(fingerprint="hmac:" + "0" * 64, found=START, moved=START)
        self.before = self.leak
        self.live: datetime | None = None
        self.refused: datetime | None = None
        self.word = False

    def at(self, *stages: Stage) -> bool:
        return self.leak.stage in stages

    def to(self, leak: Leak) -> None:
        self.before, self.leak = self.leak, leak
        self.now += timedelta(seconds=1)

    @rule(owner=st.sampled_from(["", "person:ann"]))
    @precondition(lambda self: self.at(Stage.FOUND, Stage.REOPENED))
    def bind(self, owner: str) -> None:
        self.to(self.leak.bind(self.now, identity="id", title="t", owner=owner))

    @rule()
    @precondition(lambda self: self.at(Stage.BOUND))
    def tell(self) -> None:
        self.to(self.leak.tell(self.now, [{"who": self.leak.owner}]))

    @rule(number=st.integers(0, 80))
    @precondition(lambda self: self.at(Stage.TOLD))
    def map(self, number: int) -> None:
        self.to(self.leak.map(self.now, dependents=[{"id": "x"}] * number, unmeasured=()))

    @rule()
    @precondition(lambda self: self.at(Stage.MAPPED, Stage.WAITING))
    def try_it_live(self) -> None:
        self.live = self.now
        self.to(self.leak.seen_live(self.now))

    @rule()
    @precondition(lambda self: self.at(Stage.MAPPED, Stage.WAITING) and self.leak.admitted is not None)
    def begin(self) -> None:
        self.to(self.leak.begin(self.now, Intent(way=Way.BROKER, target="t", principal="p")))

    @rule()
    @precondition(lambda self: self.at(Stage.ENDING))
    def end(self) -> None:
        self.to(self.leak.end(self.now))

    @rule()
    @precondition(lambda self: self.at(Stage.MAPPED, Stage.ENDING, Stage.ENDED, Stage.WAITING))
    def wait(self) -> None:
        self.to(self.leak.wait(self.now, instruction="do", trouble="why"))

    @rule()
    @precondition(lambda self: self.at(Stage.MAPPED, Stage.ENDED, Stage.WAITING))
    def refuse(self) -> None:
        self.refused = self.now
        self.to(self.leak.refuse(self.now, refusal="28P01", control="c"))

    @rule()
    @precondition(lambda self: self.at(Stage.REFUSED))
    def close(self) -> None:
        self.word = False
        self.to(self.leak.close(self.now, "person:ann"))

    @rule()
    @precondition(lambda self: Stage.CLOSED in STEPS[self.leak.stage] and not self.at(Stage.REFUSED))
    def dismiss(self) -> None:
        self.word = True
        self.to(self.leak.dismiss(self.now, by="person:ann", reason="r"))

    @rule()
    @precondition(lambda self: self.at(Stage.CLOSED))
    def reopen(self) -> None:
        self.live = self.now
        self.to(self.leak.reopen(self.now, "live"))

    @invariant()
    def steps_are_those_of_the_table(self) -> None:
        assert self.leak.stage is self.before.stage or self.leak.stage in STEPS[self.before.stage]

    @invariant()
    def contained_means_refused_after_it_was_last_live(self) -> None:
        span = self.leak.contained_in
        if span is not None:
            assert self.refused is not None and span == self.refused - START
            assert self.live is None or self.live < self.refused
            assert not (self.leak.stage is Stage.CLOSED and self.word)

    @invariant()
    def what_is_ended_was_admitted(self) -> None:
        assert self.leak.stage not in (Stage.ENDING, Stage.ENDED) or self.live is not None

    @invariant()
    def a_record_is_read_as_it_was_written(self) -> None:
        assert leak_of(self.leak.as_json()) == self.leak


TestLife = Life.TestCase
