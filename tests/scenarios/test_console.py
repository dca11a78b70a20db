"""The console in a real browser, as somebody who looks at it."""

from __future__ import annotations

import html
import os
import re
import shutil
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, expect, sync_playwright

from installation import Installation, installation, plant

CHROMIUM = next(
    (found for name in ("chromium", "chromium-browser", "google-chrome") if (found := shutil.which(name))), None
)
FLAGS = [
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
]  # fmt: skip
MANY = 130
PAGES = (
    "/",
    "/inventory",
    "/sources",
    "/coverage",
    "/decisions",
    "/intents",
    "/findings",
    "/tasks",
    "/leases",
    "/targets",
    "/ledger-entries",
)
POLICY = (
    '@id("read") @reason("reading is <b>fine</b>") permit (principal, action == Remit::Action::"read", resource);\n'
)
HOSTILE = "<img src=x onerror=alert(1)>"


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
    """An installation that has read an estate of some size, with one hostile name in it, and has decided something."""
    if CHROMIUM is None:
        pytest.skip("chromium: no executable found")
    with installation() as made:
        tree = plant(made.root / "tree")
        for number in range(MANY):
            plant(tree / f"svc{number}", secret=f"kV7pQz3nWm8rTs5yXb2dLc9gH{number:03}", files={
                ".env": f"DATABASE_URL=postgres://svc_{number:03}:{{secret}}@db.example.test/db{number % 7}\n",
            })  # fmt: skip
        plant(tree / HOSTILE.replace("/", ""), secret="jW2mNv8bXc4zQp6rTy1uKd5fGh")
        made.cli("discover", "files", tree)
        (made.root / "p.cedar").write_text(POLICY)
        made.cli("policy", "apply", "p.cedar")
        decide(made, "svc_000")
        yield made


def decide(server: Installation, who: str, action: str = "read") -> Any:
    identity = server.json("ls", who)[0]["name"]
    body = {"subject": {"type": "identity", "id": identity}, "action": {"name": action},
            "resource": {"type": "thing", "id": "r"}}  # fmt: skip
    return server.admin.post("/access/v1/evaluation", body)


@contextmanager
def window(browser: Browser, *, expected: str = "", **how: Any) -> Iterator[Page]:
    """A page of a browser of its own; fails when it said anything wrong by its end, but for what is `expected`."""
    context = browser.new_context(**how)
    page = context.new_page()
    page.set_default_timeout(15_000)
    wrong: list[str] = []
    page.on("console", lambda said: wrong.append(said.text) if said.type in ("error", "warning") else None)
    page.on("pageerror", lambda error: wrong.append(str(error)))
    # What a navigation cuts off (a stream, an icon) is aborted by the browser itself.
    page.on(
        "requestfailed",
        lambda request: wrong.append(request.url) if request.failure != "net::ERR_ABORTED" else None,
    )
    page.on("dialog", lambda dialog: wrong.append(f"dialog: {dialog.message}") or dialog.dismiss())
    try:
        yield page
        assert [each for each in wrong if not expected or expected not in each] == []
    finally:
        context.close()


@contextmanager
def signed_in(browser: Browser, server: Installation, **how: Any) -> Iterator[Page]:
    with window(browser, **how) as page:
        page.goto(server.cli("console").stdout.strip())
        expect(page.locator("h1")).to_have_text("What exists, and what is wrong with it")
        yield page


@pytest.fixture
def page(browser: Browser, server: Installation) -> Iterator[Page]:
    with signed_in(browser, server) as opened:
        yield opened


def test_a_sign_in_link_works_once_and_leaves_no_code_in_the_address(browser: Browser, server: Installation) -> None:
    link = server.cli("console").stdout.strip()
    with window(browser) as first:
        first.goto(link)
        expect(first.locator("nav")).to_be_visible()
        assert first.url == f"{server.url}/"
    context = browser.new_context()
    second = context.new_page()
    second.goto(link)
    expect(second.locator("h1")).to_have_text("This link is spent")
    expect(second.locator("pre")).to_have_text("remit console")
    second.goto(server.url)
    expect(second.locator("h1")).to_have_text("Sign in")
    context.close()


@pytest.mark.parametrize("path", PAGES)
def test_each_page_has_its_heading_its_data_and_no_error(page: Page, server: Installation, path: str) -> None:
    page.goto(server.url + path)
    expect(page.locator("h1")).not_to_be_empty()
    expect(page.locator("nav a[aria-current=page]")).to_have_count(1)
    if path not in ("/tasks", "/leases", "/targets", "/intents"):
        assert page.locator("tbody tr").count() > 0
        assert page.locator(".empty").count() == 0
    assert page.evaluate("document.documentElement.lang") == "en"


def test_the_front_page_leads_to_what_its_numbers_count(page: Page, server: Installation) -> None:
    card = page.locator("a.card", has_text="nobody answers for")
    number = card.locator("b").inner_text()
    card.click()
    expect(page.locator(".pager span").first).to_contain_text(f"of {number}")
    assert "unowned=1" in page.url


def test_typing_narrows_the_inventory_without_a_new_page(page: Page, server: Installation) -> None:
    page.goto(f"{server.url}/inventory")
    page.evaluate("window.sameDocument = true")
    expect(page.locator("#rows tbody tr")).to_have_count(100)
    page.locator("input[name=text]").press_sequentially("svc_04", delay=20)
    expect(page.locator("#rows tbody tr")).to_have_count(10)
    page.locator("input[name=text]").fill("")
    expect(page.locator("#rows tbody tr")).to_have_count(100)
    page.locator("input[name=text]").fill("no such thing")
    expect(page.locator("#rows .empty")).to_contain_text("Nothing matches")
    assert page.evaluate("window.sameDocument") is True


def test_the_narrowed_view_can_be_shared_by_its_address(page: Page, server: Installation) -> None:
    page.goto(f"{server.url}/inventory")
    page.locator("input[name=text]").fill("svc_04")
    expect(page.locator("#rows tbody tr")).to_have_count(10)
    expect(page).to_have_url(re.compile(r"/inventory\?.*text=svc_04"))
    page.reload()
    expect(page.locator("#rows tbody tr")).to_have_count(10)
    expect(page.locator("input[name=text]")).to_have_value("svc_04")


def test_boxes_and_lists_narrow_at_once(page: Page, server: Installation) -> None:
    page.goto(f"{server.url}/inventory")
    total = page.locator(".pager span").inner_text()
    page.locator("input[name=privileged]").check()
    expect(page.locator(".pager span")).not_to_have_text(total)
    page.locator("input[name=privileged]").uncheck()
    expect(page.locator(".pager span")).to_have_text(total)
    option = page.locator("select[name=system] option").nth(1).get_attribute("value")
    assert option
    page.select_option("select[name=system]", option)
    expect(page.locator("#rows tbody tr").first.locator("td").nth(2)).to_have_text(option)


def test_headings_sort_both_ways_and_say_so(page: Page, server: Installation) -> None:
    page.goto(f"{server.url}/inventory")
    page.locator("th a", has_text="Identity").click()
    expect(page.locator("th[aria-sort=descending]")).to_contain_text("Identity")
    first = page.locator("#rows tbody tr td:first-child a")
    shown = [first.nth(number).inner_text() for number in range(20)]
    assert shown == sorted(shown, reverse=True)
    page.locator("th a", has_text="Identity").click()
    expect(page.locator("th[aria-sort=ascending]")).to_contain_text("Identity")


def test_the_pager_goes_on_and_back(page: Page, server: Installation) -> None:
    page.goto(f"{server.url}/inventory")
    first = page.locator("#rows tbody tr a").first.inner_text()
    page.locator("a[rel=next]").click()
    expect(page.locator(".pager span")).to_contain_text("101–")
    assert page.locator("#rows tbody tr a").first.inner_text() != first
    page.locator("a[rel=prev]").click()
    expect(page.locator("#rows tbody tr a").first).to_have_text(first)


def test_an_identity_shows_its_facts_sources_and_picture(page: Page, server: Installation) -> None:
    page.goto(f"{server.url}/inventory?text=svc_007")
    page.locator("#rows tbody a").first.click()
    expect(page.locator("h1")).to_contain_text("svc_007")
    picture = page.locator(".picture svg")
    expect(picture).to_be_visible()
    box = picture.bounding_box()
    assert box and box["width"] > 200 and box["height"] > 40
    expect(page.locator("body")).to_contain_text("svc7/.env")
    expect(page.locator("pre.next").first).to_contain_text("remit claim id_")


def test_a_new_decision_appears_without_a_reload(page: Page, server: Installation) -> None:
    page.goto(f"{server.url}/decisions")
    expect(page.locator("[data-live-state]")).to_have_text("live")
    before = page.locator("tbody tr").count()
    made = decide(server, "svc_001", "write")
    row = page.locator("tbody tr", has_text=made["context"]["id"])
    expect(row).to_be_visible()
    expect(row).to_contain_text("deny")
    expect(page.locator("tbody tr")).to_have_count(before + 1)
    row.locator("a", has_text="dc_").click()
    expect(page.locator("h1")).to_contain_text("write")


def test_where_nothing_runs_it_says_what_to_type(page: Page, server: Installation) -> None:
    page.goto(f"{server.url}/tasks")
    expect(page.locator("#running .empty")).to_contain_text("remit target add")
    expect(page.locator("#leases .empty")).to_contain_text("No credential of ours lives anywhere")
    page.goto(f"{server.url}/leases")
    expect(page.locator(".empty")).to_contain_text("remit run")


def test_only_denials_stay_when_asked_for(page: Page, server: Installation) -> None:
    page.goto(f"{server.url}/decisions")
    page.locator("input[name=denied]").check()
    page.locator("form.filters button").click()
    expect(page.locator("[data-live-state]")).to_have_text("live")
    allowed, denied = decide(server, "svc_002"), decide(server, "svc_002", "write")
    expect(page.locator("tbody tr", has_text=denied["context"]["id"])).to_be_visible()
    expect(page.locator("tbody tr", has_text=allowed["context"]["id"])).to_have_count(0)


def test_what_a_source_calls_itself_is_text_and_never_a_part_of_the_page(page: Page, server: Installation) -> None:
    for path in ("/findings?text=onerror", "/inventory", "/decisions", "/"):
        page.goto(server.url + path)
        expect(page.locator("h1")).to_be_visible()
        assert page.locator("img").count() == 0
        assert page.locator("main b", has_text="fine").count() == 0
    page.goto(f"{server.url}/findings?text=onerror")
    expect(page.locator("tbody")).to_contain_text(HOSTILE.replace("/", ""))


def test_the_policy_of_the_page_forbids_script_of_others(page: Page, server: Installation) -> None:
    """Asked of the browser itself: an inline script does not run. (Its complaint is the proof, and is expected.)"""
    context = page.context.browser.new_context() if page.context.browser else None
    assert context is not None
    context.add_cookies(page.context.cookies())
    other = context.new_page()
    said: list[str] = []
    other.on("console", lambda message: said.append(message.text))
    other.goto(f"{server.url}/inventory")
    other.evaluate(
        """() => {
          const script = document.createElement("script");
          script.textContent = "window.ran = 1";
          document.body.append(script);
        }"""
    )
    assert other.evaluate("window.ran") is None
    assert any("Content Security Policy" in each for each in said)
    context.close()


def test_every_control_is_reached_and_seen_by_keyboard(page: Page, server: Installation) -> None:
    page.goto(f"{server.url}/inventory")
    page.keyboard.press("Tab")
    expect(page.locator("a.skip")).to_be_focused()
    expect(page.locator("a.skip")).to_be_in_viewport()
    reached = set()
    for _ in range(60):
        reached.add(page.evaluate(_FOCUSED))
        outline = page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
        assert outline != "none"
        page.keyboard.press("Tab")
    assert {"/inventory", "/decisions", "Sign out", "text", "kind", "system", "unowned", "privileged"} <= reached


def test_every_link_of_every_page_leads_somewhere(server: Installation) -> None:
    """A crawl without a browser; of links that differ only in their last part, a few."""
    headers = {"Cookie": server.sign_in()}
    waiting, seen, kinds = list(PAGES), set(PAGES), Counter[str]()
    while waiting:
        path = waiting.pop()
        with server.http("GET", path, headers=headers) as answer:
            text = answer.read().decode()
            assert answer.status == 200, f"{path}: {answer.status}"
        for link in re.findall(r'(?:href|src|action)="([^"]+)"', text):
            target = html.unescape(link).partition("#")[0]
            kind = re.sub(r"(/identities/[^/%]{0,3}|/decisions/|[?]).*", r"\1", target)
            if (
                target.startswith("/")
                and target not in seen | {"/sign-out", "/inventory/views", "/inventory/views/drop"}
                and kinds[kind] < 25
            ):
                kinds[kind] += 1
                seen.add(target)
                waiting.append(target)
            assert target == "" or target.startswith("/"), f"{path} leads outside: {link}"
    assert len(seen) > 60


def test_signing_out_ends_it(browser: Browser, server: Installation) -> None:
    with signed_in(browser, server, expected="401") as opened:
        opened.locator("text=Sign out").click()
        expect(opened.locator("h1")).to_have_text("Sign in")
        expect(opened.locator("nav")).to_have_count(0)


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 420])
def test_nothing_runs_over_the_edge_in_any_width_or_theme(
    browser: Browser, server: Installation, scheme: str, width: int
) -> None:
    pictures = os.environ.get("CONSOLE_PICTURES")
    how = {"color_scheme": scheme, "viewport": {"width": width, "height": 900}}
    with signed_in(browser, server, **how) as opened:
        identity = server.json("ls", "svc_007")[0]["id"]
        for path in (*PAGES, f"/identities/{identity}"):
            opened.goto(server.url + path)
            expect(opened.locator("h1")).to_be_visible()
            wide = opened.evaluate("document.documentElement.scrollWidth")
            assert wide <= width, f"{path} is {wide} wide"
            assert opened.evaluate(CONTRAST) == [], path
            if pictures:
                name = path.strip("/").partition("/")[0] or "overview"
                opened.screenshot(path=Path(pictures) / f"{name}-{scheme}-{width}.png")


_FOCUSED = """() => {
  const e = document.activeElement;
  return e.name || e.getAttribute("href") || e.textContent.trim();
}"""
CONTRAST = """() => {
  const light = (rgb) => {
    const [r, g, b] = rgb.map(v => v / 255).map(v => v <= .03928 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4);
    return .2126 * r + .7152 * g + .0722 * b;
  };
  const parse = (text) => (text.match(/[\\d.]+/g) || []).map(Number);
  const ground = (element) => {
    for (let e = element; e; e = e.parentElement) {
      const colour = parse(getComputedStyle(e).backgroundColor);
      if (colour.length === 3 || colour[3] > .99) return colour.slice(0, 3);
    }
    return [255, 255, 255];
  };
  const bad = new Set();
  for (const e of document.querySelectorAll("main *, header *")) {
    const own = [...e.childNodes].some(n => n.nodeType === 3 && n.textContent.trim());
    if (!own || e.closest("svg") || !e.getClientRects().length) continue;
    const a = light(parse(getComputedStyle(e).color).slice(0, 3)), b = light(ground(e));
    const ratio = (Math.max(a, b) + .05) / (Math.min(a, b) + .05);
    if (ratio < 4.5) bad.add(`${e.tagName}.${e.className}: ${ratio.toFixed(2)}`);
  }
  return [...bad];
}"""
"""Text whose contrast to its ground is less than WCAG 2.2 AA asks for."""
