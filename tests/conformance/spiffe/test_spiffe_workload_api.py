"""SPIFFE Workload Endpoint and Workload API, clause by clause; the client is grpcio, which knows nothing of our server."""

from __future__ import annotations

import asyncio
import json
import os
import stat
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any

import grpc
import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import load_der_private_key
from google.protobuf.descriptor_pb2 import FileDescriptorProto
from grpclib.reflection.v1 import reflection_pb2

from certificates import root
from remit.surface.agent.wire import workload_pb2 as wire
from remit.trust import AuthorityKind, Bundle, TrustDomain
from workload_stage import Agent, scenario

SECURITY = (("workload.spiffe.io", "true"),)
STREAMS = {
    "FetchX509SVID": (wire.X509SVIDRequest(), wire.X509SVIDResponse),
    "FetchX509Bundles": (wire.X509BundlesRequest(), wire.X509BundlesResponse),
    "FetchJWTBundles": (wire.JWTBundlesRequest(), wire.JWTBundlesResponse),
}
CALLS = {
    "FetchJWTSVID": (wire.JWTSVIDRequest(audience=["a"]), wire.JWTSVIDResponse),
    "ValidateJWTSVID": (wire.ValidateJWTSVIDRequest(audience="a", svid="b"), wire.ValidateJWTSVIDResponse),
}
METHODS = {**STREAMS, **CALLS}


@asynccontextmanager
async def connected(one: Agent) -> AsyncIterator[grpc.aio.Channel]:
    async with grpc.aio.insecure_channel(f"unix:{one.path}") as opened:
        yield opened


def bytes_of(message: Any) -> bytes:
    return bytes(message.SerializeToString())


@asynccontextmanager
async def streaming(one: Agent, method: str, metadata: Any = SECURITY) -> AsyncIterator[Any]:
    request, answer = STREAMS[method]
    async with connected(one) as opened:
        call = opened.unary_stream(f"/SpiffeWorkloadAPI/{method}", bytes_of, answer.FromString)
        stream = call(request, metadata=metadata)
        yield stream
        stream.cancel()


async def answered(one: Agent, method: str, request: Any = None, metadata: Any = SECURITY) -> Any:
    """The first answer of any method."""
    default, answer = METHODS.get(method, (wire.JWTSVIDRequest(), wire.JWTSVIDResponse))
    if method in STREAMS:
        async with streaming(one, method, metadata) as stream:
            return await heard(stream)
    async with connected(one) as opened:
        call = opened.unary_unary(f"/SpiffeWorkloadAPI/{method}", bytes_of, answer.FromString)
        return await call(request if request is not None else default, metadata=metadata, timeout=60)


async def heard(stream: Any) -> Any:
    answer = await asyncio.wait_for(stream.read(), 60)
    assert answer is not grpc.aio.EOF
    return answer


async def refusal(call: Any) -> grpc.StatusCode:
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await call
    return refused.value.code()


# Workload Endpoint.


def test_endpoint_2_it_is_grpc_on_a_unix_socket_that_any_user_may_connect_to() -> None:
    async def steps(one: Agent) -> None:
        mode = one.path.stat().st_mode
        assert stat.S_ISSOCK(mode)
        assert stat.S_IMODE(mode) == 0o666

    scenario(steps)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(
    "given", [(), (("workload.spiffe.io", "True"),), (("workload.spiffe.io", "1"),), (("workload.spiffe.io", ""),)]
)
def test_endpoint_6_a_call_without_the_security_header_is_an_invalid_argument(method: str, given: Any) -> None:
    async def steps(one: Agent) -> None:
        await one.register()
        assert await refusal(answered(one, method, metadata=given)) is grpc.StatusCode.INVALID_ARGUMENT

    scenario(steps)


@pytest.mark.parametrize("method", METHODS)
def test_endpoint_6_a_service_that_is_not_ready_is_unavailable(method: str) -> None:
    async def steps(one: Agent) -> None:
        await one.trust.close()
        assert await refusal(answered(one, method)) is grpc.StatusCode.UNAVAILABLE

    scenario(steps)


@pytest.mark.parametrize("method", METHODS)
def test_endpoint_6_a_caller_without_an_identity_has_no_permission(method: str) -> None:
    async def steps(one: Agent) -> None:
        assert await refusal(answered(one, method)) is grpc.StatusCode.PERMISSION_DENIED
        assert one.complaints == [(os.getpid(), "trust.workload.unknown")]

    scenario(steps)


@pytest.mark.parametrize("method", ["FetchWITSVID", "FetchWITBundles", "ValidateWITSVID", "NoSuchMethod"])
def test_endpoint_6_a_profile_that_is_not_served_is_unimplemented(method: str) -> None:
    async def steps(one: Agent) -> None:
        await one.register()
        assert await refusal(answered(one, method)) is grpc.StatusCode.UNIMPLEMENTED

    scenario(steps)


def test_endpoint_5_the_caller_needs_no_secret() -> None:
    async def steps(one: Agent) -> None:
        await one.register()
        assert (await answered(one, "FetchX509SVID")).svids

    scenario(steps)


def test_endpoint_the_service_is_found_by_reflection() -> None:
    async def steps(one: Agent) -> None:
        requests = [
            reflection_pb2.ServerReflectionRequest(list_services=""),
            reflection_pb2.ServerReflectionRequest(file_containing_symbol="SpiffeWorkloadAPI"),
        ]
        async with connected(one) as opened:
            call = opened.stream_stream(
                "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
                bytes_of,
                reflection_pb2.ServerReflectionResponse.FromString,
            )
            listed, described = [each async for each in call(iter(requests))]
        names = {each.name for each in listed.list_services_response.service}
        proto = FileDescriptorProto.FromString(described.file_descriptor_response.file_descriptor_proto[0])
        assert "SpiffeWorkloadAPI" in names
        assert {each.name for each in proto.service[0].method} == set(METHODS)

    scenario(steps)


def test_api_the_service_is_not_extended() -> None:
    (service,) = wire.DESCRIPTOR.services_by_name.values()
    assert service.full_name == "SpiffeWorkloadAPI"
    assert {method.name for method in service.methods} == set(METHODS)


# Streams.


@pytest.mark.parametrize("method", STREAMS)
def test_api_4_a_stream_answers_at_once_and_stays_open(method: str) -> None:
    async def steps(one: Agent) -> None:
        await one.register()
        async with streaming(one, method) as stream:
            await heard(stream)
            waiting = asyncio.ensure_future(stream.read())
            await asyncio.sleep(0.2)
            assert not waiting.done()
            assert not stream.done()

    scenario(steps)


@pytest.mark.parametrize("method", STREAMS)
def test_api_4_a_rotation_is_pushed(method: str) -> None:
    async def steps(one: Agent) -> None:
        await one.register()
        async with streaming(one, method) as stream:
            before = await heard(stream)
            for kind in (AuthorityKind.X509, AuthorityKind.JWT):
                await one.trust.rotate_authority(kind, actor="person:ann")
            assert await heard(stream) != before

    scenario(steps)


def test_api_4_a_new_entry_is_pushed_with_the_full_set() -> None:
    async def steps(one: Agent) -> None:
        await one.register("/a")
        async with streaming(one, "FetchX509SVID") as stream:
            await heard(stream)
            await one.register("/b")
            both = await heard(stream)
            assert [each.spiffe_id for each in both.svids] == ["spiffe://remit.test/a", "spiffe://remit.test/b"]

    scenario(steps)


def test_api_4_what_is_absent_from_the_next_message_is_withdrawn() -> None:
    async def steps(one: Agent) -> None:
        await one.register("/a")
        second = await one.register("/b")
        async with streaming(one, "FetchX509SVID") as stream:
            await heard(stream)
            await one.trust.remove_entry(second.id, actor="person:ann")
            assert [each.spiffe_id for each in (await heard(stream)).svids] == ["spiffe://remit.test/a"]

    scenario(steps)


def test_api_4_when_nothing_is_left_the_stream_ends_without_permission() -> None:
    async def steps(one: Agent) -> None:
        entry = await one.register()
        async with streaming(one, "FetchX509SVID") as stream:
            await heard(stream)
            await one.trust.remove_entry(entry.id, actor="person:ann")
            assert await refusal(heard(stream)) is grpc.StatusCode.PERMISSION_DENIED

    scenario(steps)


# The X.509 profile.


def test_api_5_2_1_an_svid_is_der_with_a_plain_pkcs8_key_and_its_bundle() -> None:
    async def steps(one: Agent) -> None:
        await one.register()
        (svid,) = (await answered(one, "FetchX509SVID")).svids
        leaf = x509.load_der_x509_certificate(svid.x509_svid)
        key: Any = load_der_private_key(svid.x509_svid_key, password=None)
        anchor = x509.load_der_x509_certificate(svid.bundle)
        leaf.verify_directly_issued_by(anchor)
        assert key.public_key() == leaf.public_key()
        assert svid.spiffe_id == "spiffe://remit.test/job"

    scenario(steps)


def test_api_5_2_1_a_bundle_of_several_roots_is_der_after_der() -> None:
    async def steps(one: Agent) -> None:
        await one.register()
        await one.trust.rotate_authority(AuthorityKind.X509, actor="person:ann")
        (svid,) = (await answered(one, "FetchX509SVID")).svids
        assert svid.bundle == b"".join(one.trust.bundle.x509_roots)
        assert len(one.trust.bundle.x509_roots) == 2

    scenario(steps)


def test_api_5_3_the_first_svid_is_the_default_and_the_order_stays() -> None:
    async def steps(one: Agent) -> None:
        for name in ("/z", "/a", "/m"):
            await one.register(name)
        for _ in range(3):
            found = [each.spiffe_id for each in (await answered(one, "FetchX509SVID")).svids]
            assert found == ["spiffe://remit.test/z", "spiffe://remit.test/a", "spiffe://remit.test/m"]

    scenario(steps)


def test_api_5_2_1_a_hint_is_unique_within_a_response() -> None:
    async def steps(one: Agent) -> None:
        await one.register("/a", hint="internal")
        await one.register("/b", hint="external")
        await one.register("/c", hint="internal")
        for method in ("FetchX509SVID", "FetchJWTSVID"):
            hints = [each.hint for each in (await answered(one, method)).svids]
            assert hints == ["internal", "external", ""]

    scenario(steps)


def test_api_5_2_1_federated_bundles_are_keyed_by_the_domains_spiffe_id() -> None:
    async def steps(one: Agent) -> None:
        partner, stranger = root("partner.test"), root("stranger.test")
        one.trust.foreign_bundles = {
            name: Bundle(
                trust_domain=TrustDomain(name), sequence=1, refresh_hint=timedelta(minutes=5), x509_roots=(made.der,)
            )
            for name, made in (("partner.test", partner), ("stranger.test", stranger))
        }
        await one.register(federates_with=["partner.test"])
        svids = await answered(one, "FetchX509SVID")
        bundles = await answered(one, "FetchX509Bundles")
        keys = await answered(one, "FetchJWTBundles")
        assert dict(svids.federated_bundles) == {"spiffe://partner.test": partner.der}
        assert set(bundles.bundles) == set(keys.bundles) == {"spiffe://remit.test", "spiffe://partner.test"}

    scenario(steps)


def test_api_5_2_1_revocation_lists_come_with_svids_and_bundles() -> None:
    async def steps(one: Agent) -> None:
        await one.register()
        one.trust.revocation_lists = [b"a list", b"another"]
        for method in ("FetchX509SVID", "FetchX509Bundles"):
            assert list((await answered(one, method)).crl) == [b"a list", b"another"]

    scenario(steps)


# The JWT profile.


@pytest.mark.parametrize("audience", [[], [""]])
def test_api_6_2_1_a_jwt_svid_needs_an_audience(audience: list[str]) -> None:
    async def steps(one: Agent) -> None:
        await one.register()
        call = answered(one, "FetchJWTSVID", wire.JWTSVIDRequest(audience=audience))
        assert await refusal(call) is grpc.StatusCode.INVALID_ARGUMENT

    scenario(steps)


def test_api_6_2_1_a_named_identity_is_the_only_one_that_comes() -> None:
    async def steps(one: Agent) -> None:
        await one.register("/a")
        await one.register("/b")
        request = wire.JWTSVIDRequest(audience=["x"], spiffe_id="spiffe://remit.test/b")
        found = await answered(one, "FetchJWTSVID", request)
        assert [each.spiffe_id for each in found.svids] == ["spiffe://remit.test/b"]

    scenario(steps)


def test_api_6_2_1_anothers_identity_is_refused() -> None:
    async def steps(one: Agent) -> None:
        await one.register("/a")
        await one.register("/b", "unix:uid:4242")
        request = wire.JWTSVIDRequest(audience=["x"], spiffe_id="spiffe://remit.test/b")
        assert await refusal(answered(one, "FetchJWTSVID", request)) is grpc.StatusCode.PERMISSION_DENIED

    scenario(steps)


def test_api_6_2_2_jwt_bundles_hold_jwt_keys_alone() -> None:
    async def steps(one: Agent) -> None:
        await one.register()
        found = (await answered(one, "FetchJWTBundles")).bundles["spiffe://remit.test"]
        keys = json.loads(found)["keys"]
        assert keys
        assert all(each["use"] == "jwt-svid" and each["kid"] for each in keys)

    scenario(steps)


def test_api_6_2_3_a_validated_jwt_svid_gives_its_id_and_all_claims() -> None:
    async def steps(one: Agent) -> None:
        await one.register()
        token = (await answered(one, "FetchJWTSVID")).svids[0].svid
        found = await answered(one, "ValidateJWTSVID", wire.ValidateJWTSVIDRequest(audience="a", svid=token))
        claims = dict(found.claims)
        assert found.spiffe_id == claims["sub"] == "spiffe://remit.test/job"
        assert {"aud", "exp", "iat"} <= claims.keys()

    scenario(steps)


@pytest.mark.parametrize("change", ["another audience", "no audience", "a changed token", "no token"])
def test_api_6_2_3_a_jwt_svid_that_is_not_valid_is_an_invalid_argument(change: str) -> None:
    async def steps(one: Agent) -> None:
        await one.register()
        token = (await answered(one, "FetchJWTSVID")).svids[0].svid
        audience = {"another audience": "b", "no audience": ""}.get(change, "a")
        shown = {"a changed token": token[:-6] + "AAAAAA", "no token": ""}.get(change, token)
        call = answered(one, "ValidateJWTSVID", wire.ValidateJWTSVIDRequest(audience=audience, svid=shown))
        assert await refusal(call) is grpc.StatusCode.INVALID_ARGUMENT

    scenario(steps)


def test_api_6_2_3_a_foreign_domain_without_a_bundle_is_not_validated_by_our_keys() -> None:
    async def steps(one: Agent) -> None:
        from remit.trust.authority.jwt import TokenSigner

        await one.register()
        keyring = one.trust._keeper.keyring
        signer: TokenSigner = keyring.jwt
        forged = signer.sign({"sub": "spiffe://partner.test/a", "aud": ["a"], "exp": 4_102_444_800})
        call = answered(one, "ValidateJWTSVID", wire.ValidateJWTSVIDRequest(audience="a", svid=forged))
        assert await refusal(call) is grpc.StatusCode.INVALID_ARGUMENT

    scenario(steps)
