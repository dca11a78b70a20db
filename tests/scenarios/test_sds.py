"""Our SDS over grpcio: what a proxy may ask, what it hears of a change, what it is refused."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any

import grpc
import pytest
from cryptography import x509

from certificates import root
from remit.surface.agent import sds
from remit.surface.agent.sds import SECRET, SERVICE
from remit.surface.agent.sds_wire import sds_pb2 as wire
from remit.trust import AuthorityKind, Bundle, TrustDomain
from workload_stage import Agent, scenario

FORMS = (wire.DiscoveryRequest.SerializeToString, wire.DiscoveryResponse.FromString)


@asynccontextmanager
async def connected(one: Agent) -> AsyncIterator[grpc.aio.Channel]:
    async with grpc.aio.insecure_channel(f"unix:{one.path}") as opened:
        yield opened


@asynccontextmanager
async def streaming(one: Agent, *names: str) -> AsyncIterator[Any]:
    """A stream that has asked for these names."""
    async with connected(one) as opened:
        stream = opened.stream_stream(f"/{SERVICE}/StreamSecrets", *FORMS)()
        await stream.write(wire.DiscoveryRequest(resource_names=names, type_url=SECRET))
        yield stream
        stream.cancel()


async def fetched(one: Agent, *names: str, method: str = "FetchSecrets") -> dict[str, wire.Secret]:
    async with connected(one) as opened:
        call = opened.unary_unary(f"/{SERVICE}/{method}", *FORMS)
        return unpacked(await call(wire.DiscoveryRequest(resource_names=names, type_url=SECRET), timeout=60))


def unpacked(answer: wire.DiscoveryResponse) -> dict[str, wire.Secret]:
    assert {one.type_url for one in answer.resources} <= {SECRET}
    found = [wire.Secret.FromString(one.value) for one in answer.resources]
    return {one.name: one for one in found}


async def heard(stream: Any) -> wire.DiscoveryResponse:
    """The next answer, or the error that the stream ended with."""
    answer = await asyncio.wait_for(stream.read(), 60)
    assert isinstance(answer, wire.DiscoveryResponse), await stream.code()
    return answer


async def reply(stream: Any, answer: wire.DiscoveryResponse, *names: str, error: str = "") -> None:
    """Acknowledge an answer; with `error`, refuse it."""
    request = wire.DiscoveryRequest(
        resource_names=names, response_nonce=answer.nonce, version_info=answer.version_info, type_url=SECRET
    )
    if error:
        request.error_detail.message = error
    await stream.write(request)


async def status(call: Any) -> grpc.StatusCode:
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await call
    return refused.value.code()


def test_a_caller_needs_no_header_but_an_entry() -> None:
    async def steps(one: Agent) -> None:
        assert await status(fetched(one, "default")) is grpc.StatusCode.PERMISSION_DENIED
        await one.register()
        found = (await fetched(one, "default"))["default"].tls_certificate
        made = x509.load_pem_x509_certificate(found.certificate_chain.inline_bytes)
        names = made.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        assert names.get_values_for_type(x509.UniformResourceIdentifier) == ["spiffe://remit.test/job"]

    scenario(steps)


def test_the_default_is_the_oldest_entry_and_each_svid_has_its_own_name() -> None:
    async def steps(one: Agent) -> None:
        await one.register("/first")
        await one.register("/second")
        found = await fetched(one, "default", "spiffe://remit.test/first", "spiffe://remit.test/second")
        chain = {name: one.tls_certificate.certificate_chain.inline_bytes for name, one in found.items()}
        assert chain["default"] == chain["spiffe://remit.test/first"] != chain["spiffe://remit.test/second"]

    scenario(steps)


def test_no_name_asks_for_everything_by_its_own_name() -> None:
    async def steps(one: Agent) -> None:
        await one.register("/a")
        await one.register("/b")
        assert set(await fetched(one)) == {"spiffe://remit.test", "spiffe://remit.test/a", "spiffe://remit.test/b"}

    scenario(steps)


def test_asking_for_roots_alone_issues_nothing() -> None:
    async def steps(one: Agent) -> None:
        await one.register()
        found = await fetched(one, "ROOTCA", "ALL")
        assert found["ROOTCA"].validation_context.trusted_ca.inline_bytes == one.trust.bundle.x509_pem
        assert "trust.svid.issued" not in one.store.types()

    scenario(steps)


def test_a_workload_gets_the_domains_that_its_entry_federates_with_and_no_other() -> None:
    async def steps(one: Agent) -> None:
        await one.register(federates_with=["partner.test"])
        for name in ("partner.test", "stranger.test"):
            made = Bundle(
                trust_domain=TrustDomain(name),
                sequence=1,
                refresh_hint=timedelta(minutes=5),
                x509_roots=(root(name).der,),
            )
            one.trust.foreign_bundles = {**one.trust.foreign_bundles, name: made}
        found = await fetched(one, "ALL", "spiffe://partner.test")
        typed = found["ALL"].validation_context.custom_validator_config.typed_config.value
        domains = [each.name for each in wire.SPIFFECertValidatorConfig.FromString(typed).trust_domains]
        assert domains == ["partner.test", "remit.test"]
        assert not found["spiffe://partner.test"].validation_context.HasField("trusted_ca")
        assert await status(fetched(one, "spiffe://stranger.test")) is grpc.StatusCode.INVALID_ARGUMENT

    scenario(steps)


def test_another_workloads_name_is_refused() -> None:
    async def steps(one: Agent) -> None:
        await one.register("/mine")
        await one.register("/theirs", "unix:uid:4242")
        assert await status(fetched(one, "spiffe://remit.test/theirs")) is grpc.StatusCode.INVALID_ARGUMENT
        assert await status(fetched(one, "default", "something else")) is grpc.StatusCode.INVALID_ARGUMENT

    scenario(steps)


def test_delta_discovery_is_unimplemented() -> None:
    async def steps(one: Agent) -> None:
        await one.register()
        assert await status(fetched(one, "default", method="DeltaSecrets")) is grpc.StatusCode.UNIMPLEMENTED

    scenario(steps)


def test_a_service_that_is_not_ready_is_unavailable() -> None:
    async def steps(one: Agent) -> None:
        await one.trust.close()
        assert await status(fetched(one, "default")) is grpc.StatusCode.UNAVAILABLE

    scenario(steps)


def test_an_acknowledgement_is_not_answered_and_a_change_is_pushed() -> None:
    async def steps(one: Agent) -> None:
        await one.register()
        async with streaming(one, "ROOTCA") as stream:
            first = await heard(stream)
            await reply(stream, first, "ROOTCA")
            waiting = asyncio.ensure_future(stream.read())
            await asyncio.sleep(0.2)
            assert not waiting.done()
            await one.trust.rotate_authority(AuthorityKind.X509, actor="person:ann")
            second = await asyncio.wait_for(waiting, 60)
            assert (first.version_info, second.version_info) == ("1", "2")
            roots = unpacked(second)["ROOTCA"].validation_context.trusted_ca.inline_bytes
            assert roots.count(b"BEGIN CERTIFICATE") == 2

    scenario(steps)


def test_a_refused_answer_is_not_repeated_and_the_next_change_is_sent() -> None:
    async def steps(one: Agent) -> None:
        await one.register()
        async with streaming(one, "ROOTCA") as stream:
            first = await heard(stream)
            await reply(stream, first, "ROOTCA", error="cannot be used\n" + "x" * 10_000)
            waiting = asyncio.ensure_future(stream.read())
            await asyncio.sleep(0.2)
            assert not waiting.done()
            await one.trust.rotate_authority(AuthorityKind.X509, actor="person:ann")
            assert (await asyncio.wait_for(waiting, 60)).version_info == "2"

    scenario(steps)


def test_a_changed_subscription_is_answered() -> None:
    async def steps(one: Agent) -> None:
        await one.register()
        async with streaming(one, "ROOTCA") as stream:
            first = await heard(stream)
            await reply(stream, first, "ROOTCA", "default")
            second = await heard(stream)
            assert set(unpacked(second)) == {"ROOTCA", "default"}
            await reply(stream, first, "ALL")  # stale
            await reply(stream, second, "default")
            assert set(unpacked(await heard(stream))) == {"default"}

    scenario(steps)


def test_what_is_withdrawn_is_left_out_and_when_nothing_is_left_the_stream_ends() -> None:
    async def steps(one: Agent) -> None:
        first = await one.register("/a")
        second = await one.register("/b")
        async with streaming(one, "spiffe://remit.test/a", "spiffe://remit.test/b") as stream:
            assert len(unpacked(await heard(stream))) == 2
            await one.trust.remove_entry(second.id, actor="person:ann")
            assert set(unpacked(await heard(stream))) == {"spiffe://remit.test/a"}
            await one.register("/c")
            await one.trust.remove_entry(first.id, actor="person:ann")
            assert await status(heard(stream)) is grpc.StatusCode.PERMISSION_DENIED

    scenario(steps)


def test_a_certificate_is_pushed_again_before_it_ends() -> None:
    async def steps(one: Agent) -> None:
        from dataclasses import replace

        entry = await one.register()
        one.trust._entries.add(replace(entry, x509_ttl=timedelta(seconds=3)))
        async with streaming(one, "default") as stream:
            first, second = await heard(stream), await heard(stream)
        assert unpacked(first)["default"] != unpacked(second)["default"]

    scenario(steps)


def test_a_stream_that_asks_without_end_is_hung_up_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sds, "_REQUEST_BURST", 20)
    monkeypatch.setattr(sds, "_REQUESTS_PER_SECOND", 0.001)

    async def steps(one: Agent) -> None:
        await one.register()
        async with streaming(one, "ROOTCA") as stream:
            answer = await heard(stream)
            for _ in range(100):
                if stream.done():
                    break
                await reply(stream, answer, "ROOTCA")
                await asyncio.sleep(0.02)
            assert await stream.code() is grpc.StatusCode.RESOURCE_EXHAUSTED

    scenario(steps)


def test_a_request_of_another_type_is_an_invalid_argument() -> None:
    async def steps(one: Agent) -> None:
        await one.register()
        async with streaming(one, "ROOTCA") as stream:
            answer = await heard(stream)
            await stream.write(
                wire.DiscoveryRequest(type_url="type.googleapis.com/envoy.Other", response_nonce=answer.nonce)
            )
            assert await status(heard(stream)) is grpc.StatusCode.INVALID_ARGUMENT

    scenario(steps)
