"""Leases in the hands of clients that know nothing of Remit, and what the login probe tells apart."""

from __future__ import annotations

import asyncio
import os
import subprocess

import asyncpg
import pytest

from postgres_stage import application_server, connect, postgres_stage
from remit.access.testing import mint_order, revoke_order
from remit.providers.postgres import Admitted, Refused, Unreached, environment, login, scram_verifier
from servers import POSTGRES_MAJORS, postgres_server

every_major = pytest.mark.parametrize("major", POSTGRES_MAJORS)
NEWEST = max((major for major in POSTGRES_MAJORS if major), default=None)


@every_major
def test_psql_works_with_the_variables_of_a_lease_and_is_refused_after_it(major: int | None) -> None:
    async def play() -> None:
        with application_server(major) as server:
            async with postgres_stage(server) as stage:
                order = mint_order(stage)
                minted = await stage.broker.mint(order)
                variables = environment(minted.settings, order.secret)

                def psql() -> subprocess.CompletedProcess[str]:
                    command = [server.bin / "psql", "-XAtc", "SELECT current_user, count(*) FROM app.orders"]
                    env = {"PATH": os.environ["PATH"], **variables}
                    return subprocess.run(command, env=env, capture_output=True, text=True, timeout=60)

                assert psql().stdout.strip() == "app_rw|1"
                await stage.broker.revoke([revoke_order(order)])
                refused = psql()
                assert refused.returncode == 2
                assert "password authentication failed" in refused.stderr

    asyncio.run(play())


@pytest.mark.parametrize("iterations", [1, 4096])
def test_the_verifier_is_what_the_server_itself_would_accept(iterations: int) -> None:
    async def play() -> None:
        with postgres_server(NEWEST) as server:
            admin = await connect(server.address(), server.password)
            verifier = scram_verifier("p'w$1", salt=b"0123456789abcdef", iterations=iterations)
            quoted = verifier.replace("'", "''")
            await admin.execute(f"CREATE ROLE judge LOGIN PASSWORD '{quoted}'")
            assert await admin.fetchval("SELECT rolpassword FROM pg_authid WHERE rolname = 'judge'") == verifier
            await (await connect(server.address(user="judge"), "p'w$1")).close()
            with pytest.raises(asyncpg.InvalidPasswordError):
                await connect(server.address(user="judge"), "p'w$2")
            await admin.close()

    asyncio.run(play())


def test_the_probe_tells_a_wrong_password_from_every_other_refusal() -> None:
    async def play() -> None:
        with postgres_server(NEWEST) as server:
            admin = await connect(server.address(), server.password)
            await admin.execute("CREATE ROLE asleep NOLOGIN PASSWORD 'x'; CREATE ROLE limited LOGIN PASSWORD 'x'")
            await admin.execute("ALTER ROLE limited CONNECTION LIMIT 0")
            right = await login(server.address(), server.password)
            wrong = await login(server.address(), "wrong")
            unknown = await login(server.address(user="nobody"), "wrong")
            asleep = await login(server.address(user="asleep"), "x")
            limited = await login(server.address(user="limited"), "x")
            nowhere = await login(server.address(database="nowhere"), server.password)
            await admin.close()
            assert right == Admitted(asked=True)
            assert [isinstance(a, Refused) and a.is_authentication for a in (wrong, unknown)] == [True, True]
            others = [a.sqlstate if isinstance(a, Refused) else "" for a in (asleep, limited, nowhere)]
            assert others == ["28000", "53300", "3D000"]
            assert not any(isinstance(a, Refused) and a.is_authentication for a in (asleep, limited, nowhere))
            server_address = server.address()
        assert isinstance(await login(server_address, "any"), Unreached)

    asyncio.run(play())


def test_a_password_is_never_sent_in_clear_or_as_md5() -> None:
    async def play() -> None:
        with postgres_server(NEWEST) as server:
            for method in ("password", "md5"):
                admin = await connect(server.address(), server.password)
                await admin.execute(f"SET client_min_messages = error; SET password_encryption = '{_kind(method)}'")
                await admin.execute(f"CREATE ROLE {method}_user LOGIN PASSWORD 'x'")
                server.set_hba(f"host all {method}_user all {method}\nhost all all all scram-sha-256\n")
                await admin.fetchval("SELECT pg_reload_conf()")
                await admin.close()
                for _ in range(50):
                    attempt = await login(server.address(user=f"{method}_user"), "x")
                    if isinstance(attempt, Unreached):
                        break
                    await asyncio.sleep(0.02)
                assert isinstance(attempt, Unreached) and "never sent" in attempt.why

    asyncio.run(play())


def _kind(method: str) -> str:
    return "md5" if method == "md5" else "scram-sha-256"


def test_a_server_that_speaks_something_else_is_unreached_and_costs_no_time() -> None:
    async def play() -> None:
        async def babble(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n" * 100)
            await writer.drain()
            writer.close()

        server = await asyncio.start_server(babble, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        from remit.providers.postgres import Address

        address = Address(host="127.0.0.1", port=port, user="u", database="d")
        assert isinstance(await login(address, "x"), Unreached)
        server.close()
        await server.wait_closed()

    asyncio.run(play())
