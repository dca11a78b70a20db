"""Logs and names that somebody made to mislead: a line within quotes, a field without end, a name with a statement."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest

from remit.governance.rightsizing.languages.postgres import Privilege
from remit.inventory.use.model import UNCLEAR
from remit.inventory.use.readers import Context, cloudtrail
from remit.inventory.use.readers.statements import acts_in
from remit.inventory.use.tally import Tally
from remit.providers.postgres.rightsizing import denied_since, records_in
from remit.wiring import rightsizing_sources as sources


def _line(message: str, *, login: str = "jobs", state: str = "42501", query: str = "") -> bytes:
    row = ["2026-03-03", login, "db", *[""] * 9, state, message, *[""] * 5, query, "", "", "psql"]
    return (",".join('"' + each.replace('"', '""') + '"' for each in row) + "\n").encode()


class Log:
    """A connection that reads one log."""

    def __init__(self, text: bytes) -> None:
        self.text = text

    def transaction(self) -> Any:
        return _Nothing()

    async def fetchval(self, query: str, name: str, start: int, most: int) -> bytes:
        return self.text[start : start + most]


class _Nothing:
    async def __aenter__(self) -> None: ...
    async def __aexit__(self, *given: object) -> None: ...


_NOW = datetime(2026, 3, 3, tzinfo=UTC)
DENIED = "permission denied for table salaries"
TAKEN = ("SELECT: shop.salaries", "SELECT: shop.a.b")


def _read(text: bytes, start: int = 0) -> tuple[tuple[str, ...], int]:
    return asyncio.run(denied_since(Log(text), "jobs", "pg.csv", start, TAKEN))


def test_a_refusal_of_what_was_taken_counts_and_of_anything_else_does_not() -> None:
    assert _read(_line(DENIED))[0] == (DENIED,)
    assert _read(_line("permission denied for table a.b"))[0]
    assert not _read(_line("permission denied for table secrets"))[0]
    assert _read(_line("keine Berechtigung für Tabelle salaries"))[0], "another language cannot be told apart"
    assert not _read(_line(DENIED, login="eve"))[0]


def test_a_line_that_somebody_wrote_into_a_statement_is_no_record() -> None:
    forged = _line("syntax error", login="eve", state="42601", query="SELECT 1;\n" + _line(DENIED).decode() + "--")
    assert _read(forged) == ((), len(forged))


def test_half_a_record_is_left_for_the_next_time() -> None:
    whole = _line(DENIED, query="SELECT\n1")
    half = whole[: whole.rindex(b"\n1") + 1]
    assert _read(_line("x", state="00000") + half) == ((), len(_line("x", state="00000")))
    assert _read(_line("x", state="00000") + whole, len(_line("x", state="00000")))[0] == (DENIED,)


def test_a_field_that_is_too_long_hides_no_refusal_after_it() -> None:
    assert _read(_line("x", state="00000", query="y" * 200_000) + _line(DENIED))[0] == (DENIED,)


def test_a_record_longer_than_one_reading_is_read_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("remit.providers.postgres.rightsizing._MOST_LOG", 256)
    text = _line("x", state="00000", query="y" * 700) + _line(DENIED)
    found, at = _read(text)
    while at < len(text):
        more, after = _read(text, at)
        assert after > at, "it stands still"
        found, at = (*found, *more), after
    assert found == (DENIED,)


def test_records_are_whole_whatever_is_in_them() -> None:
    records, rest = records_in(_line("a\rb") + _line('say "x"\n') + b'"open')
    assert len(records) == 2 and rest == b'"open'


@pytest.mark.parametrize(("action", "verb"), [
    ('SELECT ("a)")', 'SELECT ("a)")'), ("SELECT (amount)", 'SELECT ("amount")'), ('UPDATE ("a""b")', 'UPDATE ("a""b")'),
])  # fmt: skip
def test_a_column_is_named_as_it_is(action: str, verb: str) -> None:
    assert Privilege(kind="table", path="db.s.t", action=action).verb == verb


def test_what_a_source_says_is_put_into_no_statement_but_as_a_name() -> None:
    from datetime import UTC, datetime

    from remit.inventory.model import IdentityKind, State
    from remit.inventory.records import EdgeRecord, IdentityRecord
    from remit.kernel.ids import name

    def edge(kind: str, path: str, action: str) -> EdgeRecord:
        fields = dict.fromkeys(EdgeRecord.__dataclass_fields__, "")
        said: dict[str, Any] = {
            **fields, "head": name("postgres", "x", kind, path), "relation": "can-reach", "cut": "REVOKE x",
            "actions": (action,), "conditions": (),
        }  # fmt: skip
        return EdgeRecord(**said)

    at = datetime(2026, 3, 3, tzinfo=UTC)
    record = IdentityRecord(id="id_1", name="n", kind=IdentityKind.DATABASE_ROLE, title="app", state=State.ACTIVE, system="postgres",
                            instance="x", first_seen=at, last_seen=at)  # fmt: skip
    hostile = "SELECT ON t FROM app; ALTER ROLE eve SUPERUSER --"
    edges = [
        edge("table", "db.s.t", hostile), edge("function", "db.s.f(); DROP TABLE t; --", "EXECUTE"),
        edge("table", 'db.s.t"; DROP TABLE u; --', "SELECT"),
    ]  # fmt: skip
    held = sources._from_edges(record, "app", edges, ["x"]).holding
    draft, _ = held.draft([])
    assert draft.commands == ('REVOKE SELECT ON TABLE "s"."t""; DROP TABLE u; --" FROM "app"',)


def test_a_statement_that_is_made_to_be_read_for_long_is_unclear() -> None:
    assert [act.action for act in acts_in("select * from t where " + "from " * 13_000, "db")] == [UNCLEAR]
    usual = "select * from a " + " ".join(f"join s.t{at} on a.x = t{at}.x" for at in range(60))
    assert UNCLEAR not in {act.action for act in acts_in(usual, "db")}


def test_names_without_end_make_no_rows() -> None:
    arn = "arn:aws:iam::111122223333:user/" + "a" * 1_000_000
    record = {
        "eventTime": "2026-03-03T00:00:00Z", "eventName": "GetObject", "eventSource": "s3.amazonaws.com",
        "userIdentity": {"type": "IAMUser", "arn": arn}, "requestParameters": {"bucketName": "b" * 1_000_000},
        "userAgent": "c" * 1_000_000,
    }  # fmt: skip
    tally = Tally()
    for told in cloudtrail.read(msgspec.json.encode(record), Context(instance="x", fallback=_NOW)):
        for use in told.uses:
            tally.add(use)
    fact = tally.fact("aws", "x", "trail")
    assert fact is not None and all(len(deed.resource) <= 600 for deed in fact.deeds)
    assert all(len(consumer) <= 200 for row in fact.rows for consumer in row.consumers)
