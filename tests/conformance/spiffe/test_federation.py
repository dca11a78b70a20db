"""SPIFFE Federation and Trust Domain and Bundle, clause by clause, over real handshakes on both sides."""

from __future__ import annotations

import asyncio
import json
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from federation_stage import (
    Domain,
    Endpoint,
    Responder,
    WebPki,
    answers,
    domain,
    endpoint,
    identified,
    redirects,
    trusting,
)
from remit.kernel.clock import SystemClock
from remit.kernel.errors import Rejected, RemitError
from remit.providers.bundles import MAX_DOCUMENT_BYTES, BundleClient
from remit.trust import AuthorityKind
from remit.trust.federation.service import Federation, Pace, PartnerView
from remit.trust.federation.terms import request_relation
from remit.trust.federation.testing import MemoryFederationStore
from remit.trust.spiffe import TrustDomain
from remit.trust.testing import KeyedAttester
from remit.trust.validate import validate_x509_svid

ENDPOINT = "/federation/endpoint"


@dataclass(slots=True)
class Stage:
    """Our trust domain and a partner's, and our federation over a real client."""

    ours: Domain
    theirs: Domain
    federation: Federation
    store: MemoryFederationStore
    pki: WebPki

    async def federate(
        self, place: Endpoint, *, profile: str = "https_spiffe", endpoint_id: str | None = None, **more: Any
    ) -> PartnerView:
        spiffe = profile == "https_spiffe"
        asked = request_relation(
            own=self.ours.trust.trust_domain,
            trust_domain="partner.test",
            url=more.pop("url", place.url),
            profile=profile,
            endpoint_id=(endpoint_id or f"spiffe://partner.test{ENDPOINT}") if spiffe else "",
            until=more.pop("until", datetime.now(UTC) + timedelta(days=1)),
            ids=["/*"],
            resources=["target/*"],
            now=datetime.now(UTC),
        )
        document = more.pop("document", self.theirs.document if spiffe else None)
        return await self.federation.add(asked, by="person:ann", document=document, **more)

    async def failure(self, place: Endpoint, **how: Any) -> str:
        return (await self.federate(place, **how)).polling.code


def run(
    steps: Callable[[Stage], Awaitable[None]], folder: Path, *, pace: Pace | None = None, hint: timedelta | None = None
) -> None:
    async def whole() -> None:
        clock = SystemClock()
        pki = WebPki.make(folder / "pki")
        async with domain("remit.test") as ours, domain("partner.test", hint=hint) as theirs:
            store = MemoryFederationStore(clock)
            federation = Federation(
                store,
                attester=KeyedAttester(),
                clock=clock,
                trust=ours.trust,
                fetcher=BundleClient(ca_file=pki.ca, timeout=timedelta(seconds=5)),
                chance=lambda: 0.5,
                pace=pace,
            )
            await federation.open()
            await asyncio.wait_for(steps(Stage(ours, theirs, federation, store, pki)), 60)

    asyncio.run(whole())


@asynccontextmanager
async def spiffe_endpoint(
    stage: Stage, answer: Responder | None = None, path: str = ENDPOINT
) -> AsyncIterator[Endpoint]:
    context = await stage.theirs.server(path)
    async with endpoint(context, answer or (lambda head: answers(stage.theirs.document)(head))) as place:
        yield place


# The endpoint, whatever its profile.


def test_endpoint_the_bundle_is_had_by_a_get_without_client_credentials(tmp_path: Path) -> None:
    async def steps(stage: Stage) -> None:
        async with spiffe_endpoint(stage) as place:
            view = await stage.federate(place)
        request = place.heads[0].lower()
        assert request.startswith(b"get /bundle http/1.1")
        assert b"authorization" not in request and b"cookie" not in request
        assert view.bundle is not None and view.bundle.x509_roots == stage.theirs.roots and view.polling.error == ""

    run(steps, tmp_path)


@pytest.mark.parametrize(
    ("answer", "code"),
    [
        (answers(b"{}", kind="text/html"), "providers.bundle.media_type"),
        (answers(b"{}", headers=("Content-Encoding: gzip",)), "providers.bundle.media_type"),
        (answers(b"{}", status="404 Not Found"), "providers.bundle.status"),
        (answers(b"{}", status="503 Busy"), "providers.bundle.busy"),
        (answers(b"{}"), "trust.bundle.malformed"),
        (answers(b"{" + b" " * MAX_DOCUMENT_BYTES + b"}"), "providers.bundle.too_large"),
        (lambda head: b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n\r\n{" + b" " * (2 << 20), "providers.bundle.too_large"),
        (lambda head: b"not http at all\r\n\r\n", "providers.bundle.unreachable"),
        (lambda head: b"", "providers.bundle.unreachable"),
        (answers(b'{"keys":[],"keys":[]}'), "trust.bundle.malformed"),
    ],
    ids=["html", "compressed", "404", "503", "no keys", "large", "endless", "no http", "nothing", "duplicate"],
)  # fmt: skip
def test_endpoint_an_answer_that_is_no_bundle_leaves_the_held_one(tmp_path: Path, answer: Responder, code: str) -> None:
    async def steps(stage: Stage) -> None:
        async with spiffe_endpoint(stage, answer) as place:
            view = await stage.federate(place)
        assert view.polling.code == code
        assert stage.ours.trust.foreign_bundles["partner.test"].x509_roots == stage.theirs.roots

    run(steps, tmp_path)


def test_endpoint_one_that_never_answers_is_given_up(tmp_path: Path) -> None:
    async def steps(stage: Stage) -> None:
        client = BundleClient(ca_file=stage.pki.ca, timeout=timedelta(milliseconds=300))
        never = asyncio.Event()

        async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await never.wait()
            writer.close()

        server = await asyncio.start_server(silent, "127.0.0.1", 0, ssl=stage.pki.server())
        port = server.sockets[0].getsockname()[1]
        with pytest.raises(RemitError) as refusal:
            await client.fetch(f"https://127.0.0.1:{port}/")
        never.set()
        server.close()
        await server.wait_closed()
        assert refusal.value.code == "providers.bundle.unreachable"

    run(steps, tmp_path)


def test_endpoint_less_than_tls_1_2_is_refused(tmp_path: Path) -> None:
    async def steps(stage: Stage) -> None:
        context = stage.pki.server()
        with pytest.warns(DeprecationWarning):
            context.minimum_version, context.maximum_version = ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1
        context.set_ciphers("ALL:@SECLEVEL=0")
        async with endpoint(context, answers(stage.theirs.document)) as place:
            assert await stage.failure(place, profile="https_web") == "providers.bundle.unreachable"
        assert place.heads == []

    run(steps, tmp_path)


# Federation §5.2.1: https_web.


def test_5_2_1_https_web_needs_a_certificate_of_a_trusted_ca_for_the_host(tmp_path: Path) -> None:
    async def steps(stage: Stage) -> None:
        async with endpoint(stage.pki.server(), answers(stage.theirs.document)) as place:
            view = await stage.federate(place, profile="https_web")
        assert view.bundle is not None and view.bundle.x509_roots == stage.theirs.roots

    run(steps, tmp_path)


@pytest.mark.parametrize("host", ["other.test", "127.0.0.2"])
def test_5_2_1_a_certificate_for_another_host_is_refused(tmp_path: Path, host: str) -> None:
    async def steps(stage: Stage) -> None:
        async with endpoint(stage.pki.server(host), answers(stage.theirs.document)) as place:
            assert await stage.failure(place, profile="https_web") == "providers.bundle.untrusted"
        assert place.heads == []

    run(steps, tmp_path)


def test_5_2_1_a_certificate_of_another_ca_is_refused(tmp_path: Path) -> None:
    async def steps(stage: Stage) -> None:
        other = WebPki.make(tmp_path / "other")
        async with endpoint(other.server(), answers(stage.theirs.document)) as place:
            assert await stage.failure(place, profile="https_web") == "providers.bundle.untrusted"

    run(steps, tmp_path)


def test_5_2_1_an_svid_is_no_certificate_of_the_web(tmp_path: Path) -> None:
    async def steps(stage: Stage) -> None:
        async with spiffe_endpoint(stage) as place:
            assert await stage.failure(place, profile="https_web") == "providers.bundle.untrusted"

    run(steps, tmp_path)


# Federation §5.2.2: https_spiffe.


def test_5_2_2_an_endpoint_with_another_id_of_the_same_domain_is_refused(tmp_path: Path) -> None:
    async def steps(stage: Stage) -> None:
        async with spiffe_endpoint(stage, path="/intruder") as place:
            assert await stage.failure(place) == "trust.federation.endpoint"

    run(steps, tmp_path)


def test_5_2_2_the_right_id_from_another_authority_is_refused(tmp_path: Path) -> None:
    async def steps(stage: Stage) -> None:
        async with (
            domain("partner.test") as false,
            endpoint(await false.server(ENDPOINT), answers(false.document)) as place,
        ):
            assert await stage.failure(place) == "providers.bundle.untrusted"
        assert place.heads == []

    run(steps, tmp_path)


def test_5_2_2_a_certificate_of_the_web_is_no_svid(tmp_path: Path) -> None:
    async def steps(stage: Stage) -> None:
        async with endpoint(stage.pki.server(), answers(stage.theirs.document)) as place:
            assert await stage.failure(place) == "providers.bundle.untrusted"

    run(steps, tmp_path)


def test_5_2_2_after_the_first_fetch_the_latest_bundle_verifies_not_the_bootstrap(tmp_path: Path) -> None:
    async def steps(stage: Stage) -> None:
        async with spiffe_endpoint(stage) as place:
            await stage.federate(place)
            first = stage.theirs.trust.bundle.x509_roots[0]
            old = next(one.id for one in stage.theirs.trust.authorities() if one.public == first)
            await stage.theirs.trust.rotate_authority(AuthorityKind.X509, actor="person:bo")
            await stage.federation.refresh("partner.test")
        await stage.theirs.trust.revoke_authority(old, actor="person:bo")
        async with endpoint(
            identified(ssl.PROTOCOL_TLS_SERVER, await stage.theirs.svid(ENDPOINT)), answers(stage.theirs.document)
        ) as place:
            view = await stage.federate(place, replaces=True, document=None)
        assert view.polling.error == ""
        assert view.bundle is not None and first not in view.bundle.x509_roots

    run(steps, tmp_path)


# Redirects.


@pytest.mark.parametrize("status", ["302 Found", "303 See Other", "307 Temporary Redirect"])
def test_a_temporary_redirect_to_the_same_identity_is_followed(tmp_path: Path, status: str) -> None:
    async def steps(stage: Stage) -> None:
        async with spiffe_endpoint(stage) as target, spiffe_endpoint(stage, redirects(target.url, status)) as place:
            assert (await stage.federate(place)).polling.error == ""
        assert len(target.heads) == 1

    run(steps, tmp_path)


@pytest.mark.parametrize("status", ["301 Moved Permanently", "308 Permanent Redirect", "300 Multiple Choices"])
def test_a_permanent_redirect_is_not_followed(tmp_path: Path, status: str) -> None:
    async def steps(stage: Stage) -> None:
        async with spiffe_endpoint(stage) as target, spiffe_endpoint(stage, redirects(target.url, status)) as place:
            assert await stage.failure(place) == "providers.bundle.status"
        assert target.handshakes == 0

    run(steps, tmp_path)


def test_a_redirect_to_another_spiffe_id_is_refused(tmp_path: Path) -> None:
    async def steps(stage: Stage) -> None:
        async with (
            spiffe_endpoint(stage, path="/intruder") as target,
            spiffe_endpoint(stage, redirects(target.url)) as place,
        ):
            assert await stage.failure(place) == "trust.federation.endpoint"

    run(steps, tmp_path)


@pytest.mark.parametrize(
    "location", ["https://localhost:{port}/", "http://127.0.0.1:{port}/", "", "//other.test/", "ftp:x"]
)
def test_https_web_a_redirect_stays_on_its_host_and_on_https(tmp_path: Path, location: str) -> None:
    async def steps(stage: Stage) -> None:
        async with endpoint(stage.pki.server(), answers(stage.theirs.document)) as target:
            away = redirects(location.format(port=target.port))
            async with endpoint(stage.pki.server(), away) as place:
                assert await stage.failure(place, profile="https_web") == "providers.bundle.redirected"
            assert target.handshakes == 0

    run(steps, tmp_path)


def test_a_circle_ends(tmp_path: Path) -> None:
    async def steps(stage: Stage) -> None:
        async with endpoint(stage.pki.server(), redirects("/bundle")) as place:
            assert await stage.failure(place, profile="https_web") == "providers.bundle.redirected"
        assert len(place.heads) == 4

    run(steps, tmp_path)


# Parameters, and the life of a relation.


def test_parameters_nothing_is_inferred_trust_domain_url_and_profile_are_said(tmp_path: Path) -> None:
    with pytest.raises(TypeError):
        request_relation(  # type: ignore[call-arg]
            own=TrustDomain("a.test"), trust_domain="b.test", until=datetime.now(UTC), ids=[], resources=[],
            now=datetime.now(UTC),
        )  # fmt: skip


def test_polling_a_rotation_reaches_us_by_polling_without_a_failed_handshake(tmp_path: Path) -> None:
    async def steps(stage: Stage) -> None:
        async with spiffe_endpoint(stage) as place:
            await stage.federate(place)
            polling = asyncio.create_task(stage.federation.run())
            failed: list[str] = []
            workload, ours = await stage.theirs.svid("/billing"), await stage.ours.svid("/shop")
            # The successor is published and fetched before it signs: prepare, wait for two polls, activate.
            await handshake(stage, ours, workload, failed)
            prepared = await stage.theirs.trust.prepare_authority(AuthorityKind.X509, actor="person:bo")
            while prepared.public not in stage.ours.trust.foreign_bundles["partner.test"].x509_roots:
                await handshake(stage, ours, workload, failed)
                await asyncio.sleep(0.02)
            await stage.theirs.trust.activate_authority(prepared.id, actor="person:bo")
            fresh = await stage.theirs.svid("/billing/after")
            for each in (workload, fresh):
                await handshake(stage, ours, each, failed)
            polling.cancel()
        assert fresh.authority == prepared.id != workload.authority
        assert failed == []

    run(steps, tmp_path, pace=Pace(least=timedelta(milliseconds=200)), hint=timedelta(seconds=1))


async def handshake(stage: Stage, server: Any, client: Any, failed: list[str]) -> None:
    """A workload of the partner calls one of ours: each verifies the other by the bundle of the other's domain."""
    held = stage.ours.trust.foreign_bundles["partner.test"].x509_roots
    listening = trusting(identified(ssl.PROTOCOL_TLS_SERVER, server), held)
    calling = trusting(identified(ssl.PROTOCOL_TLS_CLIENT, client), stage.ours.roots)
    async with endpoint(listening, answers(b"{}")) as place:
        try:
            reader, writer = await asyncio.open_connection("127.0.0.1", place.port, ssl=calling)
            writer.write(b"GET / HTTP/1.1\r\n\r\n")
            if not await reader.read():
                failed.append("no answer")
            writer.close()
        except (OSError, ssl.SSLError) as error:
            failed.append(str(error))


# Bundles are never merged.


def test_bundles_are_not_merged_what_one_partner_signs_in_the_name_of_another_is_refused(tmp_path: Path) -> None:
    async def steps(stage: Stage) -> None:
        async with domain("third.test") as third, domain("partner.test") as liar:
            # The third domain signs with the very key whose root is in its own bundle, an id of the partner.
            bundles = {"partner.test": stage.theirs.trust.bundle, "third.test": third.trust.bundle}
            forged = await liar.svid("/billing")
            honest = await stage.theirs.svid("/billing")
            bundles["third.test"] = bundle_as("third.test", liar)

            def verify(svid: Any) -> str:
                found = validate_x509_svid([svid.certificate], lambda one: bundles.get(one.name), datetime.now(UTC))
                return str(found.spiffe_id)

            assert verify(honest) == "spiffe://partner.test/billing"
            with pytest.raises(Rejected) as refusal:
                verify(forged)
            assert refusal.value.code == "trust.x509_svid.untrusted"

    run(steps, tmp_path)


def bundle_as(name: str, liar: Domain) -> Any:
    """The keys of `liar`, published as the bundle of another domain."""
    from remit.trust.federation.document import read_bundle

    return read_bundle(TrustDomain(name), json.dumps(json.loads(liar.document)).encode())
