"""What a lease can do to outlive itself on PostgreSQL, and that a revocation ends it: on every major at hand."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import asyncpg
import pytest

from postgres_stage import PostgresStage, application_server, connect, postgres_stage
from remit.access.brokers.postgres import PostgresBroker
from remit.access.model import Proved, Revocation, RevokeOrder
from remit.access.testing import INSTANCE, mint_order, principal, revoke_order
from remit.kernel.errors import Conflict, Misconfigured, Unavailable
from servers import POSTGRES_MAJORS

Play = Callable[[PostgresStage], Awaitable[None]]

every_major = pytest.mark.parametrize("major", POSTGRES_MAJORS)
OLDEST = min((major for major in POSTGRES_MAJORS if major), default=None)
NEWEST = max((major for major in POSTGRES_MAJORS if major), default=None)
BROKER = "CREATE ROLE remit_broker LOGIN PASSWORD '@password@';"


def on_stage(major: int | None, play: Play, *, settings: Mapping[str, str] | None = None, **stage: Any) -> None:
    async def run() -> None:
        with application_server(major, settings) as server:
            async with postgres_stage(server, **stage) as built:
                await play(built)

    asyncio.run(run())


async def revoke(stage: PostgresStage, order: Any) -> Revocation:
    [done] = await stage.broker.revoke([revoke_order(order)])
    assert done.gone, done
    assert isinstance(done.proof, Proved), done
    assert not await stage.admin.fetchval("SELECT count(*) FROM pg_roles WHERE rolname = $1", order.principal)
    return done


def fates(done: Revocation) -> dict[str, str]:
    return {left.what: left.fate for left in done.left_behind}


async def has_ended(connection: Any) -> bool:
    try:
        await connection.execute("SELECT 1")
    except (asyncpg.PostgresError, asyncpg.InterfaceError, OSError):
        return True
    return False


@every_major
def test_a_busy_session_an_idle_transaction_and_one_after_set_role_are_all_ended(major: int | None) -> None:
    async def play(stage: PostgresStage) -> None:
        order, busy = await stage.lease()
        own = stage.server.address(user=order.principal, database="app")
        idle, changed = await connect(own, order.secret), await connect(own, order.secret)
        stage.sessions += [idle, changed]
        query = asyncio.ensure_future(busy.execute("SELECT pg_sleep(60)"))
        await idle.execute("BEGIN; LOCK TABLE app.orders IN ROW EXCLUSIVE MODE")
        await changed.execute("SET ROLE app_rw")
        await asyncio.sleep(0.05)
        done = await revoke(stage, order)
        assert done.sessions_ended == 3
        with pytest.raises((asyncpg.PostgresError, OSError)):
            await query
        assert await has_ended(idle) and await has_ended(changed)

    on_stage(major, play)


def test_a_plain_drop_role_leaves_a_session_that_still_writes() -> None:
    """The trap itself: without it the other tests would prove nothing."""

    async def play(stage: PostgresStage) -> None:
        order, session = await stage.lease()
        await session.execute("SET ROLE app_rw")
        await stage.admin.execute(f'DROP ROLE "{order.principal}"')
        await session.execute("INSERT INTO app.orders VALUES (3)")
        # Whoever drops it behind our back: this broker knows the oid still, and ends the session.
        done = await revoke(stage, order)
        assert done.sessions_ended == 1
        assert await has_ended(session)

    on_stage(NEWEST, play)


@every_major
def test_what_the_lease_itself_owns_goes_to_the_role_without_rights(major: int | None) -> None:
    async def play(stage: PostgresStage) -> None:
        order, session = await stage.lease()
        await session.execute(
            "SET ROLE NONE;"
            "CREATE TABLE scratch.loot (id serial PRIMARY KEY); GRANT SELECT ON scratch.loot TO PUBLIC;"
            "CREATE FUNCTION scratch.back_door() RETURNS int SECURITY DEFINER LANGUAGE sql AS 'SELECT 1';"
            "CREATE VIEW scratch.pane AS SELECT 1 AS one;"
            "ALTER DEFAULT PRIVILEGES GRANT SELECT ON TABLES TO PUBLIC"
        )
        done = await revoke(stage, order)
        assert fates(done)["table scratch.loot in app"] == "re-owned"
        assert fates(done)["function scratch.back_door() in app"] == "quarantined"
        assert fates(done)["view scratch.pane in app"] == "quarantined"
        assert "removed" in fates(done).values()
        owners = await stage.admin.fetch(
            "SELECT DISTINCT pg_get_userbyid(relowner) AS owner FROM pg_class WHERE relname IN ('loot', 'pane')"
            " UNION SELECT pg_get_userbyid(proowner) FROM pg_proc WHERE proname = 'back_door'"
        )
        assert [row["owner"] for row in owners] == [f"remit_{INSTANCE}_quarantine"]
        assert not await stage.admin.fetchval("SELECT count(*) FROM pg_default_acl")

    on_stage(major, play)


@every_major
def test_nobody_can_call_or_find_a_quarantined_function(major: int | None) -> None:
    async def play(stage: PostgresStage) -> None:
        order, session = await stage.lease()
        await session.execute(
            "SET ROLE NONE; CREATE FUNCTION scratch.lower(varchar) RETURNS text LANGUAGE sql AS 'SELECT ''mine''::text'"
        )
        await revoke(stage, order)
        # A superuser whose search path has the schema: nothing may shadow pg_catalog.lower(text) for it.
        assert await stage.admin.fetchval("SELECT to_regprocedure('scratch.lower(varchar)')") is None
        assert not await stage.admin.fetchval(
            "SELECT has_function_privilege('app_rw', oid, 'EXECUTE') FROM pg_proc"
            " WHERE proname = 'lower' AND pronamespace <> 'pg_catalog'::regnamespace AND prorettype = 'text'::regtype"
        )

    on_stage(major, play)


@every_major
def test_code_that_a_lease_wrote_as_its_group_is_quarantined_where_only_leases_are_in_the_group(
    major: int | None,
) -> None:
    async def play(stage: PostgresStage) -> None:
        order, session = await stage.lease()
        await session.execute(
            "CREATE FUNCTION app.leak() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN new; END';"
            "CREATE TRIGGER leak BEFORE INSERT ON app.orders FOR EACH ROW EXECUTE FUNCTION app.leak();"
            "CREATE TABLE app.notes (id int); GRANT SELECT ON app.orders TO bystander"
        )
        done = await revoke(stage, order)
        assert fates(done)["trigger leak on app.orders in app"] == "quarantined"
        assert fates(done)["function app.leak() in app"] == "quarantined"
        assert fates(done)["grant to bystander on table app.orders in app"] == "removed"
        assert fates(done)["table app.notes in app"] == "reported"
        assert await stage.admin.fetchval("SELECT tgenabled = 'D' FROM pg_trigger WHERE tgname = 'leak'")

    on_stage(major, play)


@every_major
def test_where_another_login_is_in_the_group_a_guess_is_only_reported(major: int | None) -> None:
    async def play(stage: PostgresStage) -> None:
        await stage.admin.execute("CREATE ROLE legacy LOGIN IN ROLE app_rw")
        order, session = await stage.lease()
        await session.execute("CREATE FUNCTION app.mine() RETURNS int LANGUAGE sql AS 'SELECT 1'")
        done = await revoke(stage, order)
        assert fates(done) == {"function app.mine() in app": "reported"}
        assert await stage.admin.fetchval("SELECT app.mine()") == 1

    on_stage(major, play)


@every_major
def test_with_ddl_notes_exactly_the_leases_own_work_is_moved(major: int | None) -> None:
    async def play(stage: PostgresStage) -> None:
        rogue, his = await stage.lease()
        honest, hers = await stage.lease()
        await his.execute(
            "CREATE TABLE app.loot (id int); CREATE FUNCTION app.f() RETURNS int LANGUAGE sql AS 'SELECT 1'"
        )
        await hers.execute("CREATE TABLE app.report (id int)")
        done = await revoke(stage, rogue)
        assert fates(done) == {"table app.loot in app": "re-owned", "function app.f() in app": "quarantined"}
        await hers.execute("INSERT INTO app.report VALUES (1)")
        assert fates(await revoke(stage, honest)) == {"table app.report in app": "re-owned"}

    on_stage(major, play, user="remit_broker", prepare=BROKER, install=True)


@every_major
def test_altering_an_applications_table_does_not_take_it_away(major: int | None) -> None:
    async def play(stage: PostgresStage) -> None:
        order, session = await stage.lease()
        await session.execute("ALTER TABLE app.orders ADD COLUMN note text; CREATE INDEX ON app.orders (note)")
        done = await revoke(stage, order)
        assert set(fates(done).values()) <= {"reported"}
        owner = await stage.admin.fetchval("SELECT relowner::regrole::text FROM pg_class WHERE relname = 'orders'")
        assert owner == "app_rw"

    on_stage(major, play, user="remit_broker", prepare=BROKER, install=True)


def test_kept_groups_keep_what_their_leases_make() -> None:
    async def play(stage: PostgresStage) -> None:
        order, session = await stage.lease()
        await session.execute("CREATE FUNCTION app.migrated() RETURNS int LANGUAGE sql AS 'SELECT 7'")
        assert fates(await revoke(stage, order)) == {"function app.migrated() in app": "kept"}
        assert await stage.admin.fetchval("SELECT app.migrated()") == 7

    on_stage(NEWEST, play, options={"keep": "app_rw"})


@every_major
def test_prepared_transactions_are_rolled_back(major: int | None) -> None:
    async def play(stage: PostgresStage) -> None:
        order, session = await stage.lease()
        await session.execute("BEGIN; INSERT INTO app.orders VALUES (9); PREPARE TRANSACTION 'as group'")
        await session.execute(
            "SET ROLE NONE; CREATE TABLE scratch.t (id int); BEGIN; INSERT INTO scratch.t VALUES (1);"
        )
        await session.execute("LOCK TABLE scratch.t; PREPARE TRANSACTION 'it''s own'")
        done = await revoke(stage, order)
        assert list(fates(done).values()).count("removed") == 2
        assert not await stage.admin.fetchval("SELECT count(*) FROM pg_prepared_xacts")

    on_stage(major, play, settings={"max_prepared_transactions": "5"})


@every_major
def test_what_was_left_in_another_database_is_found(major: int | None) -> None:
    async def play(stage: PostgresStage) -> None:
        other = await connect(stage.server.address(database="postgres"), stage.server.password)
        await other.execute("CREATE SCHEMA open; GRANT ALL ON SCHEMA open TO PUBLIC")
        order, _ = await stage.lease()
        there = await connect(stage.server.address(user=order.principal, database="postgres"), order.secret)
        stage.sessions += [there, other]
        await there.execute("SET ROLE NONE; CREATE TABLE open.hidden (id int)")
        done = await revoke(stage, order)
        assert fates(done) == {"table open.hidden in postgres": "re-owned"}

    on_stage(major, play)


@every_major
def test_a_dozen_rogues_go_in_one_batch(major: int | None) -> None:
    async def play(stage: PostgresStage) -> None:
        leases = [await stage.lease() for _ in range(12)]
        for number, (_, session) in enumerate(leases):
            await session.execute(f"SET ROLE NONE; CREATE TABLE scratch.t{number} (id int)")
        done = await stage.broker.revoke([revoke_order(order) for order, _ in leases])
        assert all(one.gone and isinstance(one.proof, Proved) for one in done)
        assert [len(one.left_behind) for one in done] == [1] * 12

    on_stage(major, play)


@pytest.mark.parametrize("major", [major for major in POSTGRES_MAJORS if major and major >= 16] or [None])
def test_from_16_on_a_maker_of_roles_with_admin_on_the_groups_is_enough(major: int | None) -> None:
    async def play(stage: PostgresStage) -> None:
        order, session = await stage.lease()
        await session.execute("INSERT INTO app.orders VALUES (5)")
        await session.execute(
            "SET ROLE NONE; CREATE TABLE scratch.loot (id int); GRANT SELECT ON scratch.loot TO PUBLIC"
        )
        done = await revoke(stage, order)
        assert done.sessions_ended == 1
        assert fates(done)["table scratch.loot in app"] == "re-owned"
        checks = {check.title: check.ok for check in await stage.broker.check()}
        assert checks["the broker can mint and revoke"] and checks["the broker holds no more than it needs"]

    on_stage(
        major,
        play,
        user="remit_broker",
        prepare="CREATE ROLE remit_broker LOGIN CREATEROLE PASSWORD '@password@';"
        "GRANT app_rw, app_ro TO remit_broker WITH ADMIN TRUE, INHERIT FALSE, SET FALSE;",
    )


@pytest.mark.parametrize("major", [major for major in POSTGRES_MAJORS if major and major >= 16] or [None])
def test_with_ownership_of_the_lease_set_role_is_refused_and_all_is_its_own(major: int | None) -> None:
    async def play(stage: PostgresStage) -> None:
        order, session = await stage.lease()
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await session.execute("SET ROLE app_rw")
        await session.execute("CREATE TABLE app.result (id int)")
        assert fates(await revoke(stage, order)) == {"table app.result in app": "re-owned"}

    on_stage(major, play, options={"ownership": "lease"})


@pytest.mark.parametrize(
    ("statement", "code"),
    [
        ("ALTER ROLE app_rw LOGIN", "access.role.can_login"),
        ("ALTER ROLE app_rw SUPERUSER", "access.role.too_powerful"),
        ("ALTER ROLE app_rw CREATEROLE", "access.role.too_powerful"),
        ("GRANT pg_execute_server_program TO app_rw", "access.role.too_powerful"),
        ("DROP OWNED BY app_rw CASCADE; DROP ROLE app_rw", "access.role.missing"),
    ],
)
def test_a_group_that_would_outlive_any_revocation_is_refused(statement: str, code: str) -> None:
    async def play(stage: PostgresStage) -> None:
        await stage.admin.execute(statement)
        with pytest.raises(Misconfigured) as caught:
            await stage.broker.mint(mint_order(stage))
        assert caught.value.code == code

    on_stage(NEWEST, play)


@every_major
def test_after_a_crash_between_lock_and_drop_the_same_call_finishes(major: int | None) -> None:
    async def play(stage: PostgresStage) -> None:
        order, session = await stage.lease()
        await stage.admin.execute(f'ALTER ROLE "{order.principal}" NOLOGIN PASSWORD NULL')
        with pytest.raises(Conflict) as caught:
            await stage.broker.mint(order)
        assert caught.value.code == "access.lease.revoking"
        assert (await revoke(stage, order)).sessions_ended == 1
        assert await has_ended(session)

    on_stage(major, play)


def test_a_lease_that_cannot_go_does_not_hold_the_others() -> None:
    async def play(stage: PostgresStage) -> None:
        stuck, _ = await stage.lease()
        free, _ = await stage.lease()
        await stage.admin.execute(f'CREATE DATABASE closed OWNER "{stuck.principal}"')
        other = await connect(stage.server.address(database="closed"), stage.server.password)
        await other.execute(f'CREATE SCHEMA mine AUTHORIZATION "{stuck.principal}"')
        await other.close()
        await stage.admin.execute("UPDATE pg_database SET datallowconn = false WHERE datname = 'closed'")
        done = await stage.broker.revoke([revoke_order(stuck), revoke_order(free)])
        assert [one.gone for one in done] == [False, True]
        assert "closed" in done[0].proof.why  # type: ignore[union-attr]
        assert not await stage.admin.fetchval("SELECT rolcanlogin FROM pg_roles WHERE rolname = $1", stuck.principal)

    on_stage(NEWEST, play)


def test_the_servers_log_never_holds_the_secret() -> None:
    async def play(stage: PostgresStage) -> None:
        order, _ = await stage.lease()
        await revoke(stage, order)
        log = (stage.server.data.parent / "log").read_text()
        assert order.principal in log
        assert order.secret not in log

    on_stage(NEWEST, play, settings={"log_statement": "all", "log_min_duration_statement": "0"})


@every_major
def test_the_reaper_ends_what_outlived_its_expiry_without_remit(major: int | None) -> None:
    async def play(stage: PostgresStage) -> None:
        late, session = await stage.lease()
        _, living = await stage.lease()
        await stage.broker.renew([late.principal], datetime.now(UTC) - timedelta(seconds=1))
        assert not await has_ended(session), "VALID UNTIL alone ends no session"
        assert await stage.admin.fetchval(f"SELECT remit_{INSTANCE}.reap()") == 1
        await asyncio.sleep(0.1)
        assert await has_ended(session)
        assert not await has_ended(living)

    on_stage(major, play, user="remit_broker", prepare=BROKER, install=True)


def test_the_installed_functions_act_on_no_foreign_role_and_no_foreign_group() -> None:
    async def play(stage: PostgresStage) -> None:
        broker = await connect(stage.server.address(user="remit_broker", database="app"), stage.server.password)
        stage.sessions.append(broker)
        schema = f"remit_{INSTANCE}"
        for call in (
            f"SELECT {schema}.lock(ARRAY['{stage.server.user}'])",
            f"SELECT {schema}.remove(ARRAY['{stage.server.user}'])",
            f"SELECT {schema}.terminate(ARRAY[10]::oid[])",
            f"SELECT {schema}.clean('app_rw', 10, '{{}}', 0, true, '{{}}')",
            f"SELECT {schema}.mint('{principal()}', 'SCRAM-SHA-256$1:Y=$Y=:Y=', now(), 1, 'bystander', false, '')",
        ):
            with pytest.raises(asyncpg.PostgresError) as caught:
                await broker.execute(call)
            assert caught.value.sqlstate in ("RM001", "RM002")
        for call in (f"SELECT {schema}.set_aside(1259, 1, 'x')", f"DELETE FROM {schema}.ddl", "CREATE ROLE x"):
            with pytest.raises(asyncpg.InsufficientPrivilegeError):
                await broker.execute(call)

    on_stage(OLDEST, play, user="remit_broker", prepare=BROKER, install=True)


def test_doctor_reports_a_superuser_and_trust() -> None:
    async def play(stage: PostgresStage) -> None:
        before = {check.title: check.ok for check in await stage.broker.check()}
        assert not before["the broker holds no more than it needs"]
        assert before["logins are checked by SCRAM-SHA-256"]
        await stage.admit_anyone()
        after = {check.title: check.ok for check in await stage.broker.check()}
        assert not after["logins are checked by SCRAM-SHA-256"] and not after["pg_hba.conf asks for SCRAM"]

    on_stage(NEWEST, play)


def test_a_target_that_became_another_server_is_refused() -> None:
    async def play(stage: PostgresStage) -> None:
        assert stage.broker.instance.startswith("sys-")
        other = PostgresBroker(replace(stage.target, instance="sys-1"), stage.server.password)
        with pytest.raises(Misconfigured) as caught:
            await other.open()
        assert caught.value.code == "access.target.changed"

    on_stage(NEWEST, play)


def test_a_principal_that_cannot_reach_its_database_is_rejected_and_can_be_revoked() -> None:
    async def play(stage: PostgresStage) -> None:
        await stage.admin.execute("REVOKE CONNECT ON DATABASE app FROM PUBLIC")
        order = mint_order(stage)
        with pytest.raises(Exception, match="does not work"):
            await stage.broker.mint(order)
        assert await stage.broker.sweep(INSTANCE) == [order.principal]
        await revoke(stage, order)

    on_stage(NEWEST, play)


def test_a_broker_whose_server_is_dead_does_not_open() -> None:
    async def play(stage: PostgresStage) -> None:
        await stage.stop()
        with pytest.raises(Unavailable):
            await stage.broker.open()
        with pytest.raises(Unavailable):
            await stage.broker.revoke([RevokeOrder(principal=principal(), secret="x", database="app")])

    on_stage(NEWEST, play)
