"""What MariaDB leaves alive after a lock or a drop, and does not after a revocation: on a real server."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Coroutine, Iterator, Mapping
from typing import Any

import pymysql
import pytest
from pymysql.connections import Connection

from mariadb_stage import MariaServer, MariaStage, mariadb_server, mariadb_stage
from remit.access.model import Proved, Revocation
from remit.access.testing import mint_order, revoke_order
from remit.kernel.errors import Misconfigured


@pytest.fixture(scope="module")
def server() -> Iterator[MariaServer]:
    with mariadb_server("--general-log", "--general-log-file=general.log", "--plugin-load-add=auth_ed25519") as running:
        yield running


def play(
    server: MariaServer,
    scene: Callable[[MariaStage], Coroutine[Any, Any, None]],
    options: Mapping[str, str] | None = None,
    host: str = "",
) -> None:
    async def run() -> None:
        async with mariadb_stage(server, options=options, host=host) as stage:
            await scene(stage)

    asyncio.run(run())


async def revoked(stage: MariaStage, order: Any) -> Revocation:
    [done] = await stage.broker.revoke([revoke_order(order)])
    assert done.gone and isinstance(done.proof, Proved), done
    return done


def test_a_lock_and_a_drop_alone_leave_a_session_at_work(server: MariaServer) -> None:
    async def scene(stage: MariaStage) -> None:
        order, session = await stage.lease()
        server.query(f"ALTER USER `{order.principal}`@`%` ACCOUNT LOCK")
        await session.work()
        server.query(f"DROP USER `{order.principal}`@`%`")
        await session.work()
        assert (await revoked(stage, order)).sessions_ended == 1
        with pytest.raises(pymysql.Error):
            await session.work()

    play(server, scene)


def test_locks_and_temporary_tables_go_with_the_session(server: MariaServer) -> None:
    async def scene(stage: MariaStage) -> None:
        order, session = await stage.lease()
        session.run("SELECT GET_LOCK('nightly', 0)")
        session.run("CREATE TEMPORARY TABLE app.scratch (x INT)")
        await revoked(stage, order)
        assert server.query("SELECT IS_FREE_LOCK('nightly')") == [(1,)]

    play(server, scene)


def test_an_anonymous_account_does_not_shadow_a_lease(server: MariaServer) -> None:
    async def scene(stage: MariaStage) -> None:
        server.query("CREATE USER ''@'localhost' IDENTIFIED BY 'nobody'")
        order, session = await stage.lease()
        assert session.run("SELECT CURRENT_USER()") == [(f"{order.principal}@localhost",)]
        await revoked(stage, order)
        assert not server.query(f"SELECT 1 FROM mysql.global_priv WHERE user = '{order.principal}'")
        assert not next(one for one in await stage.broker.check() if "anonymous" in one.title).ok

    play(server, scene)


def test_code_in_the_name_of_a_lease_goes_with_it(server: MariaServer) -> None:
    async def scene(stage: MariaStage) -> None:
        order, session = await stage.lease()
        session.run("CREATE EVENT app.later ON SCHEDULE EVERY 1 HOUR DO DELETE FROM app.orders")
        session.run("CREATE VIEW app.seen AS SELECT id FROM app.orders")
        session.run("CREATE TRIGGER app.felt BEFORE INSERT ON app.orders FOR EACH ROW SET @x = 1")
        session.run("CREATE PROCEDURE app.does() SELECT 1")
        done = await revoked(stage, order)
        assert {(one.what, one.fate) for one in done.left_behind} == {
            ("event app.later", "removed"),
            ("view app.seen", "removed"),
            ("trigger app.felt", "removed"),
            ("procedure app.does", "removed"),
        }
        assert not server.query("SELECT 1 FROM information_schema.events")
        server.query("INSERT INTO app.orders SELECT MAX(id) + 1 FROM app.orders")

    play(server, scene)


def test_what_a_lease_made_is_kept_where_that_is_wished_but_for_events(server: MariaServer) -> None:
    async def scene(stage: MariaStage) -> None:
        order, session = await stage.lease()
        session.run("CREATE EVENT app.later ON SCHEDULE EVERY 1 HOUR DO DELETE FROM app.orders")
        session.run("CREATE VIEW app.seen AS SELECT id FROM app.orders")
        fates = {one.what: one.fate for one in (await revoked(stage, order)).left_behind}
        assert fates == {"event app.later": "removed", "view app.seen": "kept"}
        server.query("DROP VIEW app.seen")

    play(server, scene, {"made": "keep"})


@pytest.mark.parametrize(("option", "fate", "left"), [("report", "reported", 1), ("rollback", "removed", 0)])
def test_a_prepared_transaction_outlives_its_session_and_is_told(
    server: MariaServer, option: str, fate: str, left: int
) -> None:
    async def scene(stage: MariaStage) -> None:
        order, session = await stage.lease()
        for statement in ("XA START 'x1'", "DELETE FROM app.orders WHERE id = 1", "XA END 'x1'", "XA PREPARE 'x1'"):
            session.run(statement)
        done = await revoked(stage, order)
        assert [(one.what, one.fate) for one in done.left_behind] == [("prepared XA transaction 'x1'", fate)]
        assert len(server.query("XA RECOVER")) == left
        if left:
            server.query("XA ROLLBACK 'x1'")

    play(server, scene, {"xa": option})


def test_a_session_that_changed_to_another_account_is_ended(server: MariaServer) -> None:
    async def scene(stage: MariaStage) -> None:
        order, session = await stage.lease()
        end = time.monotonic() + 60
        while not stage.broker._seen[order.principal]:
            assert time.monotonic() < end
            await asyncio.sleep(0.05)
        change_user(session.connection, "other", "others-own-word")
        assert session.run("SELECT CURRENT_USER()") == [("other@%",)]
        done = await revoked(stage, order)
        assert [one.what for one in done.left_behind] == ["a session that changed to the account `other`"]
        with pytest.raises(pymysql.Error):
            session.run("SELECT 1")

    play(server, scene, {"census": "1"})


def change_user(connection: Any, user: str, secret: str) -> None:
    """COM_CHANGE_USER, which PyMySQL does not speak: it answers the switch that the server asks for."""
    body = user.encode() + b"\0" + b"\0" + b"\0" + (45).to_bytes(2, "little") + b"mysql_native_password\0" + b"\0"
    connection.password = secret.encode()
    connection._execute_command(0x11, body)
    packet = connection._read_packet()
    if packet.is_auth_switch_request():
        packet.read_uint8()
        plugin = packet.read_string()
        connection._process_auth(plugin, packet)


class Hesitant(Connection):
    """A client that stops when the server has looked its account up and asks for the secret."""

    asked: threading.Event
    go_on: threading.Event

    def _get_server_information(self) -> None:
        super()._get_server_information()
        self._auth_plugin_name = "caching_sha2_password"

    def _process_auth(self, plugin_name: Any, auth_packet: Any, handler: Any = None) -> Any:
        self.asked.set()
        self.go_on.wait(60)
        return super()._process_auth(plugin_name, auth_packet, handler)


def test_a_login_that_was_halfway_in_at_the_lock_does_not_come_up_after_it(server: MariaServer) -> None:
    async def scene(stage: MariaStage) -> None:
        order, _ = await stage.lease()
        client = Hesitant(
            host=server.host,
            port=server.port,
            user=order.principal,
            password=order.secret,
            ssl_disabled=True,
            defer_connect=True,
        )
        client.asked, client.go_on = threading.Event(), threading.Event()
        login = asyncio.create_task(asyncio.to_thread(_outcome, client))
        assert await asyncio.to_thread(client.asked.wait, 10)
        await revoked(stage, order)
        client.go_on.set()
        assert not await login
        assert not server.query(f"SELECT 1 FROM information_schema.processlist WHERE user = '{order.principal}'")

    play(server, scene)


def _outcome(client: Any) -> bool:
    try:
        client.connect()
    except (pymysql.Error, OSError):
        return False
    with client, client.cursor() as cursor:
        cursor.execute("SELECT 1")
    return True


def test_the_secret_is_in_no_log_of_the_server(server: MariaServer) -> None:
    async def scene(stage: MariaStage) -> None:
        order, _ = await stage.lease()
        await revoked(stage, order)
        said = b"".join((server.folder / name).read_bytes() for name in ("log", "data/general.log"))
        assert order.principal.encode() in said
        assert order.secret.encode() not in said

    play(server, scene)


def test_a_lease_holds_no_more_sessions_than_it_may(server: MariaServer) -> None:
    async def scene(stage: MariaStage) -> None:
        order = mint_order(stage)
        minted = await stage.broker.mint(order)
        for patience in range(50):  # the broker's own login of the mint may not have left yet
            try:
                await stage.use(minted, order.secret)
                break
            except pymysql.Error:
                assert patience < 49, "the one session is the task's"
                await asyncio.sleep(0.05)
        with pytest.raises(pymysql.Error, match="max_user_connections"):
            server.connect(order.principal, order.secret)

    play(server, scene, {"connections": "1"})


def test_a_role_with_rights_on_everything_is_refused(server: MariaServer) -> None:
    async def scene(stage: MariaStage) -> None:
        with pytest.raises(Misconfigured) as refused:
            await stage.broker.mint(mint_order(stage, role="app_all"))
        assert refused.value.code == "access.mariadb.role"
        assert not await stage.broker.sweep("test0001")

    play(server, scene)


def test_a_lease_may_only_what_its_role_may(server: MariaServer) -> None:
    async def scene(stage: MariaStage) -> None:
        _, session = await stage.lease(role="app_ro")
        assert session.run("SELECT COUNT(*) > 0 FROM app.orders") == [(1,)]
        with pytest.raises(pymysql.Error, match="denied"):
            await session.work()

    play(server, scene)


def test_ed25519_and_a_unix_socket_work_as_well(server: MariaServer) -> None:
    async def scene(stage: MariaStage) -> None:
        order, session = await stage.lease()
        assert session.run("SELECT CURRENT_ROLE()") == [("app_rw",)]
        await revoked(stage, order)

    play(server, scene, {"auth": "ed25519"}, str(server.folder / "s"))


def test_a_server_that_asks_for_the_secret_in_clear_does_not_get_it(server: MariaServer) -> None:
    from remit.providers.mariadb.client import _Refuse

    with pytest.raises(pymysql.err.OperationalError, match="in a way that would show it"):
        _Refuse(None).authenticate(None)


def test_a_refusal_in_the_way_of_another_accounts_method_is_one(server: MariaServer) -> None:
    """For a name that is gone the server takes up the method of some other account: 1698 where it has no password."""
    sockets = ", ".join(f"local{number}@'%'" for number in range(60))

    async def scene(stage: MariaStage) -> None:
        orders = [mint_order(stage) for _ in range(6)]
        for order in orders:
            await stage.broker.mint(order)
        server.query("CREATE USER " + sockets.replace("'%'", "'%' IDENTIFIED VIA unix_socket"))
        try:
            done = await stage.broker.revoke([revoke_order(order) for order in orders])
        finally:
            server.query(f"DROP USER {sockets}")
        refusals = [one.proof.refusal for one in done if isinstance(one.proof, Proved)]
        assert len(refusals) == 6 and any(said.startswith("1698") for said in refusals), done

    play(server, scene)
