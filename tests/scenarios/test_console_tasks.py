"""The console's pages of live tasks, leases and targets, in a real browser, on real targets."""

from __future__ import annotations

import os
import re
import signal
import sqlite3
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, expect
from test_console import CONTRAST, browser, signed_in  # noqa: F401

from console_tasks_stage import CACHE, ORDERS, Scene, scene, until
from remit.kernel.ids import new_id

MANY = 230


@pytest.fixture(scope="module")
def server() -> Iterator[Scene]:
    with scene() as made:
        yield made


@pytest.fixture
def page(browser: Browser, server: Scene) -> Iterator[Page]:  # noqa: F811
    with signed_in(browser, server.remit) as opened:
        yield opened


@pytest.fixture(scope="module")
def billing(server: Scene) -> dict[str, Any]:
    """A lease of a task that runs for as long as the installation does."""
    _, [lease] = server.run(ORDERS)
    return lease


def live(page: Page, server: Scene, path: str = "/tasks") -> None:
    page.goto(server.remit.url + path)
    expect(page.locator("[data-live-state]")).to_have_text("live")


def test_a_running_task_shows_where_it_runs_until_when_and_what_it_holds(
    page: Page, server: Scene, billing: dict[str, Any]
) -> None:
    live(page, server)
    task = page.locator(f"#running tr#{billing['grant']}")
    expect(task).to_contain_text("billing")
    expect(task).to_contain_text(billing["kind"])
    expect(task).to_contain_text(billing["where"])
    expect(task).to_contain_text("of person:ann")
    expect(task).to_contain_text("the kernel says when")
    expect(task.locator(f"a[href='/leases/{billing['id']}']")).to_have_text(ORDERS)
    bar = task.locator("svg.age")
    expect(bar).to_have_attribute("aria-label", re.compile(r"old · native expiry in \d+ min · hard end in"))
    box = bar.bounding_box()
    assert box and box["width"] > 100


def test_a_run_far_away_shows_its_heartbeat(page: Page, server: Scene) -> None:
    server.begin()
    live(page, server)
    task = page.locator("#running tr", has_text="a heartbeat every 900 s").first
    expect(task).to_contain_text("batch")
    expect(task).to_contain_text("spiffe://remit.local/task/batch")
    expect(task).to_contain_text("lost in")


def test_a_lease_comes_and_ends_before_ones_eyes(page: Page, server: Scene) -> None:
    live(page, server, "/tasks?target=orders")
    page.evaluate("window.sameDocument = true")
    process, [lease] = server.run(ORDERS)
    row = page.locator(f"#leases tr#{lease['id']}")
    expect(row).to_contain_text("active")
    expect(page.locator(f"#running tr#{lease['grant']}")).to_be_visible()
    server.end(process)
    expect(row).to_contain_text("revoked")
    expect(row).to_contain_text("refused: 28")
    expect(page.locator(f"#running tr#{lease['grant']}")).to_contain_text("ended")
    assert page.evaluate("window.sameDocument") is True


def test_what_is_not_contained_is_loud_and_stays_until_the_target_answers(page: Page, server: Scene) -> None:
    process, [lease] = server.run(CACHE)
    live(page, server)
    os.kill(server.redis.process.pid, signal.SIGKILL)
    assert process.stdin is not None
    process.stdin.close()  # it comes to its end; `remit run` itself waits for the proof for a while
    notice = page.locator("[role=alert]")
    expect(notice).to_contain_text("may still work")
    expect(notice).to_contain_text(lease["principal"])
    expect(page.locator(f"#leases tr#{lease['id']}")).to_contain_text("not contained")
    page.goto(f"{server.remit.url}/leases/{lease['id']}")
    expect(page.locator("h1")).to_contain_text("not contained")
    expect(page.locator("#proof + .panel")).to_contain_text("Nothing yet")
    page.goto(f"{server.remit.url}/targets/cache")
    expect(page.locator("h1")).to_contain_text("not contained: 1")
    expect(page.locator("#doctor")).to_contain_text("fail")


def test_a_lease_tells_its_whole_life_from_the_ledger(page: Page, server: Scene) -> None:
    process, [lease] = server.run(ORDERS)
    server.end(process)
    until(lambda: next(each for each in server.leases(all=1) if each["id"] == lease["id"])["state"] == "revoked")
    page.goto(f"{server.remit.url}/leases/{lease['id']}")
    steps = page.locator("ol.timeline b").all_inner_texts()
    assert steps[:2] in (
        ["access.grant.created", "access.lease.issuing"],
        ["access.lease.issuing", "access.grant.created"],
    )
    assert [each for each in steps if each.startswith("access.lease")] == [
        "access.lease.issuing", "access.lease.issued", "access.lease.revoking", "access.lease.revoked",
    ]  # fmt: skip
    expect(page.locator("#proof + .panel")).to_contain_text("password authentication failed")
    expect(page.locator("#proof + .panel")).to_contain_text("sessions ended")
    page.locator("#why + .panel a[href^='/decisions/']").click()
    expect(page.locator("h1")).to_contain_text("lease:issue")
    assert page.locator("main b", has_text="may").count() == 0  # the policy's reason is text
    page.goto(f"{server.remit.url}/leases/{lease['id']}")
    page.locator("#why + .panel a[href^='/requests/']").click()
    expect(page.locator("main")).to_contain_text(lease["principal"])


def test_the_filters_narrow_and_say_what_they_do_not_know(page: Page, server: Scene, billing: dict[str, Any]) -> None:
    row = page.locator(f"#leases tr#{billing['id']}")
    live(page, server, "/tasks?identity=billing&target=orders&state=active")
    expect(row).to_be_visible()
    expect(page.locator("select[name=state]")).to_have_value("active")
    page.select_option("select[name=target]", "cache")
    page.locator("form.filters button").click()
    expect(page).to_have_url(re.compile("target=cache"))
    expect(row).to_have_count(0)
    live(page, server, "/tasks?identity=nobody-of-that-name")
    expect(page.locator("p.notice")).to_contain_text("nobody-of-that-name")
    expect(page.locator("#leases .empty")).to_contain_text("No lease is like that")


def test_pages_of_many_leases_hold_each_one_once(page: Page, server: Scene, billing: dict[str, Any]) -> None:
    made = copies(server, billing["id"], MANY)
    seen: list[str] = []
    page.goto(f"{server.remit.url}/leases?task=many")
    while True:
        seen += page.locator("#leases tr").evaluate_all("rows => rows.map(row => row.id)")
        further = page.locator("a[rel=next]")
        if not further.count():
            break
        further.click()
        expect(page).to_have_url(re.compile(seen[-1]))
    assert seen == sorted(made, reverse=True)
    page.locator("a[rel=first]").click()
    expect(page.locator("#leases tr").first).to_have_attribute("id", seen[0])


def copies(server: Scene, lease_id: str, number: int) -> set[str]:
    """Rows of ended leases of a task `many`, written beside the server."""
    with sqlite3.connect(server.remit.data / "remit.db", timeout=60) as database:
        database.row_factory = sqlite3.Row
        row = dict(database.execute("SELECT * FROM access_lease WHERE id = ?", (lease_id,)).fetchone())
        made = [new_id("ls", datetime.now(UTC)) for _ in range(number)]
        rows = [
            {**row, "id": one, "principal": f"remit_xxxxxxxx_{one[3:]}", "task": "many", "state": "revoked"}
            for one in made
        ]
        names = ", ".join(f":{name}" for name in row)
        quoted = ", ".join(f'"{name}"' for name in row)
        database.executemany(f"INSERT INTO access_lease ({quoted}) VALUES ({names})", rows)
    database.close()
    return set(made)


def test_a_target_tells_its_hazards_and_what_its_broker_says_now(
    page: Page, server: Scene, billing: dict[str, Any]
) -> None:
    page.goto(f"{server.remit.url}/targets")
    page.locator("tbody a", has_text="orders").click()
    expect(page.locator("#doctor ul")).to_contain_text("pass")
    expect(page.locator("main")).to_contain_text("last sweep")
    expect(page.locator("dl.facts").first).to_contain_text("active")
    expect(page.locator("h2", has_text="Hazards").locator("+ .panel")).not_to_be_empty()
    expect(page.locator(f"#leases tr#{billing['id']}")).to_be_visible()


def test_a_lease_or_a_target_that_is_not_known_says_so(server: Scene) -> None:
    cookie = {"Cookie": server.remit.sign_in()}
    for path in ("/leases/ls_none", "/targets/none", "/targets/none/doctor", f"/leases/{'x' * 4000}"):
        with server.remit.http("GET", path, headers=cookie) as answer:
            assert answer.status == 404, path


def test_nobody_sees_any_of_it_without_a_session(server: Scene) -> None:
    for path in ("/tasks", "/tasks/stream", "/leases", "/leases/ls_none", "/targets", "/targets/orders/doctor"):
        with server.remit.http("GET", path) as answer:
            assert answer.status == 401, path


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 420])
def test_each_page_fits_and_can_be_read(
    browser: Browser, server: Scene, billing: dict[str, Any], scheme: str, width: int  # noqa: F811
) -> None:  # fmt: skip
    how = {"color_scheme": scheme, "viewport": {"width": width, "height": 900}}
    with signed_in(browser, server.remit, **how) as opened:
        for path in ("/tasks", "/leases", f"/leases/{billing['id']}", "/targets", "/targets/orders"):
            opened.goto(server.remit.url + path)
            expect(opened.locator("h1")).to_be_visible()
            wide = opened.evaluate("document.documentElement.scrollWidth")
            assert wide <= width, f"{path} is {wide} wide"
            assert opened.evaluate(CONTRAST) == [], path
