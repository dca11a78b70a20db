"""Agents far from the control plane: real processes, real clients, cuts and kills."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import sqlite3
import ssl
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

import certificates
from agent_stage import ME, machine, server_of
from installation import Installation, installation
from ports import free_port
from remit.kernel.errors import RemitError
from remit.surface.agent.remote import wire
from remit.surface.agent.remote.identity import NodeIdentity, read_bundle
from remit.surface.agent.remote.server import Server
from remit.trust.spiffe import TrustDomain

DOMAIN = TrustDomain("remit.local")


@pytest.fixture(scope="module")
def shared() -> Iterator[Installation]:
    """A control plane for tests that change nothing but their own machines."""
    with installation() as made:
        yield made


def new_name() -> str:
    return f"m{uuid4().hex[:10]}"


def register(made: Installation, *selectors: str, path: str = "") -> str:
    spiffe_id = f"spiffe://remit.local/far/{path or new_name()}"
    flags = [word for one in selectors for word in ("--selector", one)]
    made.cli("entry", "create", "--spiffe-id", spiffe_id, *flags)
    return spiffe_id


def ledger(made: Installation, type: str) -> list[dict[str, Any]]:
    rows = made.json("ledger", "ls", "--limit", "500")
    return [row for row in rows if row["type"] == type]


def test_a_workload_on_another_machine_gets_its_identity_and_another_node_does_not(shared: Installation) -> None:
    with machine(shared, new_name()) as one, machine(shared, new_name()) as two:
        wanted = register(shared, one.selector, ME)
        one.join()
        two.join()
        found = one.fetch_until(wanted)
        assert found["verified"] is True
        assert "error" in two.fetch()


def test_tokens_come_through_an_agent_and_are_verified_there(shared: Installation) -> None:
    with machine(shared, new_name()) as one:
        wanted = register(shared, one.selector, ME)
        one.join()
        one.fetch_until(wanted)
        assert one.fetch("jwt", "billing")["by_api"] == wanted


def test_an_entry_without_a_selector_of_the_node_is_for_the_control_planes_own_machine(shared: Installation) -> None:
    with machine(shared, new_name()) as one:
        home, far = register(shared, ME), register(shared, one.selector, ME)
        one.join()
        assert home not in one.fetch_until(far)["ids"]


def test_what_a_workload_must_show_itself_is_asked_on_the_node(shared: Installation) -> None:
    with machine(shared, new_name()) as one:
        other, mine = register(shared, one.selector, "unix:path:/no/such/program"), register(shared, one.selector, ME)
        one.join()
        assert other not in one.fetch_until(mine)["ids"]


def test_a_join_token_joins_once(shared: Installation) -> None:
    with machine(shared, new_name()) as one, machine(shared, new_name()) as two:
        token = one.token()
        one.start("--bundle", one.bundle, "--join-token-file", token)
        one.await_ready()
        two.start("--bundle", one.bundle, "--join-token-file", token)
        assert two.ended() == 2
        assert "trust.proof.replayed" in two.printed()


def test_an_agent_refuses_a_server_that_another_bundle_vouches_for(shared: Installation, tmp_path: Path) -> None:
    with installation() as other, machine(shared, new_name()) as one:
        token = one.token()
        one.start("--bundle", one.bundle, "--join-token-file", token, server=server_of(other))
        assert one.ended() == 4
        assert "agent.server.untrusted" in one.printed()


def test_an_evicted_agent_serves_nothing_from_that_moment_and_may_join_again(shared: Installation) -> None:
    with machine(shared, new_name()) as one:
        wanted = register(shared, one.selector, ME)
        one.join()
        one.fetch_until(wanted)
        shared.cli("agent", "evict", f"join_token/{one.name}")
        assert one.ended() == 1
        assert "trust.agent.evicted" in one.printed()
        assert not (one.data / "agent.sock").exists()
        one.join()
        assert wanted in one.fetch_until(wanted)["ids"]


def test_a_banned_machine_never_joins_by_that_name_again(shared: Installation) -> None:
    with machine(shared, new_name()) as one:
        one.join()
        shared.cli("agent", "ban", f"join_token/{one.name}")
        assert one.ended() == 1
        token = one.token()
        one.start("--bundle", one.bundle, "--join-token-file", token)
        assert one.ended() == 1
        assert "trust.agent.banned" in one.printed()


def test_an_entry_that_is_withdrawn_is_gone_from_the_agent(shared: Installation) -> None:
    with machine(shared, new_name()) as one:
        wanted = register(shared, one.selector, ME)
        one.join()
        one.fetch_until(wanted)
        (entry,) = [row["id"] for row in shared.json("entry", "ls") if row["spiffe_id"] == wanted]
        shared.cli("entry", "rm", entry)
        deadline = time.monotonic() + 60
        while "error" not in one.fetch():
            assert time.monotonic() < deadline


def test_a_killed_agent_comes_back_with_the_identity_that_it_kept_sealed(shared: Installation) -> None:
    with machine(shared, new_name()) as one:
        wanted = register(shared, one.selector, ME)
        one.join()
        before = one.until("connected")
        assert one.stop(signal.SIGKILL) == -signal.SIGKILL
        one.start()
        one.await_ready()
        one.fetch_until(wanted)
        assert one.until("connected")["agent"] == before["agent"]
        assert (one.data / "identity").stat().st_mode & 0o777 == 0o600


def test_an_agent_that_is_cut_off_serves_on_says_so_and_comes_back(tmp_path: Path) -> None:
    with installation(REMIT_TRUST_LISTEN=f"127.0.0.1:{free_port()}") as made, machine(made, new_name()) as one:
        wanted = register(made, one.selector, ME)
        one.join()
        first = one.fetch_until(wanted)
        # 1. the control plane goes away: a process that comes now still gets what was fetched ahead.
        made.stop(signal.SIGKILL)
        one.until("away")
        assert one.fetch() == first
        assert "the control plane is away" in one.printed()
        # 2. it comes back, and so does the agent; what was handed out meanwhile is told.
        made.start()
        one.until("connected")
        deadline = time.monotonic() + 60
        while not any(row["data"]["offline"] for row in ledger(made, "trust.svid.handed")):
            assert time.monotonic() < deadline, one.printed()
            time.sleep(0.1)


def test_an_evicted_agent_is_not_put_back_by_who_writes_into_the_database() -> None:
    with installation() as made, machine(made, new_name()) as one:
        one.join()
        database = made.data / "remit.db"
        with contextlib.closing(sqlite3.connect(database)) as connection:
            before = connection.execute("SELECT * FROM trust_agent").fetchone()
        made.cli("agent", "evict", f"join_token/{one.name}")
        made.stop()
        with contextlib.closing(sqlite3.connect(database)) as connection:
            connection.execute(f"REPLACE INTO trust_agent VALUES ({', '.join('?' * len(before))})", before)
            connection.commit()
        made.start()
        assert made.json("agent", "ls") == []


def test_a_client_without_a_certificate_that_counts_gets_no_agents_route(shared: Installation, tmp_path: Path) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE

    async def ask(path: str) -> bytes:
        host, port = server_of(shared).split(":")
        reader, writer = await asyncio.open_connection(host, int(port), ssl=context)
        writer.write(f"GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
        answer = await reader.read()
        writer.close()
        return answer.partition(b"\r\n")[0]

    assert b" 401 " in asyncio.run(ask("/trust/v1/agent/sync"))
    assert b" 404 " in asyncio.run(ask("/api/v1/agents"))
    assert b" 404 " in asyncio.run(ask("/"))
    assert b" 200 " in asyncio.run(ask("/healthz"))


@pytest.mark.parametrize("forged", ["self-signed", "foreign"])
def test_a_certificate_of_nobody_we_know_ends_the_handshake(shared: Installation, tmp_path: Path, forged: str) -> None:
    path = tmp_path / "client.pem"
    path.write_bytes(forged_identity("spiffe://remit.local/remit/agent/join_token/x", by_ca=forged == "foreign"))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.load_cert_chain(path)

    async def ask() -> bytes:
        host, port = server_of(shared).split(":")
        reader, writer = await asyncio.open_connection(host, int(port), ssl=context)
        try:
            writer.write(b"GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            return await reader.read()
        finally:
            writer.transport.abort()

    with contextlib.suppress(ssl.SSLError, ConnectionError):
        assert asyncio.run(ask()) == b""


def test_a_change_reaches_fifty_agents_and_an_eviction_ends_the_one_it_means(shared: Installation) -> None:
    label = f"fleet={new_name()}"
    tokens = [
        shared.admin.post("/api/v1/join-tokens", {"name": new_name(), "labels": [label]})["secret"] for _ in range(50)
    ]
    place, bundle = server_of(shared), shared.root / f"b-{new_name()}"
    bundle.write_text(shared.admin.text("/bundle"))

    async def scenario() -> None:
        host, port = place.split(":")
        agents = [Light(host, int(port), bundle) for _ in tokens]
        await asyncio.gather(*(agent.join(token) for agent, token in zip(agents, tokens, strict=True)))
        wanted = await asyncio.to_thread(register, shared, f"join_token:label:{label}", ME)
        async with asyncio.timeout(60):
            await asyncio.gather(*(agent.until_entry(wanted) for agent in agents))
        await asyncio.to_thread(shared.cli, "agent", "evict", agents[7].agent)
        async with asyncio.timeout(60):
            assert await agents[7].ended() == "trust.agent.evicted"
        assert not any(agent.task.done() for agent in agents if agent is not agents[7])
        for agent in agents:
            agent.task.cancel()

    with asyncio.Runner(loop_factory=Spread) as runner:
        runner.run(scenario())


class Spread(asyncio.SelectorEventLoop):
    """Each connection comes from a loopback address of its own: fifty machines, not one that asks fifty times."""

    _last = 1

    async def create_connection(self, *how: Any, **more: Any) -> Any:
        self._last += 1
        return await super().create_connection(*how, **more, local_addr=(f"127.0.1.{self._last}", 0))


class Light:
    """An agent without a socket: it joins, and follows."""

    task: asyncio.Task[None]

    def __init__(self, host: str, port: int, bundle: Path) -> None:
        self._bundle = read_bundle(bundle, DOMAIN)
        self._server = Server(host, port, now=lambda: datetime.now(UTC), software="light")
        self._server.trust(self._bundle, None)
        self._entries: set[str] = set()
        self._moved = asyncio.Condition()
        self.agent = ""

    async def join(self, token: str) -> None:
        key = ec.generate_private_key(ec.SECP256R1())
        found = await self._server.attest({"join_token": {"token": token}}, key)
        assert isinstance(found, wire.Welcome)
        self.agent = found.agent
        identity = NodeIdentity(
            agent=found.agent, name=found.name, spiffe_id=found.spiffe_id, key=key, chain=tuple(found.chain),
            authority=found.authority, issued=found.issued, expires=found.expires, renews=found.renews,
        )  # fmt: skip
        self._server.trust(self._bundle, identity)
        self.task = asyncio.create_task(self._follow())

    async def until_entry(self, spiffe_id: str) -> None:
        async with self._moved:
            await self._moved.wait_for(lambda: spiffe_id in self._entries)

    async def ended(self) -> str:
        try:
            await self.task
        except RemitError as error:
            return error.code
        return ""

    async def _follow(self) -> None:
        async for state in self._server.follow():
            if state.entries is not None:
                async with self._moved:
                    self._entries = {one.spiffe_id for one in state.entries}
                    self._moved.notify_all()


def forged_identity(spiffe_id: str, *, by_ca: bool) -> bytes:
    """A key and a certificate that look like an agent's, signed by itself or by a CA that nobody knows."""
    made = certificates.leaf(certificates.root() if by_ca else None, spiffe_id)  # type: ignore[arg-type]
    key: bytes = made.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    return bytes(key + made.pem)
