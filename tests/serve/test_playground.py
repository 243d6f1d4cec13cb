"""The page at `/` in a real browser: what it shows, by keyboard, in the dark, with nothing from elsewhere."""

from types import SimpleNamespace

import pytest
from conftest import FakeEngine
from playwright.sync_api import expect

from browser import CHROMIUM, chromium
from live_server import live
from wardgate.serve.auth import Caller

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine")


@pytest.fixture(scope="module")
def browser():
    with chromium() as running:
        yield running


@pytest.fixture(scope="module")
def url():
    with live(FakeEngine("default"), others={"strict": FakeEngine("strict")}) as base:
        yield base


@pytest.fixture
def page(browser, url):
    context = browser.new_context()
    context.set_default_timeout(5000)
    opened = context.new_page()
    opened.seen = SimpleNamespace(urls=[], errors=[])
    opened.on("request", lambda request: opened.seen.urls.append(request.url))
    opened.on("pageerror", lambda error: opened.seen.errors.append(str(error)))
    opened.on("console", lambda said: opened.seen.errors.append(said.text) if said.type == "error" else None)
    opened.goto(url)
    yield opened
    context.close()


def test_a_text_is_judged_and_explained(page, url):
    page.fill("#text", "an insult")
    page.click("button[type=submit]")
    expect(page.locator("#action")).to_have_text("block")
    expect(page.locator("#why")).to_contain_text("Rule “a-hazard” of policy default@1 decided")
    first = page.locator("#hazards tbody tr").first
    expect(first).to_contain_text("hate")
    expect(first).to_contain_text("90.0 %")
    expect(first).to_have_class("flagged")
    assert page.locator("#hazards tbody tr").count() == 12
    expect(page.locator("#curl")).to_have_text(
        f"curl {url}/v1/check -H 'Content-Type: application/json'"
        """ -d '{"input":"an insult","explain":true}'"""
    )
    assert page.seen.errors == []


def test_everything_can_be_done_by_keyboard(page):
    page.keyboard.type("a weapon")  # the text has the focus
    page.keyboard.press("Control+Enter")
    expect(page.locator("#action")).to_have_text("block")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.tagName") == "SUMMARY"
    page.keyboard.press("Enter")
    page.keyboard.press("Tab")
    page.keyboard.type("a response")
    page.keyboard.press("Tab")
    page.keyboard.type("strict")
    page.keyboard.press("Tab")
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    expect(page.locator("#why")).to_contain_text("strict@1")
    expect(page.locator("#status")).to_have_text("Decision: block.")


def test_disguises_are_marked_where_they_are(page):
    page.fill("#text", "\U0001f600 i\u200bnsult")
    page.click("button[type=submit]")
    expect(page.locator("#normalised")).to_contain_text("Marked stretches")
    assert page.locator("mark").first.evaluate("node => node.firstChild.data") == "\u200b"


def test_markup_in_a_text_stays_text(page):
    page.fill("#text", "<img src=x onerror=alert(1)><b>i\u200bnsult</b>")
    page.click("button[type=submit]")
    expect(page.locator("#action")).to_be_visible()
    assert page.locator("#result img, #result b").count() == 0


def test_errors_are_told_and_nothing_is_shown(page):
    page.fill("#text", "crash")
    page.click("button[type=submit]")
    expect(page.locator("#status")).to_contain_text("503")
    expect(page.locator("#result")).to_be_hidden()


def test_nothing_comes_from_elsewhere(page, url):
    page.fill("#text", "x")
    page.click("button[type=submit]")
    expect(page.locator("#action")).to_have_text("allow")
    assert all(seen.startswith((url, "data:")) for seen in page.seen.urls)


def luminance(colour):
    """Relative luminance (WCAG 2.2, section 1.4.3) of a CSS `rgb(r, g, b)`."""
    parts = [int(part) / 255 for part in colour.removeprefix("rgb(").removesuffix(")").split(",")]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_can_be_read_in_light_and_dark(page, scheme):
    page.emulate_media(color_scheme=scheme)
    page.fill("#text", "an insult\u200b!")
    page.click("button[type=submit]")
    expect(page.locator("#action")).to_have_text("block")
    page.wait_for_timeout(200)  # transitions of colour
    for selector in ("h1", "label", "#text", "button[type=submit]", "#action", "tr.flagged th", "mark", "pre"):
        ink, ground = page.locator(selector).first.evaluate(
            """node => {
                let behind = node, colour = 'rgba(0, 0, 0, 0)';
                while (behind && (colour = getComputedStyle(behind).backgroundColor) === 'rgba(0, 0, 0, 0)')
                    behind = behind.parentElement;
                return [getComputedStyle(node).color, colour];
            }"""
        )
        light, dark = sorted((luminance(ink), luminance(ground)), reverse=True)
        assert (light + 0.05) / (dark + 0.05) >= 4.5, (selector, ink, ground)
    assert (luminance(ground) < 0.2) == (scheme == "dark")


def test_a_server_with_keys_asks_for_one(browser):
    class Keys:
        def verify(self, secret):
            return Caller("k", frozenset({"check"})) if secret == "right" else None  # noqa: S105 - a fake

    with live(FakeEngine(), keys=Keys()) as url:
        page = browser.new_context().new_page()
        page.goto(url)
        page.fill("#text", "an insult")
        page.click("button[type=submit]")
        expect(page.locator("#status")).to_contain_text("401")
        page.keyboard.type("right")  # the focus is on the key's field
        page.keyboard.press("Enter")
        expect(page.locator("#action")).to_have_text("block")
        expect(page.locator("#curl")).to_contain_text("Authorization: Bearer …")
        page.context.close()
