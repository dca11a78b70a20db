"""The Workload API as others see it: py-spiffe, in a process of its own, and raw gRPC for what no client would send."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import socket
import subprocess
import sys
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import uvloop
from grpclib.client import Channel
from grpclib.const import Status
from grpclib.exceptions import GRPCError, StreamTerminatedError

from remit.surface.agent.peer import peer_of
from remit.surface.agent.server import Limits
from remit.surface.agent.wire import workload_pb2 as wire
from remit.surface.agent.workload_api import serve_workload_api
from remit.trust import AuthorityKind
from workload_stage import HEADER, ME, Agent, channel, scenario


async def refusal(call: Any) -> Status:
    with pytest.raises(GRPCError) as refused:
        await call
    return refused.value.status


# py-spiffe is the judge.


def test_py_spiffe_is_refused_without_an_entry_and_served_as_soon_as_there_is_one() -> None:
    async def steps(one: Agent) -> None:
        before = await one.client("x509")
        await one.register()
        after = await one.client("x509")
        assert "PERMISSION_DENIED" in before["error"]
        assert "no identity issued" in before["error"]
        assert after["ids"] == ["spiffe://remit.test/job"]

    scenario(steps)


def test_py_spiffe_is_refused_when_only_some_selectors_match() -> None:
    async def steps(one: Agent) -> None:
        await one.register("/a", ME, "unix:path:/nowhere")
        await one.register("/b", "unix:uid:4242", f"unix:path:{Path(sys.executable).resolve()}")
        assert "PERMISSION_DENIED" in (await one.client("x509"))["error"]

    scenario(steps)


def test_an_entry_for_the_executable_is_matched_by_path_and_digest() -> None:
    async def steps(one: Agent) -> None:
        python = Path(sys.executable).resolve()
        digest = subprocess.run(["sha256sum", python], capture_output=True, check=True).stdout.split()[0].decode()
        await one.register("/job", ME, f"unix:path:{python}", f"unix:sha256:{digest}")
        assert (await one.client("x509"))["ids"] == ["spiffe://remit.test/job"]

    scenario(steps)


def test_py_spiffe_is_served_by_a_server_on_uvloop() -> None:
    async def steps(one: Agent) -> None:
        await one.register()
        assert (await one.client("x509"))["verified"]

    scenario(steps, loop=uvloop.new_event_loop)


def test_py_spiffe_validates_a_jwt_svid_through_the_api_and_by_the_bundle() -> None:
    async def steps(one: Agent) -> None:
        await one.register()
        seen = await one.client("jwt", "orders")
        assert seen == {
            "id": "spiffe://remit.test/job",
            "by_api": "spiffe://remit.test/job",
            "by_bundle": "spiffe://remit.test/job",
            "other_audience": "refused",
        }

    scenario(steps)


def test_py_spiffe_gets_a_named_identity_and_no_other() -> None:
    async def steps(one: Agent) -> None:
        await one.register("/a")
        await one.register("/b")
        named = await one.client("jwt", "orders", "spiffe://remit.test/b")
        other = await one.client("jwt", "orders", "spiffe://remit.test/c")
        assert named["id"] == "spiffe://remit.test/b"
        assert "PERMISSION_DENIED" in other["error"]

    scenario(steps)


def test_py_spiffe_sees_a_rotation_pushed_on_its_open_stream() -> None:
    async def steps(one: Agent) -> None:
        await one.register()
        process = await one.started("watch", "3")
        assert process.stdout is not None
        first = json.loads(await asyncio.wait_for(process.stdout.readline(), 60))
        old = next(a for a in one.trust.authorities() if a.kind is AuthorityKind.X509)
        await one.trust.rotate_authority(AuthorityKind.X509, actor="person:ann")
        second = json.loads(await asyncio.wait_for(process.stdout.readline(), 60))
        await one.trust.taint_authority(old.id, actor="person:ann")
        third = json.loads(await asyncio.wait_for(process.stdout.readline(), 60))
        await process.wait()
        # The new root is published beside the old one and the SVID stays; a taint replaces the SVID.
        assert (first["roots"], second["roots"]) == (1, 2)
        assert first["serial"] == second["serial"] != third["serial"]
        assert first["verified"] and second["verified"] and third["verified"]

    scenario(steps)


@pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl: not found")
def test_openssl_verifies_the_chain_for_client_and_server_use(tmp_path: Path) -> None:
    async def steps(one: Agent) -> None:
        await one.register()
        await one.client("save", str(tmp_path))

    scenario(steps)
    for purpose in ("sslclient", "sslserver"):
        command = ["openssl", "verify", "-x509_strict", "-purpose", purpose, "-CAfile"]
        done = subprocess.run(
            [*command, tmp_path / "bundle.pem", tmp_path / "svid.pem"], capture_output=True, check=False, text=True
        )
        assert done.stdout.strip().endswith("OK"), done.stderr
    text = subprocess.run(
        ["openssl", "x509", "-in", tmp_path / "svid.pem", "-noout", "-text"], capture_output=True, check=True, text=True
    ).stdout
    assert text.count("URI:spiffe://remit.test/job") == 1
    assert "Digital Signature\n" in text
    assert "CA:FALSE" in text


# What no well-behaved client sends.


def test_a_call_without_the_security_header_is_an_invalid_argument() -> None:
    async def steps(one: Agent) -> None:
        await one.register()
        async with channel(one.path) as stub:
            for metadata in ({}, {"workload.spiffe.io": "True"}, {"workload.spiffe.io": "false"}):
                assert await refusal(stub.FetchX509SVID(wire.X509SVIDRequest(), metadata=metadata)) is (
                    Status.INVALID_ARGUMENT
                )

    scenario(steps)


def test_a_service_that_is_not_ready_is_unavailable() -> None:
    async def steps(one: Agent) -> None:
        await one.trust.close()
        async with channel(one.path) as stub:
            call = stub.FetchX509Bundles(wire.X509BundlesRequest(), metadata=HEADER)
            assert await refusal(call) is Status.UNAVAILABLE

    scenario(steps)


@pytest.mark.parametrize("method", ["FetchX509Bundles", "FetchJWTBundles", "ValidateJWTSVID", "FetchJWTSVID"])
def test_no_method_serves_a_workload_without_an_entry(method: str) -> None:
    async def steps(one: Agent) -> None:
        requests = {
            "FetchX509Bundles": wire.X509BundlesRequest(),
            "FetchJWTBundles": wire.JWTBundlesRequest(),
            "ValidateJWTSVID": wire.ValidateJWTSVIDRequest(audience="a", svid="b"),
            "FetchJWTSVID": wire.JWTSVIDRequest(audience=["a"]),
        }
        async with channel(one.path) as stub:
            call = getattr(stub, method)(requests[method], metadata=HEADER)
            assert await refusal(call) is Status.PERMISSION_DENIED

    scenario(steps)


def test_a_jwt_svid_without_an_audience_is_an_invalid_argument() -> None:
    async def steps(one: Agent) -> None:
        await one.register()
        async with channel(one.path) as stub:
            for audience in ([], [""], ["a" * 3000], [str(number) for number in range(17)]):
                call = stub.FetchJWTSVID(wire.JWTSVIDRequest(audience=audience), metadata=HEADER)
                assert await refusal(call) is Status.INVALID_ARGUMENT

    scenario(steps)


def test_a_message_beyond_the_limit_is_refused_by_its_length() -> None:
    async def steps(one: Agent) -> None:
        await one.register()
        async with channel(one.path) as stub:
            request = wire.ValidateJWTSVIDRequest(audience="a", svid="x" * 100_000)
            assert await refusal(stub.ValidateJWTSVID(request, metadata=HEADER)) is Status.RESOURCE_EXHAUSTED

    scenario(steps)


def test_one_user_cannot_call_more_often_than_allowed() -> None:
    async def steps(one: Agent) -> None:
        await one.register()
        answers = []
        async with channel(one.path) as stub:
            for _ in range(6):
                try:
                    await stub.FetchJWTSVID(wire.JWTSVIDRequest(audience=["a"]), metadata=HEADER)
                    answers.append(Status.OK)
                except GRPCError as error:
                    answers.append(error.status)
        assert answers == [Status.OK] * 4 + [Status.RESOURCE_EXHAUSTED] * 2

    scenario(steps, limits=Limits(calls_per_second=0.001, burst=4))


def test_one_user_cannot_hold_more_streams_than_allowed() -> None:
    async def steps(one: Agent) -> None:
        await one.register()
        async with channel(one.path) as stub, stub.FetchX509SVID.open(metadata=HEADER) as held:
            await held.send_message(wire.X509SVIDRequest(), end=True)
            assert await held.recv_message() is not None
            call = stub.FetchJWTSVID(wire.JWTSVIDRequest(audience=["a"]), metadata=HEADER)
            assert await refusal(call) is Status.RESOURCE_EXHAUSTED
            await held.cancel()

    scenario(steps, limits=Limits(calls_per_uid=1))


def test_one_user_cannot_hold_more_connections_than_allowed() -> None:
    async def steps(one: Agent) -> None:
        def connect() -> socket.socket:
            opened = socket.socket(socket.AF_UNIX)
            opened.settimeout(60)
            opened.connect(str(one.path))
            return opened

        held = [await asyncio.to_thread(connect) for _ in range(2)]
        for opened in held:
            assert await asyncio.to_thread(opened.recv, 9)
        third = await asyncio.to_thread(connect)
        assert await asyncio.to_thread(third.recv, 9) == b""
        for opened in (*held, third):
            opened.close()

    scenario(steps, limits=Limits(connections_per_uid=2))


def test_bytes_that_are_no_http2_end_only_their_own_connection() -> None:
    async def steps(one: Agent) -> None:
        await one.register()
        reader, writer = await asyncio.open_unix_connection(str(one.path))
        writer.write(b"GET / HTTP/1.1\r\n\r\n" * 100)
        await reader.read()
        writer.close()
        assert (await one.client("x509"))["ids"] == ["spiffe://remit.test/job"]

    scenario(steps)


# Streams.


def test_a_removed_entry_withdraws_its_svid_from_an_open_stream() -> None:
    async def steps(one: Agent) -> None:
        await one.register("/a")
        second = await one.register("/b", hint="second")
        async with channel(one.path) as stub, stub.FetchX509SVID.open(metadata=HEADER) as stream:
            await stream.send_message(wire.X509SVIDRequest(), end=True)
            both = await stream.recv_message()
            await one.trust.remove_entry(second.id, actor="person:ann")
            rest = await stream.recv_message()
            await stream.cancel()
        assert [svid.spiffe_id for svid in both.svids] == ["spiffe://remit.test/a", "spiffe://remit.test/b"]
        assert [svid.spiffe_id for svid in rest.svids] == ["spiffe://remit.test/a"]
        assert rest.svids[0] == both.svids[0]

    scenario(steps)


def test_an_identity_that_is_no_longer_admitted_loses_its_stream() -> None:
    async def steps(one: Agent) -> None:
        entry = await one.register()
        async with channel(one.path) as stub, stub.FetchX509SVID.open(metadata=HEADER) as stream:
            await stream.send_message(wire.X509SVIDRequest(), end=True)
            await stream.recv_message()
            one.refused.add(entry.id)
            one.trust.wake()
            with pytest.raises(GRPCError) as refused:
                await stream.recv_message()
                await stream.recv_trailing_metadata()
            assert refused.value.status is Status.PERMISSION_DENIED

    scenario(steps)


def test_nothing_is_handed_out_that_the_ledger_could_not_take() -> None:
    async def steps(one: Agent) -> None:
        from remit.kernel.errors import Unavailable

        await one.register()
        one.store.fail = Unavailable("storage.full", "the disk is full")
        async with channel(one.path) as stub:
            for call in (
                stub.FetchX509SVID(wire.X509SVIDRequest(), metadata=HEADER),
                stub.FetchJWTSVID(wire.JWTSVIDRequest(audience=["a"]), metadata=HEADER),
            ):
                assert await refusal(call) is Status.UNAVAILABLE

    scenario(steps)


def test_what_a_client_got_is_in_the_ledger_by_serial() -> None:
    async def steps(one: Agent) -> None:
        await one.register()
        seen = await one.client("x509")
        again = await one.client("x509")
        issued = [event.data["serial"] for event in one.store.events if event.type == "trust.svid.issued"]
        assert issued == [seen["serial"], again["serial"]]
        assert seen["serial"] != again["serial"]

    scenario(steps)


def test_a_process_that_connects_again_gets_the_same_svid() -> None:
    async def steps(one: Agent) -> None:
        await one.register()
        found = []
        for _ in range(3):
            async with channel(one.path) as stub, stub.FetchX509SVID.open(metadata=HEADER) as stream:
                await stream.send_message(wire.X509SVIDRequest(), end=True)
                found.append((await stream.recv_message()).svids[0].x509_svid)
                await stream.cancel()
        assert len(set(found)) == 1
        assert one.store.types().count("trust.svid.issued") == 1

    scenario(steps)


# The process behind a connection.


def test_an_heir_of_a_dead_process_gets_nothing_over_its_connection() -> None:
    """A child inherits the connection, its parent dies: the kernel's word is still the parent, who is gone."""

    async def steps(one: Agent) -> None:
        await one.register()
        async with channel(one.path) as stub:
            await stub.FetchJWTSVID(wire.JWTSVIDRequest(audience=["a"]), metadata=HEADER)
        process = await one.started("inherit")
        out, err = await asyncio.wait_for(process.communicate(), 60)
        assert json.loads(out) == {"status": str(Status.PERMISSION_DENIED.value)}, err.decode()

    scenario(steps)


class PeerProbe:
    """A service of another room on the same socket: it answers with the pid that `peer_of` gives it."""

    def __mapping__(self) -> dict[str, Any]:
        from grpclib.const import Cardinality, Handler

        return {
            "/test.Probe/Who": Handler(self.who, Cardinality.UNARY_UNARY, wire.JWTSVIDRequest, wire.JWTSVIDResponse)
        }

    async def who(self, stream: Any) -> None:
        await stream.recv_message()
        with peer_of(stream) as peer:
            known = f"{peer.pid}:{peer.uid}:{peer.gid}:{peer.alive()}:{peer.pidfd >= 0}"
        await stream.send_message(wire.JWTSVIDResponse(svids=[wire.JWTSVID(spiffe_id=known)]))


@pytest.mark.parametrize("loop", [asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"])
def test_another_service_on_the_socket_knows_its_peer(loop: Any) -> None:
    async def steps(one: Agent) -> None:
        from grpclib.client import UnaryUnaryMethod

        opened = Channel(path=str(one.path))
        who: Any = UnaryUnaryMethod(opened, "/test.Probe/Who", wire.JWTSVIDRequest, wire.JWTSVIDResponse)
        answer = (await who(wire.JWTSVIDRequest())).svids[0].spiffe_id
        opened.close()
        assert answer.startswith(f"{os.getpid()}:{os.getuid()}:{os.getgid()}:True:")

    scenario(steps, extra=(PeerProbe(),), loop=loop)


def test_closing_the_server_ends_streams_and_removes_the_socket() -> None:
    async def steps(one: Agent) -> None:
        await one.register()
        async with channel(one.path) as stub, stub.FetchX509SVID.open(metadata=HEADER) as stream:
            await stream.send_message(wire.X509SVIDRequest(), end=True)
            await stream.recv_message()
            one.server.close()
            await asyncio.wait_for(one.server.wait_closed(), 60)
            with pytest.raises((StreamTerminatedError, GRPCError, ConnectionError)):
                await stream.recv_message()
                await stream.recv_trailing_metadata()
        assert not one.path.exists()

    scenario(steps)


def test_the_socket_is_open_to_every_user_and_a_stale_one_is_replaced() -> None:
    async def steps(one: Agent) -> None:
        assert one.path.stat().st_mode & 0o777 == 0o666
        stale = one.path.with_name("stale.sock")
        with socket.socket(socket.AF_UNIX) as dead:
            dead.bind(str(stale))
        server = await serve_workload_api(stale, one.trust)
        server.close()
        await server.wait_closed()

    scenario(steps)


def test_a_path_that_is_no_socket_or_too_long_is_misconfigured(tmp_path: Path) -> None:
    from remit.kernel.errors import Misconfigured

    async def steps(one: Agent) -> None:
        precious = tmp_path / "file"
        precious.write_text("keep me")
        codes = []
        for path in (precious, tmp_path / ("x" * 108), tmp_path / "missing" / "s"):
            with pytest.raises(Misconfigured) as refused:
                await serve_workload_api(path, one.trust)
            codes.append(refused.value.code)
        assert codes == ["agent.socket.occupied", "agent.socket.too_long", "agent.socket.unusable"] or (
            len(bytes(tmp_path)) > 90
        )
        assert precious.read_text() == "keep me"

    scenario(steps)


def test_a_workload_of_another_user_is_told_apart() -> None:
    if os.getuid() != 0 or shutil.which("setpriv") is None:
        pytest.skip("another user: needs root and setpriv")

    async def steps(one: Agent) -> None:
        one.path.parent.chmod(0o711)
        await one.register("/nobody", "unix:uid:65534")
        await one.register("/root", "unix:uid:0")
        probe = (
            "import socket,sys;s=socket.socket(socket.AF_UNIX);s.connect(sys.argv[1]);"
            "print('ready',flush=True);sys.stdin.read()"
        )
        process = await asyncio.create_subprocess_exec(
            *("setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups", "/usr/bin/python3", "-c", probe),
            str(one.path),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        assert process.stdout is not None
        await asyncio.wait_for(process.stdout.readline(), 60)
        protocol = next(iter(one.server._protocols))
        from remit.surface.agent.peer import peer_of_transport

        with peer_of_transport(protocol._transport) as peer:
            entries = one.trust.require(await one.trust.attest(peer))
        process.kill()
        await process.wait()
        assert [str(entry.spiffe_id) for entry in entries] == ["spiffe://remit.test/nobody"]

    scenario(steps)


def test_a_short_svid_is_renewed_on_its_open_stream() -> None:
    async def steps(one: Agent) -> None:
        from dataclasses import replace

        entry = await one.register()
        one.trust._entries.add(replace(entry, x509_ttl=timedelta(seconds=3)))
        async with channel(one.path) as stub, stub.FetchX509SVID.open(metadata=HEADER) as stream:
            await stream.send_message(wire.X509SVIDRequest(), end=True)
            first = await stream.recv_message()
            second = await asyncio.wait_for(stream.recv_message(), 60)
            await stream.cancel()
        assert first.svids[0].x509_svid != second.svids[0].x509_svid

    scenario(steps)
