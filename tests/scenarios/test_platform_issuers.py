"""Issuers over real HTTPS: discovery, rotation, faults, lies; and an API server that reviews tokens."""

from __future__ import annotations

import asyncio
import gzip
import json
from collections.abc import Callable, Coroutine, Iterator, Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from https_stage import Answer, HttpsStage, https_stage
from platform_tokens import AUDIENCE, GITLAB, KUBERNETES, OTHER_KEY, RSA_KEY, by_pyjwt, issued, public_jwk
from remit.kernel.clock import ManualClock
from remit.kernel.errors import Misconfigured, Rejected, RemitError, Unavailable
from remit.providers.documents import Documents
from remit.providers.kubernetes.tokens import TokenReviews
from remit.providers.oidc import STALE, IssuerKeys, KeyFile
from remit.trust.attestors.gitlab import GitLabAttestor
from remit.trust.attestors.kubernetes_psat import Cluster, KubernetesPsatAttestor, ReviewedBy
from remit.trust.issuers import Issuer
from remit.trust.testing import NOON

METADATA, KEYS = "/.well-known/openid-configuration", "/keys"
ONE, TWO = public_jwk(RSA_KEY, "k1", alg="RS256"), public_jwk(OTHER_KEY, "k2", alg="RS256")


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[HttpsStage]:
    with https_stage(tmp_path) as running:
        running.on(METADATA, {"issuer": running.url, "jwks_uri": running.url + KEYS})
        running.on(KEYS, {"keys": [ONE]}, cache_control="public, max-age=600")
        yield running


def keys_of(stage: HttpsStage, clock: ManualClock, **more: Any) -> IssuerKeys:
    return IssuerKeys(stage.url, documents=Documents(ca_file=stage.ca_file, **more), clock=clock)


def run(story: Callable[[ManualClock], Coroutine[Any, Any, Any]]) -> Any:
    return asyncio.run(story(ManualClock(NOON)))


def failure(stage: HttpsStage, **more: Any) -> str:
    """The code with which nothing can be had from this issuer."""

    async def story(clock: ManualClock) -> None:
        await keys_of(stage, clock, **more).find("k1")

    with pytest.raises(RemitError) as failed:
        run(story)
    return failed.value.code


def test_keys_are_fetched_by_discovery_and_kept(stage: HttpsStage) -> None:
    async def story(clock: ManualClock) -> None:
        keys = keys_of(stage, clock)
        assert await asyncio.gather(*(keys.find("k1") for _ in range(50))) == [ONE] * 50
        clock.advance(timedelta(seconds=599))
        assert await keys.find("k1") == ONE

    run(story)
    assert stage.asked == [METADATA, KEYS]


def test_they_are_fetched_again_when_their_time_is_over(stage: HttpsStage) -> None:
    async def story(clock: ManualClock) -> None:
        keys = keys_of(stage, clock)
        await keys.find("k1")
        stage.on(KEYS, {"keys": [TWO]})
        clock.advance(timedelta(seconds=600))
        assert (await keys.find("k1"), await keys.find("k2")) == (None, TWO)

    run(story)


def test_a_new_key_is_found_at_once_and_an_unknown_one_does_not_make_us_ask_again_and_again(stage: HttpsStage) -> None:
    async def story(clock: ManualClock) -> None:
        keys = keys_of(stage, clock)
        assert await keys.find("k1") == ONE
        stage.on(KEYS, {"keys": [ONE, TWO]})
        clock.advance(timedelta(seconds=31))
        assert await keys.find("k2") == TWO
        seen = len(stage.asked)
        assert [await keys.find(f"unknown{number}") for number in range(100)] == [None] * 100
        assert len(stage.asked) == seen
        clock.advance(timedelta(seconds=31))
        assert await keys.find("unknown") is None
        assert len(stage.asked) > seen

    run(story)


def test_while_the_issuer_is_away_the_last_keys_serve_for_a_bounded_time(stage: HttpsStage) -> None:
    async def story(clock: ManualClock) -> None:
        keys = keys_of(stage, clock)
        await keys.find("k1")
        stage.on(KEYS, Answer(status=503))
        clock.advance(timedelta(hours=1))
        assert [await keys.find("k1") for _ in range(10)] == [ONE] * 10
        assert len(stage.asked) == 4  # once each until it is back
        clock.advance(STALE)
        with pytest.raises(Unavailable) as failed:
            await keys.find("k1")
        assert failed.value.code == "providers.document.unreachable"
        stage.on(KEYS, {"keys": [TWO]})
        clock.advance(timedelta(seconds=5))
        assert await keys.find("k2") == TWO

    run(story)


LIES: dict[str, tuple[str, Any, str]] = {
    "metadata of another issuer": (METADATA, {"issuer": "https://example.com", "jwks_uri": "x"}, "providers.oidc.mismatch"),
    "metadata of nobody": (METADATA, {"jwks_uri": "x"}, "providers.oidc.mismatch"),
    "an issuer twice": (METADATA, b'{"issuer":"a","issuer":"b"}', "providers.document.malformed"),
    "a page": (METADATA, b"<html>", "providers.document.malformed"),
    "a redirect to another host": (
        METADATA, Answer(status=302, headers={"location": "https://127.0.0.2:1/"}), "providers.document.unreachable",
    ),
    "a redirect to itself": (
        METADATA, Answer(status=302, headers={"location": METADATA}), "providers.document.unreachable",
    ),
    "no list of keys": (KEYS, {"keys": "k1"}, "providers.oidc.malformed"),
    "two keys of one name": (KEYS, {"keys": [ONE, {**TWO, "kid": "k1"}]}, "providers.oidc.malformed"),
    "too many keys": (KEYS, {"keys": [{"kid": str(number)} for number in range(300)]}, "providers.oidc.malformed"),
    "too much": (KEYS, b'{"keys":[' + b" " * 600_000 + b"]}", "providers.document.malformed"),
    "something compressed": (
        KEYS, Answer(gzip.compress(b'{"keys":[]}'), headers={"content_encoding": "gzip"}), "providers.document.malformed",
    ),
    "nothing": (KEYS, Answer(status=404), "providers.document.unreachable"),
}  # fmt: skip


@pytest.mark.parametrize("what", LIES)
def test_what_cannot_be_believed_is_not(stage: HttpsStage, what: str) -> None:
    path, answer, code = LIES[what]
    stage.on(path, answer)
    assert failure(stage) == code


@pytest.mark.parametrize(
    "address", ["", 7, "http://169.254.169.254/keys", "http://example.com/keys", "file:///etc/passwd"]
)
def test_keys_are_not_fetched_from_just_anywhere(stage: HttpsStage, address: Any) -> None:
    stage.on(METADATA, {"issuer": stage.url, "jwks_uri": address})
    assert failure(stage) == "providers.oidc.malformed"


def test_who_waits_for_an_issuer_that_is_away_does_not_ask_it_in_turn(stage: HttpsStage) -> None:
    async def story(clock: ManualClock) -> None:
        stage.on(METADATA, Answer(status=503))
        keys = keys_of(stage, clock)
        ends = await asyncio.gather(*(keys.find("k1") for _ in range(20)), return_exceptions=True)
        assert {type(end) for end in ends} == {Unavailable}

    run(story)
    assert stage.asked == [METADATA]


def test_a_redirect_on_the_same_host_is_followed(stage: HttpsStage) -> None:
    stage.on(KEYS, Answer(status=307, headers={"location": "/moved"}))
    stage.on("/moved", {"keys": [ONE]})
    assert run(lambda clock: keys_of(stage, clock).find("k1")) == ONE


def test_a_certificate_of_another_authority_is_refused(stage: HttpsStage, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    with https_stage(other) as impostor:
        stage.ca_file = impostor.ca_file
        assert failure(stage) == "providers.document.unreachable"
    assert stage.asked == []


def test_a_token_of_ours_is_shown_to_the_issuer_and_to_nobody_else(stage: HttpsStage, tmp_path: Path) -> None:
    secret = tmp_path / "token"
    secret.write_text("s3cr3t-bearer\n")
    shown: list[str | None] = []

    def keys(body: bytes, headers: Mapping[str, str]) -> Answer:
        shown.append(headers.get("authorization"))
        return Answer({"keys": [ONE]})

    stage.routes[KEYS] = keys
    assert run(lambda clock: keys_of(stage, clock, bearer_file=secret).find("k1")) == ONE
    assert shown == ["Bearer s3cr3t-bearer"]
    secret.unlink()
    assert failure(stage, bearer_file=secret) == "providers.document.secret"


@pytest.mark.parametrize(
    "issuer",
    ["http://example.com", "ftp://example.com", "https://u:p@example.com", "https://example.com/?a", "x", "https://"],
)
def test_an_issuer_that_is_no_address_is_not_configured(issuer: str) -> None:
    with pytest.raises(Misconfigured):
        IssuerKeys(issuer, documents=Documents(), clock=ManualClock(NOON))


def test_keys_in_a_file_are_read_again_when_it_changes(tmp_path: Path) -> None:
    file = tmp_path / "keys.json"
    file.write_text(json.dumps({"keys": [ONE]}))
    keys = KeyFile(file)
    assert asyncio.run(keys.find("k1")) == ONE
    file.write_text(json.dumps({"keys": [ONE, TWO]}))
    assert asyncio.run(keys.find("k2")) == TWO
    file.unlink()
    with pytest.raises(Unavailable) as failed:
        asyncio.run(keys.find("k1"))
    assert failed.value.code == "providers.oidc.file"


def test_a_job_proves_itself_across_a_rotation_of_its_platforms_keys(stage: HttpsStage) -> None:
    async def story(clock: ManualClock) -> None:
        issuer = Issuer(url=stage.url, audiences=(AUDIENCE,), keys=keys_of(stage, clock))
        attestor = GitLabAttestor(issuer)
        first = await attestor.begin({"token": by_pyjwt(issued(GITLAB, iss=stage.url))}, NOON)
        stage.on(KEYS, {"keys": [TWO]})
        clock.advance(timedelta(minutes=10))
        new = by_pyjwt(issued(GITLAB, iss=stage.url), key=OTHER_KEY, kid="k2")
        assert (await attestor.begin({"token": new}, NOON)).selectors == first.selectors
        with pytest.raises(Rejected) as refused:
            await attestor.begin({"token": by_pyjwt(issued(GITLAB, iss=stage.url))}, NOON)
        assert refused.value.code == "trust.proof.unknown_key"

    run(story)


def test_a_pod_is_reviewed_by_its_api_server(stage: HttpsStage, tmp_path: Path) -> None:
    (tmp_path / "sa").write_text("reviewer-token")
    token = by_pyjwt(issued(KUBERNETES))
    asked: list[Any] = []

    def review(body: bytes, headers: Mapping[str, str]) -> Answer:
        asked.append((json.loads(body)["spec"], headers.get("authorization")))
        good = json.loads(body)["spec"]["token"] == token
        user = {
            "username": KUBERNETES["sub"],
            "uid": "14ee3fa4",
            "groups": ["system:serviceaccounts"],
            "extra": {"authentication.kubernetes.io/pod-name": ["nightly-x7f9"]},
        }
        status = {"authenticated": True, "user": user, "audiences": [AUDIENCE]} if good else {"error": "no"}
        return Answer({"apiVersion": "authentication.k8s.io/v1", "kind": "TokenReview", "status": status}, status=201)

    stage.routes["/apis/authentication.k8s.io/v1/tokenreviews"] = review
    documents = Documents(ca_file=stage.ca_file, bearer_file=tmp_path / "sa")
    by = ReviewedBy(reviewer=TokenReviews(stage.url, documents=documents), audiences=(AUDIENCE,))
    attestor = KubernetesPsatAttestor([Cluster(name="prod", by=by)])
    evidence = asyncio.run(attestor.begin({"token": token, "cluster": "prod"}, NOON))
    assert sorted(map(str, evidence.selectors)) == [
        "k8s_psat:cluster:prod",
        "k8s_psat:namespace:prod/billing",
        "k8s_psat:pod_name:prod/billing/nightly-x7f9",
        "k8s_psat:service_account:prod/billing/nightly",
        "k8s_psat:service_account_uid:prod/14ee3fa4",
    ]
    assert asked == [({"token": token, "audiences": [AUDIENCE]}, "Bearer reviewer-token")]
    with pytest.raises(Rejected):
        asyncio.run(attestor.begin({"token": by_pyjwt(issued(KUBERNETES)), "cluster": "prod"}, NOON))
    with pytest.raises(Rejected):
        asyncio.run(attestor.begin({"token": by_pyjwt(issued(KUBERNETES, aud="other"))}, NOON))
    assert len(asked) == 2  # what is not for us is not asked about


@pytest.mark.parametrize("answer", [Answer(status=401), Answer({"kind": "Status"}), Answer(b"")])
def test_an_api_server_that_says_nothing_is_no_refusal(stage: HttpsStage, answer: Answer) -> None:
    stage.on("/apis/authentication.k8s.io/v1/tokenreviews", answer)
    by = ReviewedBy(reviewer=TokenReviews(stage.url, documents=Documents(ca_file=stage.ca_file)), audiences=(AUDIENCE,))
    with pytest.raises(Unavailable):
        asyncio.run(
            KubernetesPsatAttestor([Cluster(name="p", by=by)]).begin({"token": by_pyjwt(issued(KUBERNETES))}, NOON)
        )
