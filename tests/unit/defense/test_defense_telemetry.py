"""Our own events and other systems' logs end in one shape, bounded."""

from __future__ import annotations

import io
from datetime import UTC, datetime, timedelta

from remit.defense.ingest import ActivityRow, from_sample, ocsf, postgres_csv, postgres_json
from remit.defense.model import EventClass, Outcome, Telemetry
from remit.defense.telemetry import Recent, normalise
from remit.inventory.model import Skipped
from remit.kernel.events import Event

NOON = datetime(2026, 11, 22, 12, tzinfo=UTC)


def event(type: str, **data: object) -> Event:
    return Event(id="ev_1", type=type, time=NOON, actor="system:x", subject="ls_1", data=data)  # type: ignore[arg-type]


def read(line: str) -> Telemetry:
    [found] = postgres_json([line.encode()], target="orders", received=NOON)
    assert isinstance(found, Telemetry)
    return found


def test_a_lease_event_names_its_identity_and_target() -> None:
    seen = normalise(event("access.lease.issued", identity="id_1", target="orders", principal="remit_x"))
    assert (seen.identity, seen.system, seen.class_uid) == ("id_1", "orders", 3004)


def test_a_denied_decision_is_a_failure() -> None:
    seen = normalise(event("access.decision.made", identity="id_1", allowed=False))
    assert (seen.event_class, seen.outcome) == (EventClass.AUTHORIZE_SESSION, Outcome.FAILURE)


def test_long_and_nested_values_do_not_grow_it() -> None:
    seen = normalise(event("x.y.z", text="a" * 10_000, nested={"a": [1] * 1000}, **{f"k{n}": n for n in range(500)}))
    assert len(seen.attributes) <= 26
    assert max(len(str(value)) for value in seen.attributes.values()) <= 400


def test_the_ocsf_form_has_its_class_and_milliseconds() -> None:
    form = normalise(event("trust.svid.issued", identity="id_1")).as_ocsf()
    assert (form["class_uid"], form["time"]) == (3002, int(NOON.timestamp() * 1000))


def test_a_login_line() -> None:
    seen = read(
        '{"timestamp":"2026-11-22 11:00:00.123 UTC","user":"app","dbname":"shop","remote_host":"10.0.0.1",'
        '"session_id":"s.1","line_num":3,"message":"connection authorized: user=app database=shop"}'
    )
    assert (seen.id, seen.activity, seen.principal, seen.outcome) == ("pg_s.1.3", "login", "app", Outcome.SUCCESS)
    assert seen.time == datetime(2026, 11, 22, 11, 0, 0, 123000, tzinfo=UTC)


def test_a_refused_login_line() -> None:
    seen = read(
        '{"timestamp":"2026-11-22 11:00:00.123 UTC","user":"app","state_code":"28P01",'
        '"message":"password authentication failed for user \\"app\\""}'
    )
    assert (seen.activity, seen.outcome) == ("login", Outcome.FAILURE)


def test_a_statement_is_classified_and_its_text_dropped() -> None:
    seen = read(
        '{"timestamp":"2026-11-22 11:00:00 UTC","user":"app",'
        '"message":"statement: create role eve password \'hunter2\'"}'
    )
    assert seen.activity == "create"
    assert "hunter2" not in repr(seen)


def test_a_local_time_is_not_guessed() -> None:
    assert read('{"timestamp":"2026-11-22 11:00:00 CET","user":"a","message":"statement: select 1"}').time == NOON


def test_one_bad_line_hides_no_other() -> None:
    good = b'{"user":"a","message":"statement: table x.y"}'
    lines = [b"{", b"\xff\xfe", b"null", b"[" * 9000, b"{" + b"x" * 300_000, good]
    found = list(postgres_json(lines, target="t", received=NOON))
    assert [type(one) for one in found] == [Skipped] * 5 + [Telemetry]


def test_a_csv_record_over_several_lines() -> None:
    row = ["2026-11-22 11:00:00.000 UTC", "app", "shop", "1", "10.0.0.1:5", "s.1", "7", "SELECT", *[""] * 3]
    row += ["LOG", "00000", 'statement: select *\nfrom "a""b".c', *[""] * 8, "psql", "client backend", "", "0"]
    text = ",".join('"' + cell.replace('"', '""') + '"' for cell in row) + "\n"
    [seen] = postgres_csv(io.StringIO(text, newline=""), target="orders", received=NOON)
    assert isinstance(seen, Telemetry)
    assert (seen.principal, seen.client, seen.application, seen.resource) == ("app", "10.0.0.1", "psql", 'a"b.c')


def test_a_short_csv_record_is_skipped() -> None:
    assert [type(one) for one in postgres_csv(io.StringIO("a,b\n"), target="t", received=NOON)] == [Skipped]


def test_ocsf_authentication() -> None:
    line = (
        b'{"class_uid":3002,"time":1795348800000,"status_id":2,"actor":{"user":{"name":"bot",'
        b'"credential_uid":"sha256:aa"}},"dst_endpoint":{"name":"orders"},"metadata":{"uid":"u1"}}'
    )
    [seen] = ocsf([line], received=NOON)
    assert isinstance(seen, Telemetry)
    assert (seen.id, seen.activity, seen.outcome, seen.system) == ("u1", "login", Outcome.FAILURE, "orders")
    assert seen.attributes == {"credential": "sha256:aa"}


def test_ocsf_of_strange_types_is_still_read() -> None:
    [seen] = ocsf([b'{"class_uid":"x","time":-1,"actor":7,"metadata":[],"status_id":{}}'], received=NOON)
    assert isinstance(seen, Telemetry)
    assert (seen.event_class, seen.time) == (EventClass.OTHER, NOON)


def test_the_same_query_in_two_samples_is_one_event() -> None:
    row = ActivityRow(pid=1, backend_start=NOON, principal="app", query="select 1 from a.b", query_start=NOON)
    first, second = (list(from_sample([row], target="t", now=NOON + timedelta(seconds=n))) for n in (0, 5))
    assert first == second


def test_what_is_remembered_is_bounded() -> None:
    recent = Recent(events=3, identities=2)
    for n in range(10):
        recent.add(
            Telemetry(id=str(n), event_class=EventClass.OTHER, activity="x", time=NOON, source="s", identity=f"id_{n}")
        )
    assert [one.id for one in recent.latest()] == ["9", "8", "7"]
    assert set(recent.coverage().identities) == {"id_8", "id_9"}


def test_silence_is_absent_from_coverage() -> None:
    assert Recent().coverage().identities == {}
