"""What OpenBao does that a broker must not be taken in by: each as it was seen on a real server."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import asyncpg
import pytest

from openbao_broker_stage import KEYS, TOKEN_ROLE, OpenBaoStage, Prepared, openbao_stage, prepared_openbao
from remit.access.brokers.openbao import OpenBaoBroker, OpenBaoBrokerFactory
from remit.access.brokers.port import Check
from remit.access.brokers.presentation import Credential
from remit.access.model import Minted, Proved, Target, Unproved
from remit.access.testing import INSTANCE, mint_order, principal, revoke_order
from remit.kernel.errors import Misconfigured, Rejected, Unavailable
from servers import postgres_server

TREE = "token policy=app-tree"
ROLES = {"keys": KEYS, "tree": TREE, "read": "token policy=app-read", "db": "database/creds/read policy=app-db"}


@pytest.fixture(scope="module")
def made() -> Iterator[Prepared]:
    with prepared_openbao() as running:
        yield running


def on_stage(made: Prepared, play: Any, **how: Any) -> Any:
    async def run() -> Any:
        async with openbao_stage(made, **{"roles": ROLES, **how}) as stage:
            return await play(stage)

    return asyncio.run(run())


def presented(minted: Minted, secret: str) -> Any:
    credential = Credential(target="vault", role="keys", settings=minted.settings, secret=secret)
    return OpenBaoBrokerFactory().present(credential)


def test_what_an_engine_gave_reaches_the_task_and_the_token_that_read_it_does_not(made: Prepared) -> None:
    async def play(stage: OpenBaoStage) -> None:
        order = mint_order(stage, role=KEYS)
        shown = presented(await stage.broker.mint(order), order.secret)
        assert shown.files["vault-keys.certificate"].startswith("-----BEGIN CERTIFICATE-----")
        assert shown.withheld
        assert order.secret not in str([dict(shown.files), dict(shown.secrets), dict(shown.variables)])

    on_stage(made, play)


def test_the_same_order_twice_reads_the_engine_once(made: Prepared) -> None:
    async def play(stage: OpenBaoStage) -> None:
        order = mint_order(stage, role=KEYS)
        first = await stage.broker.mint(order)
        assert (await stage.broker.mint(order)).settings == first.settings

    on_stage(made, play)


def test_a_restarted_remit_still_waits_for_the_engines_lease(made: Prepared) -> None:
    async def play(stage: OpenBaoStage) -> None:
        order = mint_order(stage, role=KEYS)
        await stage.broker.mint(order)
        again = OpenBaoBroker(stage.target, made.token)
        await again.open()
        [done] = await again.revoke([revoke_order(order)])
        await again.close()
        assert isinstance(done.proof, Proved)
        assert "pki/issue/web" in done.left_behind[0].what

    on_stage(made, play)


def test_tokens_that_a_task_made_with_its_token_end_with_it(made: Prepared) -> None:
    async def play(stage: OpenBaoStage) -> None:
        order = mint_order(stage, role=TREE)
        await stage.broker.mint(order)
        status, child = await asyncio.to_thread(made.ask_as, order.secret, "POST", "auth/token/create", {})
        token = child["auth"]["client_token"]
        assert (status, made.ask_as(token, "GET", "auth/token/lookup-self")[0]) == (200, 200)
        await stage.broker.revoke([revoke_order(order)])
        assert made.ask_as(token, "GET", "auth/token/lookup-self")[0] == 403

    on_stage(made, play)


def test_a_token_cannot_be_prolonged_past_its_hard_end(made: Prepared) -> None:
    async def play(stage: OpenBaoStage) -> int:
        order = mint_order(stage, role="token policy=app-read")
        await stage.broker.mint(order.__class__(**{**_fields(order), "until": order.expires}))
        await stage.broker.renew([order.principal], order.expires + timedelta(hours=9))
        _, seen = made.ask_as(order.secret, "GET", "auth/token/lookup-self")
        return int(seen["data"]["ttl"])

    assert on_stage(made, play) <= 301


def _fields(order: Any) -> dict[str, Any]:
    return {name: getattr(order, name) for name in order.__slots__}


def test_a_sealed_server_refuses_everybody_and_proves_nothing(made: Prepared) -> None:
    async def play(stage: OpenBaoStage) -> None:
        order = mint_order(stage, role="token policy=app-read")
        await stage.broker.mint(order)
        await stage.relay.cut()
        await stage.relay.open()
        stage.relay.sealed = True
        sealed = OpenBaoBroker(_at(stage.target, stage.relay.port), made.token)
        with pytest.raises(Unavailable):
            await sealed.open()
        await sealed.close()

    on_stage(made, play)


def _at(target: Target, port: int) -> Target:
    return Target(**{**{name: getattr(target, name) for name in target.__slots__}, "port": port})


def test_a_broker_that_lost_its_own_login_proves_nothing(made: Prepared) -> None:
    """A refusal of everybody, our own token included, is no word about the lease."""

    async def play(stage: OpenBaoStage) -> None:
        order = mint_order(stage, role="token policy=app-read")
        await stage.broker.mint(order)
        stage.relay.forced = "nobody-at-all"
        with pytest.raises(Rejected):
            await stage.broker.revoke([revoke_order(order)])

    on_stage(made, play)


def test_batch_tokens_which_nobody_can_revoke_are_not_minted(made: Prepared) -> None:
    made.bao.write("auth/token/roles/remit", {
        **TOKEN_ROLE, "token_type": "batch", "renewable": False, "token_explicit_max_ttl": 0,
    })  # fmt: skip

    async def play(stage: OpenBaoStage) -> Check:
        with pytest.raises(Rejected):
            await stage.broker.mint(mint_order(stage, role="token policy=app-read"))
        assert await stage.broker.sweep(INSTANCE) == []
        return (await stage.broker.check())[3]

    try:
        assert "batch tokens cannot be revoked" in on_stage(made, play).detail
    finally:
        made.bao.write("auth/token/roles/remit", TOKEN_ROLE)


def test_the_policy_of_the_manifest_is_enough_and_no_more(made: Prepared) -> None:
    async def play(stage: OpenBaoStage) -> list[Check]:
        return list(await stage.broker.check())

    full = {**ROLES, "pki": "pki/issue/web policy=app-pki common_name=x.example"}
    assert [each.ok for each in on_stage(made, play, roles=full)] == [True, True, True, True, False]


def test_a_broker_with_a_root_token_is_told_so(made: Prepared) -> None:
    async def play(stage: OpenBaoStage) -> Check:
        return (await stage.broker.check())[2]

    said = on_stage(made, play, token=made.bao.root)
    assert not said.ok
    assert "more than is needed" in said.detail


def test_a_policy_that_no_role_uses_is_told(made: Prepared) -> None:
    async def play(stage: OpenBaoStage) -> Check:
        return (await stage.broker.check())[3]

    assert "it allows `app-tree`" in on_stage(made, play, roles={"keys": KEYS}).detail


def test_a_lease_outlives_the_login_of_an_approle(made: Prepared) -> None:
    """Children of a login end with it: leases are nobody's children."""
    role_id, secret_id = made.approle()

    async def play(stage: OpenBaoStage) -> None:
        order = mint_order(stage, role="token policy=app-read")
        session = await stage.use(await stage.broker.mint(order), order.secret)
        _, seen = made.ask_as(made.bao.root, "LIST", "auth/token/accessors")
        for accessor in seen["data"]["keys"]:
            _, found = made.ask_as(made.bao.root, "POST", "auth/token/lookup-accessor", {"accessor": accessor})
            if found.get("data", {}).get("path") == "auth/approle/login":
                made.ask_as(made.bao.root, "POST", "auth/token/revoke-accessor", {"accessor": accessor})
        await session.work()
        [done] = await stage.broker.revoke([revoke_order(order)])
        assert isinstance(done.proof, Proved)

    on_stage(made, play, token=secret_id, user=role_id)


@pytest.mark.parametrize(
    "role",
    ["", "token", "database/creds/read", "token policy=root", "sys/seal policy=x", "token policy=default",
     "auth/token/create policy=x", "token policy=a b=c", "x policy=a", "../sys/x policy=a"],
)  # fmt: skip
def test_a_role_is_a_path_of_an_engine_under_a_policy_of_its_own(role: str) -> None:
    with pytest.raises(Misconfigured):
        OpenBaoBrokerFactory().make(_target(roles={"x": role or " "}), "secret")


def test_the_brokers_token_goes_over_https_or_to_this_machine() -> None:
    with pytest.raises(Misconfigured):
        OpenBaoBrokerFactory().make(_target(host="bao.example", options={"tls": "false"}), "secret")


def _target(**changes: Any) -> Target:
    values: dict[str, Any] = {
        "name": "vault", "system": "openbao", "host": "127.0.0.1", "port": 8200, "database": "", "user": "",
        "roles": {"read": "token policy=app-read"},
    }  # fmt: skip
    return Target(**(values | changes))


# PostgreSQL behind OpenBao.

_CREATION = """CREATE ROLE "{{name}}" LOGIN PASSWORD '{{password}}' VALID UNTIL '{{expiration}}'"""


def behind(made: Prepared, play: Any) -> None:
    """OpenBao's database engine on a real PostgreSQL."""
    with postgres_server() as server:
        where = server.address(database="postgres")
        made.bao.write("sys/mounts/database", {"type": "database"})
        url = f"postgresql://{{{{username}}}}:{{{{password}}}}@{where.host}:{where.port}/postgres?sslmode=disable"
        made.bao.write("database/config/pg", {
            "plugin_name": "postgresql-database-plugin", "allowed_roles": "read", "connection_url": url,
            "username": where.user, "password": server.password,
        })  # fmt: skip
        made.bao.write("database/roles/read", {
            "db_name": "pg", "creation_statements": [_CREATION], "default_ttl": "5m", "max_ttl": "1h",
        })  # fmt: skip

        async def run() -> None:
            async with openbao_stage(made, roles=ROLES) as stage:
                await play(stage, server)

        try:
            asyncio.run(run())
        finally:
            made.bao.ask("POST", "sys/leases/revoke-force/database")
            made.bao.ask("DELETE", "sys/mounts/database")


async def _login(server: Any, minted: Minted) -> Any:
    where = server.address(database="postgres")
    return await asyncpg.connect(
        host=where.host, port=where.port, database="postgres", user=minted.settings["data_username"],
        password=minted.settings["data_password"], ssl=False, timeout=60,
    )  # fmt: skip


def test_where_openbao_cannot_drop_a_role_the_lease_is_not_contained_until_it_can(made: Prepared) -> None:
    async def play(stage: OpenBaoStage, server: Any) -> None:
        broker = OpenBaoBroker(stage.target, made.token, patience=timedelta(seconds=1))
        await broker.open()
        order = mint_order(stage, role=ROLES["db"])
        minted = await broker.mint(order)
        where = server.address(database="postgres")
        admin = await asyncpg.connect(
            host=where.host, port=where.port, user=where.user, password=server.password, database="postgres", ssl=False
        )
        name = minted.settings["data_username"]
        await admin.execute(f'CREATE TABLE left_over (); ALTER TABLE left_over OWNER TO "{name}"')
        [done] = await broker.revoke([revoke_order(order)])
        assert (done.gone, isinstance(done.proof, Unproved)) == (False, True)
        await (await _login(server, minted)).close()
        [again] = await broker.revoke([revoke_order(order)])
        assert not again.gone, "its token is gone, its login is not"
        await admin.execute("DROP TABLE left_over")
        await asyncio.to_thread(made.ask_as, made.bao.root, "POST", "sys/leases/tidy", {})
        _, leases = made.ask_as(made.bao.root, "LIST", "sys/leases/lookup/database/creds/read")
        for lease in leases["data"]["keys"]:
            made.ask_as(
                made.bao.root, "POST", "sys/leases/revoke", {"lease_id": f"database/creds/read/{lease}", "sync": True}
            )
        [last] = await broker.revoke([revoke_order(order)])
        assert isinstance(last.proof, Proved), last.proof
        with pytest.raises(asyncpg.PostgresError):
            await _login(server, minted)
        await admin.close()
        await broker.close()

    behind(made, play)


def test_a_live_session_behind_openbao_is_named_as_not_seen(made: Prepared) -> None:
    async def play(stage: OpenBaoStage, server: Any) -> None:
        order = mint_order(stage, role=ROLES["db"])
        minted = await stage.broker.mint(order)
        session = await _login(server, minted)
        assert list(await stage.broker.renew([order.principal], order.expires)) == [order.principal]
        [done] = await stage.broker.revoke([revoke_order(order)])
        assert isinstance(done.proof, Proved)
        assert await session.fetchval("SELECT 1") == 1, "OpenBao ends no session: the report must say so"
        assert [left.fate for left in done.left_behind] == ["not seen"]
        await session.close()

    behind(made, play)


def test_names_like_ours_without_our_mark_are_not_swept(made: Prepared) -> None:
    name = principal()
    made.bao.write("auth/token/create", {"display_name": name, "ttl": "1m"})

    async def play(stage: OpenBaoStage) -> Any:
        return await stage.broker.sweep(INSTANCE)

    assert list(on_stage(made, play)) == []
