"""Second proofs: what counts as one, for whom, for how long, and who hears of it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from remit.access import stream
from remit.access.model import Entity, Request
from remit.access.policy.compile import compile_policies
from remit.access.policy.decide import Pdp
from remit.access.snapshot import Delta, IdentityFacts, Snapshot, difference
from remit.kernel.clock import ManualClock
from remit.kernel.errors import Denied, Unavailable
from remit.kernel.unit import Store
from remit.trust.model import Entry, Evidence, Issued, PresentedSvid, Selector
from remit.trust.spiffe import SpiffeId
from remit.trust.testing import KeyedAttester
from remit.wiring.stepup import STEPPED_UP, StepUps
from stores import opened

JOB = SpiffeId.parse("spiffe://remit.test/job")
NOW = datetime.now(UTC).replace(microsecond=0)
ASKS = compile_policies('@id("a") @obligation("step-up: 120") permit (principal, action, resource);')


@dataclass(slots=True)
class House:
    """A control plane as far as second proofs see it; the SVID `serial` was issued on the entry `first`."""

    store: Store[Any]
    shows: str = "second"
    """The entry that the shown proof matches."""
    clock: ManualClock = field(default_factory=lambda: ManualClock(NOW))
    keys: Any = field(default_factory=KeyedAttester)
    stepped_up: dict[str, int] = field(default_factory=dict)

    @property
    def proofs(self) -> Any:
        return self

    @property
    def trust(self) -> Any:
        return self

    @property
    def token_grants(self) -> Any:
        return SimpleNamespace(identity_of=lambda name: "id_job" if name == str(JOB) else "")

    async def present(self, proofs: Any, *, source: str) -> Evidence:
        chosen = frozenset({Selector("oidc", "job", "nightly")})
        return Evidence(attestor="oidc:ci", selectors=chosen, facts={}, observed=NOW)

    def match(self, evidence: Evidence) -> list[Entry]:
        hour = timedelta(hours=1)
        return [Entry(id=self.shows, spiffe_id=JOB, selectors=evidence.selectors, x509_ttl=hour, jwt_ttl=hour,
                      created=NOW)]  # fmt: skip

    def remeasure(self, identities: Any) -> None:
        """As the feed's: it looks again."""

    async def settle(self) -> None:
        """As the feed's: all is told already."""


def svid(serial: int = 0xA1) -> PresentedSvid:
    return PresentedSvid(spiffe_id=JOB, certificate=b"", serial=serial, thumbprint="t", issued=NOW,
                         expires=NOW + timedelta(hours=1))  # fmt: skip


def run(folder: Path, steps: Callable[[House], Awaitable[None]]) -> None:
    async def whole() -> None:
        async with opened(f"sqlite:///{folder / 'remit.db'}") as store:
            issued = Issued(id="a1", kind="x509-svid", spiffe_id=str(JOB), entry="first", issued=NOW,
                            expires=NOW + timedelta(hours=1))  # fmt: skip
            await store.write(lambda unit: unit.trust.note_issued([issued]))
            await steps(House(store))

    asyncio.run(whole())


def desk(house: House) -> StepUps:
    return StepUps(house, house)  # type: ignore[arg-type]


def test_the_attestation_that_got_the_svid_is_no_second_proof(tmp_path: Path) -> None:
    async def steps(house: House) -> None:
        house.shows = "first"
        with pytest.raises(Denied) as same:
            await desk(house).present(svid(), [])
        assert (same.value.code, house.stepped_up) == ("trust.proof.same", {})

    run(tmp_path, steps)


def test_with_an_svid_of_which_nobody_knows_how_it_came_nothing_counts(tmp_path: Path) -> None:
    async def steps(house: House) -> None:
        with pytest.raises(Denied) as same:
            await desk(house).present(svid(0xB2), [])
        assert same.value.code == "trust.proof.same"

    run(tmp_path, steps)


def test_another_proof_counts_and_is_read_back_after_a_restart(tmp_path: Path) -> None:
    async def steps(house: House) -> None:
        at = await desk(house).present(svid(), [])
        again = House(house.store, keys=house.keys)
        await desk(again).open()
        assert again.stepped_up == {"id_job": at}

    run(tmp_path, steps)


class AwayStore:
    """A store that tells what was known when it was written to, and is away then."""

    def __init__(self, store: Any, known: dict[str, int]) -> None:
        self.read = store.read
        self._known = known
        self.seen: list[dict[str, int]] = []

    async def write(self, work: Any) -> Any:
        self.seen.append(dict(self._known))
        raise Unavailable("storage.database.failed", "the database is away")


def test_what_cannot_be_recorded_never_counts_and_takes_nothing_away(tmp_path: Path) -> None:
    async def steps(house: House) -> None:
        at = await desk(house).present(svid(), [])
        store, away = house.store, AwayStore(house.store, house.stepped_up)
        house.store = away  # type: ignore[assignment]
        house.clock.advance(timedelta(minutes=5))
        with pytest.raises(Unavailable):
            await desk(house).present(svid(), [])
        house.store = store
        assert away.seen == [{"id_job": at}]
        assert house.stepped_up == {"id_job": at}

    run(tmp_path, steps)


def test_after_an_hour_it_is_forgotten(tmp_path: Path) -> None:
    async def steps(house: House) -> None:
        await desk(house).present(svid(), [])
        later = House(house.store, keys=house.keys)
        later.clock.advance(timedelta(hours=1, seconds=2))
        await desk(later).open()
        assert later.stepped_up == {}

    run(tmp_path, steps)


def test_what_was_not_signed_here_is_not_read_back(tmp_path: Path) -> None:
    async def steps(house: House) -> None:
        data = {"key": "id_job", "seconds": int(NOW.timestamp()), "signature": "forged"}
        await house.store.write(lambda unit: unit.record(STEPPED_UP, actor="x", subject="id_job", data=data))
        await desk(house).open()
        assert house.stepped_up == {}

    run(tmp_path, steps)


def allowed(moments: dict[str, int], credential: str) -> bool:
    clock = ManualClock(NOW)
    job = IdentityFacts(id="id_job", name="job", kind="workload", owner_active=True)
    known = Snapshot.of(ASKS, epoch=1, sequence=1, at=clock.monotonic(), identities=[job], stepped_up=moments)
    asked = Request(subject=Entity(type="identity", id="id_job"), action="read", resource=Entity(type="x", id="y"),
                    proven={"credential": credential})  # fmt: skip
    return Pdp(lambda: known, clock).decide(asked).allowed


def test_a_proof_for_one_credential_counts_for_that_one_alone(tmp_path: Path) -> None:
    async def steps(house: House) -> None:
        await desk(house).present(svid(), [], alone=True)
        assert [allowed(house.stepped_up, credential) for credential in ("a1", "b2")] == [True, False]

    run(tmp_path, steps)


def test_local_decision_points_hear_of_it_and_of_its_end() -> None:
    before = Snapshot.of(ASKS, epoch=1, sequence=1, at=0.0, stepped_up={"id_old": 1})
    after = before.with_delta(Delta(epoch=1, sequence=2, stepped_up={"id_job": 7, "id_old": None}), at=0.0)
    found = difference(before, after, most=10)
    assert found is not None
    sent = stream.read_change(stream.write_change(found, base=1, heartbeat=0.0), epoch=1)
    there = before.with_delta(sent, at=0.0)
    assert dict(there.stepped_up.items()) == {"id_job": 7}
