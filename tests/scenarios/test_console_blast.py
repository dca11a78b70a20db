"""The console's pages of blast radii in a real browser: opened hop by hop, filtered, with an edge removed on trial."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, expect, sync_playwright

from blast_stage import estate, load
from installation import Installation, installation

CHROMIUM = next(
    (found for name in ("chromium", "chromium-browser", "google-chrome") if (found := shutil.which(name))), None
)
FLAGS = [
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
]  # fmt: skip
HOSTILE = '</text><img src=x onerror="alert(1)">'


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    if CHROMIUM is None:
        pytest.skip("chromium: no executable found")
    with sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield running
        running.close()


@pytest.fixture(scope="module")
def server() -> Iterator[Installation]:
    """An estate whose ADMIN reaches 700 logs, one of them with a hostile name."""
    if CHROMIUM is None:
        pytest.skip("chromium: no executable found")
    with installation(REMIT_GRAPH_BUDGET_TIER1="20", REMIT_GRAPH_REVIEW_SECONDS="1") as made:
        document = estate(rest=700)
        document["resources"][-1] |= {"title": HOSTILE, "sensitivity": "confidential"}
        load(made, document)
        yield made


@contextmanager
def signed_in(browser: Browser, server: Installation, **how: Any) -> Iterator[Page]:
    """A page that fails when the browser said anything wrong by its end."""
    context = browser.new_context(**how)
    page = context.new_page()
    page.set_default_timeout(15_000)
    wrong: list[str] = []
    page.on("console", lambda said: wrong.append(said.text) if said.type in ("error", "warning") else None)
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.on("dialog", lambda dialog: wrong.append(f"dialog: {dialog.message}") or dialog.dismiss())
    try:
        page.goto(server.cli("console").stdout.strip())
        yield page
        assert wrong == []
    finally:
        context.close()


@pytest.fixture
def page(browser: Browser, server: Installation) -> Iterator[Page]:
    with signed_in(browser, server) as opened:
        yield opened


def _of(server: Installation, name: str) -> str:
    return str(server.json("ls", name)[0]["id"])


def _open(page: Page, server: Installation, more: str = "") -> None:
    page.goto(f"{server.url}/blast/{_of(server, 'batch')}{more}")
    page.evaluate("window.sameDocument = true")


def test_the_largest_lead_to_their_pictures(page: Page, server: Installation) -> None:
    page.goto(f"{server.url}/blast")
    row = page.locator("tbody tr", has_text="batch")
    expect(row).to_contain_text("20 exceeded")
    row.locator("a").first.click()
    expect(page.locator("h1")).to_have_text("Blast radius of batch")
    expect(page.locator("svg.blast a.blast-node", has_text="admin")).to_have_count(1)


def test_a_click_shows_more_without_a_new_page_and_can_be_shared(page: Page, server: Installation) -> None:
    _open(page, server)
    expect(page.locator("svg.blast .blast-box")).to_have_count(4)
    page.locator("a.blast-more").click()
    expect(page.locator("svg.blast .blast-box")).to_have_count(14)
    assert page.evaluate("window.sameDocument") is True
    page.goto(page.url)
    expect(page.locator("svg.blast .blast-box")).to_have_count(14)
    expect(page.locator("#explorer tbody tr")).to_have_count(14)


def test_the_table_opens_further_too(page: Page, server: Installation) -> None:
    _open(page, server)
    page.get_by_role("link", name="more behind it").click()
    expect(page.locator("#explorer tbody tr")).to_have_count(14)
    assert page.evaluate("window.sameDocument") is True


def test_never_more_than_five_hundred_at_a_time(page: Page, server: Installation) -> None:
    found = server.json("blast", "batch")
    import hashlib

    key = hashlib.sha256(next(each["name"] for each in found["nodes"] if each["title"] == "admin").encode())
    _open(page, server, f"?open={'.'.join([key.hexdigest()[:10]] * 90)}")
    boxes = page.locator("svg.blast .blast-box").count() + page.locator(".blast-more").count()
    assert 490 < boxes <= 500
    expect(page.locator(".blast-more text")).to_contain_text("more")


def test_a_filter_leaves_the_ways_to_what_is_restricted(page: Page, server: Installation) -> None:
    _open(page, server)
    page.locator("select[name=class]").select_option("restricted")
    expect(page.locator("svg.blast .blast-title")).to_have_text(["batch", "ops", "admin", "PAY.MASTER"])
    assert page.evaluate("window.sameDocument") is True


def test_what_falls_away_without_an_edge_is_faint(page: Page, server: Installation) -> None:
    _open(page, server)
    page.locator("#explorer tr", has_text="CONNECT OPS GROUP(ADMIN) REMOVE").get_by_role(
        "link", name="what falls away without it"
    ).click()
    expect(page.locator("#explorer .notice")).to_contain_text("the score falls from 713 to 1")
    expect(page.locator("svg.blast a.blast-node.is-gone")).to_have_count(1)
    expect(page.locator("tr.is-gone")).to_contain_text("falls away")
    page.get_by_role("link", name="show it as it is").click()
    expect(page.locator("#explorer")).to_contain_text("of 704 shown")


def test_a_hostile_name_stays_text(page: Page, server: Installation) -> None:
    _open(page, server, "?class=confidential")
    expect(page.locator("svg.blast .blast-title", has_text="</text>")).to_have_count(1)
    expect(page.locator("#explorer td", has_text=HOSTILE).first).to_be_visible()
    assert page.locator("img").count() == 0


def test_without_a_script_the_same_links_work(browser: Browser, server: Installation) -> None:
    with signed_in(browser, server, java_script_enabled=False) as page:
        page.goto(f"{server.url}/blast/{_of(server, 'batch')}")
        page.locator("a.blast-more").click()
        expect(page.locator("#explorer tbody tr")).to_have_count(14)
        page.locator("select[name=class]").select_option("restricted")
        page.get_by_role("button", name="Show").click()
        expect(page.locator("svg.blast .blast-title").last).to_have_text("PAY.MASTER")


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("path", ["/blast", "/blast/"])
def test_a_small_window_scrolls_the_picture_not_the_page(
    browser: Browser, server: Installation, scheme: str, path: str
) -> None:
    how = {"viewport": {"width": 420, "height": 800}, "color_scheme": scheme}
    with signed_in(browser, server, **how) as page:
        page.goto(server.url + path + (_of(server, "batch") if path.endswith("/") else ""))
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")


def test_the_page_of_an_identity_leads_to_its_picture(page: Page, server: Installation) -> None:
    page.goto(f"{server.url}/identities/{_of(server, 'batch')}")
    page.get_by_role("link", name="look further").click()
    expect(page.locator("h1")).to_have_text("Blast radius of batch")


def test_all_of_a_host_has_a_picture_too(page: Page, server: Installation) -> None:
    page.goto(f"{server.url}/blast?host=lpar1")
    expect(page.locator("h1")).to_have_text("Blast radius of lpar1")
    page.locator("select[name=class]").select_option("restricted")
    expect(page.locator("svg.blast .blast-title")).to_have_text(["lpar1", "PAY.MASTER"])
