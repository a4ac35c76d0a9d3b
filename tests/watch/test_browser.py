"""The dashboard as a reader meets it: in a real browser, without a screen."""

import contextlib
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, ConsoleMessage, Dialog, Page, expect, sync_playwright

from persipubsub import Environment, QueueManager
from persipubsub.watch.dashboard.server import DashboardServer
from tests.process.support import BOUND, wait_until
from tests.watch.chromium import accessibility_rules, find_browser
from tests.watch.serving import serving
from tests.watch.support import Elsewhere, fill

TOKEN = "a token that nobody guesses"
OpenPage = Callable[..., Page]


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Return the browser that all tests of this module share."""
    found = find_browser()
    expect.set_options(timeout=BOUND * 1000)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=found.path, args=[*found.flags], env={**found.environment}, timeout=BOUND * 1000
        )
        yield browser
        browser.close()


@pytest.fixture
def open_page(browser: Browser) -> Iterator[OpenPage]:
    """Return what opens a page in a profile of its own; in the end, nothing was complained about."""
    complaints: list[str] = []

    def said(message: ConsoleMessage) -> None:
        if message.type in ("error", "warning"):
            complaints.append(message.text)

    def asked(dialog: Dialog) -> None:
        complaints.append(dialog.message)
        dialog.dismiss()

    with contextlib.ExitStack() as stack:

        def open_(url: str, **options: Any) -> Page:
            context = browser.new_context(**{"viewport": {"width": 1280, "height": 900}, **options})
            stack.callback(context.close)
            page = context.new_page()
            page.set_default_timeout(BOUND * 1000)
            page.on("console", said)
            page.on("pageerror", lambda error: complaints.append(str(error)))
            page.on("dialog", asked)
            page.goto(url)
            return page

        yield open_
    # Refused connections and answers are what some tests are about.
    wrong = [line for line in complaints if not line.startswith("Failed to load resource")]
    assert not wrong, wrong


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Return a directory with two queues."""
    fill(tmp_path / "orders")
    QueueManager(tmp_path).create("frames", subscriber_ids={"archive"}).close()
    return tmp_path


@pytest.fixture
def server(root: Path) -> Iterator[DashboardServer]:
    with serving(root) as server:
        yield server


@pytest.fixture
def changing(root: Path) -> Iterator[DashboardServer]:
    with serving(root, allow_changes=True) as server:
        yield server


def cell(page: Page, queue: str, column: str) -> Any:
    headings = page.locator("section[aria-labelledby=queues-title] thead th").all_text_contents()
    row = page.locator("#queues tr", has=page.get_by_role("button", name=queue, exact=True))
    return row.locator("th, td").nth(headings.index(column))


def wait_for(page: Page, condition: str) -> None:
    """Wait for what JavaScript says; the page itself may evaluate nothing, and so cannot wait on its own."""
    wait_until(lambda: page.evaluate(condition), condition)


def dead(root: Path) -> list[int]:
    with Environment(root / "orders") as environment:
        return [letter.id for letter in environment.open_control().dead_letters("worker")]


# -- what is shown ----------------------------------------------------------------------------------


def test_owners_in_other_containers_are_shown_as_such(tmp_path: Path, open_page: OpenPage) -> None:
    with serving(tmp_path, Elsewhere()) as server:
        page = open_page(f"{server.url}#remote")
        expect(page.locator("#subscribers")).to_contain_text("python worker.py (1 elsewhere) for")


def test_everything_is_there_and_live(server: DashboardServer, root: Path, open_page: OpenPage) -> None:
    page = open_page(f"{server.url}#frames")
    expect(page.locator("#connection")).to_have_text("live")
    expect(page.locator("#totals")).to_have_text("2 queues, 3 subscribers")
    expect(cell(page, "orders", "Dead")).to_have_text("2")
    expect(cell(page, "frames", "Lag")).to_have_text("0")
    expect(page.locator("#queue-title")).to_have_text("frames")
    with Environment(root / "frames") as environment:
        environment.new_publisher().send_many([b"frame"] * 4321)
    expect(cell(page, "frames", "Lag")).to_have_text("4321")
    expect(page.locator("#plot-lag li")).to_have_text(["archive 4321"])
    expect(page.locator("#plot-rate li")).to_have_count(2)
    expect(page.locator("#messages summary")).to_have_count(20)
    line = page.locator("#plot-lag polyline")
    assert len((line.get_attribute("points") or "").split()) > 1
    with Environment(root / "frames") as environment, environment.new_subscriber("archive").receive(timeout=0):
        expect(page.locator("#subscribers tr").first).to_contain_text(re.compile(r"python.*: 1"))


def test_payloads_are_text_whatever_is_in_them(server: DashboardServer, open_page: OpenPage) -> None:
    page = open_page(f"{server.url}#orders")
    expect(page.locator("#messages summary")).to_have_count(5)
    page.locator("#messages summary").nth(1).click()
    expect(page.locator("#messages pre").nth(1)).to_have_text("<img src=x onerror=alert(1)>")
    expect(page.locator("#dead summary").nth(1)).to_contain_text("<b>bold</b>")
    assert page.locator("img, #dead b").count() == 0
    page.locator("#view").select_option("hex")
    expect(page.locator("#messages pre").nth(1)).to_contain_text("00000000  3c 69 6d 67")


def test_a_queue_that_vanishes_is_said_to_be_gone(server: DashboardServer, root: Path, open_page: OpenPage) -> None:
    page = open_page(f"{server.url}#orders")
    expect(cell(page, "orders", "State")).to_have_text("ok")
    QueueManager(root).delete("orders", force=True)
    expect(cell(page, "orders", "State")).to_have_text("gone")
    expect(page.locator("#problem")).to_have_text("gone: nothing is deployed here")
    expect(page.locator("#messages summary")).to_have_count(0)
    expect(cell(page, "frames", "State")).to_have_text("ok")
    fill(root / "orders")
    expect(cell(page, "orders", "State")).to_have_text("ok")
    expect(page.locator("#messages summary")).to_have_count(5)


def test_it_comes_back_when_the_server_does(root: Path, open_page: OpenPage) -> None:
    with serving(root) as server:
        port = server.port
        page = open_page(f"{server.url}#orders")
        expect(page.locator("#connection")).to_have_text("live")
    expect(page.locator("#connection")).to_have_text("connection lost, trying again")
    with Environment(root / "orders") as environment:
        environment.new_publisher().send(b"meanwhile")
    with serving(root, port=port):
        expect(page.locator("#connection")).to_have_text("live")
        expect(page.locator("#messages summary").first).to_contain_text("meanwhile")


def test_the_token_is_asked_for_once(root: Path, open_page: OpenPage) -> None:
    with serving(root, host="0.0.0.0", token=TOKEN) as server:
        url = f"http://127.0.0.1:{server.port}/"
        page = open_page(url)
        page.get_by_label("Token").fill("wrong")
        page.keyboard.press("Enter")
        page.get_by_label("Token").fill(TOKEN)
        page.get_by_role("button", name="Open").click()
        expect(page.locator("#connection")).to_have_text("live")
        page.goto(url)
        expect(page.locator("#connection")).to_have_text("live")
        # By the link that is printed; the token does not stay in the address.
        other = open_page(f"{url}?token={TOKEN}")
        expect(other.locator("#connection")).to_have_text("live")
        assert other.url == url or other.url.startswith(f"{url}#")


# -- changes ----------------------------------------------------------------------------------------


def test_read_only_pages_have_no_buttons_to_change(server: DashboardServer, open_page: OpenPage) -> None:
    page = open_page(f"{server.url}#orders")
    page.locator("#dead summary").first.click()
    expect(page.locator("#dead pre").first).to_be_visible()
    assert page.get_by_role("button", name=re.compile("Requeue|Discard")).count() == 0


def test_dead_letters_are_requeued_and_discarded(changing: DashboardServer, root: Path, open_page: OpenPage) -> None:
    page = open_page(f"{changing.url}#orders")
    page.locator("#dead summary").first.click()
    page.get_by_role("button", name="Requeue dead letter 1 of worker").click()
    expect(page.locator("#announcement")).to_have_text("Requeued 1 of worker")
    expect(page.locator("#dead summary")).to_have_count(1)
    assert dead(root) == [2]
    # By the keyboard alone: the question is asked with "Cancel" in front.
    page.locator("#dead summary").focus()
    page.keyboard.press("Enter")
    discard = page.get_by_role("button", name="Discard dead letter 2 of worker")
    for leave in ("Enter", "Escape"):
        discard.focus()
        page.keyboard.press("Enter")
        expect(page.get_by_role("dialog")).to_contain_text("Discard the dead letter 2 of “worker”")
        page.keyboard.press(leave)
        expect(page.get_by_role("dialog")).to_have_count(0)
        expect(discard).to_be_focused()
    assert dead(root) == [2]
    page.keyboard.press("Enter")
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    expect(page.locator("#announcement")).to_have_text("Discarded 1 of worker")
    expect(page.locator("#dead-none")).to_be_visible()
    assert dead(root) == []


def test_all_at_once(changing: DashboardServer, root: Path, open_page: OpenPage) -> None:
    page = open_page(f"{changing.url}#orders")
    page.get_by_role("button", name="Discard all of worker").click()
    page.get_by_role("dialog").get_by_role("button", name="Discard").click()
    expect(page.locator("#announcement")).to_have_text("Discarded 2 of worker")
    assert dead(root) == []


def test_a_change_that_fails_is_told(changing: DashboardServer, root: Path, open_page: OpenPage) -> None:
    page = open_page(f"{changing.url}#orders")
    page.locator("#dead summary").first.click()
    page.route("**/dead-letters", lambda route: route.fulfill(status=409, json={"error": "The queue is busy."}))
    page.get_by_role("button", name="Requeue dead letter 1 of worker").click()
    expect(page.locator("#announcement")).to_have_text("The queue is busy.")
    assert dead(root) == [1, 2]


# -- for everybody ----------------------------------------------------------------------------------


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_nothing_is_found_by_the_rules_of_accessibility(
    changing: DashboardServer, open_page: OpenPage, scheme: str
) -> None:
    page = open_page(f"{changing.url}#orders", color_scheme=scheme)
    page.locator("#dead summary").first.click()
    page.locator("#messages summary").first.click()
    background = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (max(map(int, re.findall(r"\d+", background))) < 60) == (scheme == "dark")
    page.evaluate(accessibility_rules())
    page.get_by_role("button", name="Discard all of worker").click()
    for _ in range(2):  # with the dialog, and without
        found = page.evaluate("async () => (await axe.run()).violations")
        assert [(rule["id"], [node["html"][:120] for node in rule["nodes"]]) for rule in found] == []
        page.keyboard.press("Escape")


def test_the_login_is_accessible_as_well(root: Path, open_page: OpenPage) -> None:
    with serving(root, host="0.0.0.0", token=TOKEN) as server:
        page = open_page(f"http://127.0.0.1:{server.port}/")
        page.evaluate(accessibility_rules())
        assert page.evaluate("async () => (await axe.run()).violations.map((rule) => rule.id)") == []


def test_the_keyboard_reaches_everything(server: DashboardServer, open_page: OpenPage) -> None:
    page = open_page(server.url)
    expect(page.locator("#queue-title")).to_have_text("frames")
    reached = []
    for _ in range(40):
        page.keyboard.press("Tab")
        reached.append(
            page.evaluate(
                "(() => { const e = document.activeElement, s = getComputedStyle(e);"
                " return [e.getAttribute('aria-label') || e.id || e.textContent.trim().slice(0, 30),"
                " s.outlineStyle !== 'none' && parseFloat(s.outlineWidth) >= 2]; })()"
            )
        )
        if reached[-1][0] == "view":
            break
    names = [name for name, _ in reached]
    assert names[0] == "Skip to the queue"
    assert names.index("frames") < names.index("orders") < names.index("Messages per second, over time")
    assert names[-1] == "view"
    assert all(visible for _, visible in reached), reached


def test_enter_opens_a_queue_and_focus_stays_where_it_is(
    server: DashboardServer, root: Path, open_page: OpenPage
) -> None:
    page = open_page(server.url)
    page.get_by_role("button", name="orders", exact=True).focus()
    page.keyboard.press("Enter")
    expect(page.locator("#queue-title")).to_have_text("orders")
    expect(page.locator("#queue")).to_be_focused()
    assert page.url.endswith("#orders")
    summary = page.locator("#messages summary").last
    summary.focus()
    page.keyboard.press("Enter")
    with Environment(root / "orders") as environment:
        environment.new_publisher().send(b"pushes the others down")
    expect(page.locator("#messages summary").first).to_contain_text("pushes")
    expect(page.locator("#messages summary").last).to_be_focused()
    expect(page.locator("#messages details").last).to_have_attribute("open", "")


def test_values_of_a_plot_are_read_by_the_arrow_keys(server: DashboardServer, open_page: OpenPage) -> None:
    page = open_page(f"{server.url}#orders")
    plot = page.get_by_role("slider", name="Lag, messages, over time")
    wait_for(page, "document.querySelector('#plot-lag polyline')?.getAttribute('points').split(' ').length > 3")
    plot.focus()
    assert plot.get_attribute("aria-valuetext") == "now"
    page.keyboard.press("Home")
    page.keyboard.press("ArrowRight")
    expect(plot).to_have_attribute("aria-valuetext", re.compile(r"s ago: idle 5, worker 2"))
    expect(page.locator("#plot-lag .cursor")).to_have_count(1)
    page.keyboard.press("Escape")
    expect(plot).to_have_attribute("aria-valuetext", "now")
    expect(page.locator("#plot-lag .cursor")).to_have_count(0)


def test_looks_are_not_read_aloud(server: DashboardServer, open_page: OpenPage) -> None:
    page = open_page(f"{server.url}#orders")
    expect(page.locator("#connection")).to_have_text("live")
    page.evaluate(
        """() => {
            const watch = (element, seen) =>
                new MutationObserver(seen).observe(element, { childList: true, subtree: true, characterData: true });
            window.spoken = window.looks = 0;
            document.querySelectorAll("[role=status], [aria-live]").forEach((one) => watch(one, () => window.spoken++));
            watch(document.querySelector("#plot-rate svg"), () => window.looks++);
        }"""
    )
    wait_for(page, "window.looks > 5")
    assert page.evaluate("window.spoken") == 0


def test_a_narrow_window_needs_no_scrolling_sideways(changing: DashboardServer, open_page: OpenPage) -> None:
    page = open_page(f"{changing.url}#orders", viewport={"width": 360, "height": 740})
    page.locator("#dead summary").first.click()
    expect(page.locator("#dead pre").first).to_be_visible()
    assert page.evaluate("document.documentElement.scrollWidth") <= 360


def test_the_plots_follow_the_window(server: DashboardServer, open_page: OpenPage) -> None:
    page = open_page(f"{server.url}#orders")
    plot = page.locator("#plot-lag svg")
    expect(plot).to_have_attribute("viewBox", re.compile("0 0 "))
    before = plot.get_attribute("viewBox") or ""
    page.set_viewport_size({"width": 500, "height": 900})
    expect(plot).not_to_have_attribute("viewBox", before)
