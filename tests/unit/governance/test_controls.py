"""A compensating control counts as tested only while a fresh probe shows it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from remit.access.segments import Check, Form, Probe, Verdict
from remit.governance.controls import ControlState, controls_of
from remit.governance.model import ExceptionStatus, PolicyException

NOW = datetime(2026, 1, 2, tzinfo=UTC)
GOOD = (("open", Verdict.PASS), ("shut", Verdict.PASS))


def exception(*controls: str) -> PolicyException:
    return PolicyException(
        id="ex_1", rule="mfa", identities=("id_1",), actions=("read",), resource="db", reason="legacy",
        compensating=controls, requester="person:ann", created=NOW, expires=NOW + timedelta(days=9),
        status=ExceptionStatus.APPROVED,
    )  # fmt: skip


def probe(*checks: tuple[str, Verdict], form: Form = Form.NFTABLES, age: timedelta = timedelta(hours=1)) -> Probe:
    seen = tuple(Check(what="uid 7", expected=expected, verdict=verdict) for expected, verdict in checks)
    return Probe(target="orders", form=form, time=NOW - age, checks=seen)


@pytest.mark.parametrize(
    ("control", "probes", "state"),
    [
        ("segment:orders", [probe(*GOOD)], ControlState.TESTED),
        ("segment:orders/nftables", [probe(*GOOD)], ControlState.TESTED),
        ("segment:orders/pg_hba", [probe(*GOOD)], ControlState.UNMEASURED),
        ("segment:other", [probe(*GOOD)], ControlState.UNMEASURED),
        ("we look at it weekly", [probe(*GOOD)], ControlState.UNMEASURED),
        ("segment:orders", [], ControlState.UNMEASURED),
        ("segment:orders", [probe(*GOOD, age=timedelta(days=2))], ControlState.UNMEASURED),
        ("segment:orders", [probe(*GOOD, age=-timedelta(minutes=1))], ControlState.UNMEASURED),
        ("segment:orders", [probe(("open", Verdict.PASS))], ControlState.UNMEASURED),
        ("segment:orders", [probe(*GOOD, ("kept", Verdict.FAIL))], ControlState.FAILED),
        ("segment:orders", [probe(*GOOD), probe(("shut", Verdict.FAIL), form=Form.PG_HBA)], ControlState.FAILED),
        ("segment:orders", [probe(*GOOD), probe(form=Form.PG_HBA)], ControlState.UNMEASURED),
    ],
)
def test_a_control_is_as_its_newest_probe(control: str, probes: list[Probe], state: ControlState) -> None:
    [judged] = controls_of(exception(control), probes, NOW)
    assert (judged.text, judged.state) == (control, state)
