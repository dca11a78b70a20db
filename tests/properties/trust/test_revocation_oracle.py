"""The index against a naive scan: for any order of issuing, revoking, restoring and time, both say the same of everything."""

from __future__ import annotations

import asyncio
import tempfile
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from remit.kernel.errors import Conflict, NotFound
from remit.trust.model import Issued
from remit.trust.revocation import RevocationIndex, Subject, SubjectKind
from remit.trust.revocation.model import BLOCKING, FIELD
from revocation_house import House, house, issued

_IDS = {
    "spiffe_id": ["spiffe://remit.test/a", "spiffe://remit.test/b"],
    "entry": [f"en_01K0000000000000000000000{n}" for n in (1, 2)],
    "identity": ["", "id_01K00000000000000000000001"],
    "agent": ["", "ag_01K00000000000000000000001"],
    "grant": ["", "gr_01K00000000000000000000001"],
}
_KINDS = {"spiffe_id": "", "entry": "entry:", "identity": "identity:", "agent": "agent:", "grant": "grant:"}
_NUMBERS = st.integers(0, 11)
_SUBJECTS = st.one_of(
    _NUMBERS.map(lambda number: f"serial:{issued(number).id}"),
    *(st.sampled_from([f"{_KINDS[name]}{value}" for value in values if value]) for name, values in _IDS.items()),
)
_STEPS = st.one_of(
    st.tuples(
        st.just("issue"), st.fixed_dictionaries({name: st.sampled_from(values) for name, values in _IDS.items()})
    ),
    st.tuples(st.just("revoke"), _SUBJECTS),
    st.tuples(st.just("restore"), _SUBJECTS),
    st.tuples(st.just("wait"), st.integers(1, 40)),
    st.tuples(st.just("restart"), st.none()),
)


@dataclass
class Oracle:
    """Everything that happened, looked through from the beginning for each question."""

    issued: list[Issued] = field(default_factory=list)
    acts: list[tuple[str, Subject, datetime]] = field(default_factory=list)

    def is_blocked(self, subject: Subject) -> bool:
        held = False
        for what, named, _ in self.acts:
            if named == subject and named.kind in BLOCKING:
                held = what == "revoke"
        return held

    def is_held(self, one: Issued) -> bool:
        return any(
            self.is_blocked(named) for _, named, _ in self.acts if getattr(one, FIELD[named.kind]) == named.value
        )

    def is_revoked(self, one: Issued) -> bool:
        for what, named, at in self.acts:
            covers = getattr(one, FIELD[named.kind]) == named.value
            if covers and (one.issued <= at or (what == "revoke" and self.is_blocked(named))):
                return True
        return False


def asked(index: RevocationIndex, one: Issued) -> bool:
    return index.is_revoked(
        id=one.id, spiffe_id=one.spiffe_id, entry=one.entry, identity=one.identity, agent=one.agent, grant=one.grant,
        issued_at=one.issued,
    )  # fmt: skip


async def play(one: House, steps: list[tuple[str, Any]]) -> None:
    oracle, service = Oracle(), one.service
    for what, given_value in steps:
        one.clock.advance(timedelta(seconds=1))
        now = one.clock.now()
        match what:
            case "issue" if len(oracle.issued) < 12:
                made = issued(len(oracle.issued), now, minutes=30, **given_value)
                await one.issue(made)
                oracle.issued.append(made)
            case "revoke":
                subject = Subject.parse(given_value)
                live = [each for each in oracle.issued if each.expires > now and each.id == subject.value]
                one.service = service
                try:
                    await one.revoke(given_value)
                except NotFound:
                    assert subject.kind is SubjectKind.SERIAL
                    assert not live
                else:
                    oracle.acts.append(("revoke", subject, now))
            case "restore":
                subject = Subject.parse(given_value)
                held = oracle.is_blocked(subject)
                try:
                    await service.restore(given_value, by="person:ann", reason="mended")
                except (NotFound, Conflict):
                    assert not held
                else:
                    assert held
                    oracle.acts.append(("restore", subject, now))
            case "wait":
                one.clock.advance(timedelta(minutes=given_value))
                await service.tend()
            case "restart":
                service = one.again()
                await service.open()
        check(service.index, oracle, one.clock.now())


def check(index: RevocationIndex, oracle: Oracle, now: datetime) -> None:
    for each in oracle.issued:
        if each.expires > now:  # of what has expired nobody asks
            assert asked(index, each) is oracle.is_revoked(each), each
            # What is revoked and no more blocked is on the lists, which know ids alone.
            assert oracle.is_held(each) or oracle.is_revoked(each) is (each.id in index.fallen())
    for name, values in _IDS.items():
        for value in filter(None, values):
            kind = next(one for one, where in FIELD.items() if where == name)
            assert index.is_blocked(**{name: value}) is oracle.is_blocked(Subject(kind, value))


@settings(max_examples=25)
@given(st.lists(_STEPS, max_size=25))
def test_the_index_says_what_a_scan_of_everything_says(steps: list[tuple[str, Any]]) -> None:
    async def run() -> None:
        with tempfile.TemporaryDirectory() as folder:
            async with house(Path(folder)) as one:
                await play(one, steps)

    asyncio.run(run())
