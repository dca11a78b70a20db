"""The requests of the AuthZEN certification scenario, each over HTTP to the decision listener."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from authzen_scenario import CASES, EVALUATION, READS, RESOURCES, SUBJECTS, Case, World, question, what
from decide_stage import Reply, decide_stage, identity
from remit.surface.api import authzen

WORLD = World()


def ask(path: str, body: Any, **headers: str) -> Reply:
    async def run() -> Reply:
        async with decide_stage() as stage:
            return await stage.post(path, body, **headers)

    return asyncio.run(run())


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.id)
def test_the_scenario(case: Case) -> None:
    reply = ask(case.path, case.body(WORLD), **case.headers)
    assert case.holds(reply.status, reply.body, WORLD), (reply.status, reply.raw)
    assert reply.headers.get("x-request-id", "") == case.headers.get("X-Request-ID", "")


def test_an_error_echoes_the_request_id_as_well() -> None:
    reply = ask(EVALUATION, b"{", X_Request_ID="r-1")
    assert (reply.status, reply.headers["x-request-id"]) == (400, "r-1")


@pytest.mark.parametrize(("method", "status"), [("GET", 405), ("PUT", 405), ("DELETE", 405)])
def test_an_evaluation_is_posted(method: str, status: int) -> None:
    async def run() -> int:
        async with decide_stage() as stage:
            line = await stage.line()
            line.send(EVALUATION, READS(WORLD), method)
            return (await line.reply()).status

    assert asyncio.run(run()) == status


def test_discovery_names_every_endpoint_under_the_url_in_use() -> None:
    async def run() -> Any:
        async with decide_stage() as stage:
            line = await stage.line()
            line.send(authzen.METADATA_PATH, b"", "GET")
            return (await line.reply()).body

    found = asyncio.run(run())
    assert found["policy_decision_point"] == "http://localhost"
    assert found["access_evaluation_endpoint"] == "http://localhost/access/v1/evaluation"
    assert {key for key in found if key.startswith("search_")} == {
        "search_subject_endpoint", "search_resource_endpoint", "search_action_endpoint",
    }  # fmt: skip


# Pages (§8.2).


async def pages(limit: int, people: int, **more: Any) -> list[Any]:
    """Every page of the readers of a record."""
    names = [identity(f"user-{number:02d}") for number in range(people)]
    found: list[Any] = []
    async with decide_stage(identities=names) as stage:
        body = question(lambda world: {"type": "identity"}, "read", what(), page={"limit": limit})(WORLD)
        while True:
            found.append((await stage.post(SUBJECTS, body)).body)
            token = found[-1]["page"]["next_token"]
            if not token:
                return found
            body["page"] = {"token": token, **more}


def test_pages_hold_everything_once_and_end_with_an_empty_token() -> None:
    found = asyncio.run(pages(4, 10))
    names = [each["id"] for page in found for each in page["results"]]
    assert (len(found), sorted(names)) == (3, [f"user-{number:02d}" for number in range(10)])


def test_a_page_counts_itself_and_gives_a_total_only_when_it_is_all() -> None:
    first, *_ = asyncio.run(pages(4, 10))
    (whole,) = asyncio.run(pages(20, 10))
    assert (first["page"]["count"], "total" in first["page"]) == (4, False)
    assert (whole["page"]["count"], whole["page"]["total"]) == (10, 10)


async def second_page(change: dict[str, Any], path: str = SUBJECTS, *, token: str = "") -> Reply:
    names = [identity(f"user-{number}") for number in range(5)]
    async with decide_stage(identities=names) as stage:
        body = question(lambda world: {"type": "identity"}, "read", what(), page={"limit": 2})(WORLD)
        first = (await stage.post(SUBJECTS, body)).body
        page = {"token": token or first["page"]["next_token"], "limit": 2}
        return await stage.post(path, {**body, "page": page, **change})


def test_the_next_page_of_the_same_search_is_given() -> None:
    assert asyncio.run(second_page({})).status == 200


@pytest.mark.parametrize(
    "change",
    [{"action": {"name": "write"}}, {"context": {"purpose": "x"}}, {"resource": {"type": "api", "id": "record-2"}}],
)
def test_a_token_is_of_one_search_alone(change: dict[str, Any]) -> None:
    reply = asyncio.run(second_page(change))
    assert (reply.status, reply.body["code"]) == (400, "access.authzen.page")


def test_a_token_of_another_kind_of_search_is_refused() -> None:
    change = {"subject": {"type": "identity", "id": "user-1"}}
    assert asyncio.run(second_page(change, RESOURCES)).status == 400


@pytest.mark.parametrize("token", ["x", "ü", "A" * 60, "A" * 5000])
def test_a_token_that_we_did_not_make_is_refused(token: str) -> None:
    assert asyncio.run(second_page({}, token=token)).status == 400


def test_a_token_tells_nothing_of_where_it_leads() -> None:
    first, *_ = asyncio.run(pages(2, 5))
    assert "user" not in json.dumps(first["page"])


@pytest.mark.parametrize("limit", [0, -1, "many", 10**9])
def test_a_limit_that_is_none_is_refused(limit: Any) -> None:
    body = question(lambda world: {"type": "identity"}, "read", what(), page={"limit": limit})(WORLD)
    assert ask(SUBJECTS, body).status == 400
