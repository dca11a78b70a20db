"""Statements are told apart by what they do, however they are written."""

from __future__ import annotations

import pytest

from remit.defense.model import QueryClass as Q
from remit.defense.statements import MAX_TEXT, classify


def one(text: str) -> tuple[Q, tuple[str, ...]]:
    statement = classify(text)[0]
    return statement.query_class, statement.objects


@pytest.mark.parametrize(
    ("text", "objects"),
    [
        ("select * from orders.line", ("orders.line",)),
        ('SELECT * FROM "Orders"."Line Item" AS l', ("Orders.Line Item",)),
        ("select 1 from a.b x, c.d y where x.i = y.i", ("a.b", "c.d")),
        ("select * from a.b join c.d on true left join e.f using (i)", ("a.b", "c.d", "e.f")),
        ("with x as (select * from hr.pay) select * from x", ("hr.pay", "x")),
        ("table hr.pay", ("hr.pay",)),
        ("select (select max(p) from hr.pay)", ("hr.pay",)),
        ("(select * from hr.pay) union (select 1)", ("hr.pay",)),
        ("select * from only hr.pay", ("hr.pay",)),
        ("copy hr.pay to stdout", ("hr.pay",)),
        ("copy (select * from hr.pay) to stdout with csv", ("hr.pay",)),
        ("explain analyze select * from hr.pay", ("hr.pay",)),
        ("declare c cursor for select * from hr.pay", ("hr.pay",)),
        ("select * from db.hr.pay", ("hr.pay",)),
        ("select/**/*/* from a.b */from--x\nhr.pay", ("hr.pay",)),
        ("select 'from a.b' from hr.pay", ("hr.pay",)),
        ("select $x$ from a.b $x$, * from hr.pay", ("hr.pay",)),
        ("select E'\\' from a.b' from hr.pay", ("hr.pay",)),
    ],
)
def test_reading(text: str, objects: tuple[str, ...]) -> None:
    assert one(text) == (Q.READ, objects)


@pytest.mark.parametrize(
    ("text", "role"),
    [
        ("SET ROLE admin", "admin"),
        ("set role 'admin'", "admin"),
        ("set local role admin", "admin"),
        ("set session role admin", "admin"),
        ("set role = admin", "admin"),
        ("set role to admin", "admin"),
        ('set "role" to admin', "admin"),
        ("SeT/**/RoLe/**/NONE", "none"),
        ("set session authorization admin", "admin"),
        ("set local session authorization admin", "admin"),
        ("set session_authorization to admin", "admin"),
        ("select set_config('role', 'admin', false)", "admin"),
        ("select pg_catalog.set_config('ROLE', 'admin', false)", "admin"),
        ("select set_config(E'\\x72ole', 'admin', false)", "admin"),
        ("select set_config('ro'||'le', 'admin', false)", "?"),
        ("select set_config(setting_name => 'role', new_value => 'admin', is_local => false)", "?"),
        ("select set_config($$role$$, $$admin$$, false)", "admin"),
        ("update pg_settings set setting = 'admin' where name = 'role'", "?"),
    ],
)
def test_changing_role(text: str, role: str) -> None:
    found = [statement for statement in classify(text) if statement.query_class is Q.SET_ROLE]
    assert [statement.objects[0] for statement in found] == [role] or (role == "?" and found)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("create table public.loot (x int)", Q.CREATE),
        ("create unlogged table loot as select * from hr.pay", Q.CREATE),
        ("select * into loot from hr.pay", Q.CREATE),
        ("create or replace function f() returns int language sql as 'select 1'", Q.CREATE),
        ("create temp table t (x int)", Q.CREATE_TEMPORARY),
        ("alter table a.b add c int", Q.ALTER),
        ("alter role me set role = 'admin'", Q.ALTER),
        ("drop table a.b", Q.DROP),
        ("grant select on a.b to public", Q.GRANT),
        ("insert into a.b values (1)", Q.WRITE),
        ("with x as (delete from a.b returning *) select * from x", Q.WRITE),
        ("copy a.b from stdin", Q.WRITE),
        ("copy a.b to program 'curl x'", Q.PROGRAM),
        ("copy a.b to '/tmp/x'", Q.PROGRAM),
        ("copy a.b from '/etc/passwd'", Q.PROGRAM),
        ("select pg_read_file('/etc/passwd')", Q.PROGRAM),
        ("do $$ begin execute 'drop table x'; end $$", Q.CODE),
        ("set search_path = a", Q.SESSION),
        ("select set_config('search_path', '', false)", Q.READ),
        ("begin", Q.SESSION),
        ("reset role", Q.SESSION),
        ("frobnicate", Q.OTHER),
    ],
)
def test_the_other_classes(text: str, expected: Q) -> None:
    assert one(text)[0] is expected


def test_every_statement_of_a_text_is_told() -> None:
    classes = [statement.query_class for statement in classify("begin; set role admin; create table t(); commit")]
    assert classes == [Q.SESSION, Q.SET_ROLE, Q.CREATE, Q.SESSION]


def test_what_was_cut_off_is_not_called_harmless() -> None:
    text = "select 1;" + " " * MAX_TEXT + "set role admin"
    assert classify(text)[-1].query_class is Q.OTHER


def test_no_text_no_statement() -> None:
    assert classify("") == classify("  -- nothing\n /* /* x */ */ ; ;") == ()


@pytest.mark.parametrize(
    "hostile",
    ["from " * 13000, "update " * 9000, "a," * 30000, "/*" * 32000, "select " + "(" * 60000, "$a" * 32000, "'" * 65000,
     "copy " + "to " * 20000, "into " * 13000, "select * from " + "x.y as z, " * 6000],
)  # fmt: skip
def test_a_hostile_text_is_read_in_bounded_work(hostile: str) -> None:
    import time

    began = time.process_time()
    classify(hostile)
    # Quadratic work on 64 KiB takes minutes; this only tells the two apart.
    assert time.process_time() - began < 10
