"""The page in a real browser: Debian's Chromium, driven by Playwright."""

from __future__ import annotations

import asyncio
import shutil
from contextlib import asynccontextmanager

import dns.message
import dns.name
import pytest
from asking import query
from facing import DATA, Faced

from resolverkit.testing import ScriptedUpstream, answer, servfail

LIMIT = 20.0  # seconds for what takes one or two
WWW = "www.example.com."
HOSTILE = dns.name.Name([b"<script>alert(1)</script>", b"example", b""])
SHOWN = [  # as in master files (RFC 4343 section 2.1)
    r"<script>alert\(1\)</script>.example.",
    r"<img\032src=x\032onerror=alert\(1\)>.example.",
]
IMAGE = dns.name.Name([b"<img src=x onerror=alert(1)>", b"example", b""])


@pytest.fixture
def chromium(require):
    """Where Debian's Chromium is; skip (in CI: fail) where it is missing."""
    found = shutil.which("chromium")
    require([] if found else ["chromium"])
    return found


class Browser:
    """A page that shows a stub, and what a person sees there."""

    def __init__(self, page):
        self.page = page
        self.console = []
        page.on("console", lambda message: self.console.append(message.text))
        page.on("pageerror", lambda error: self.console.append(str(error)))

    async def until(self, selector, *wanted):
        """Wait until a person sees all that there; gives the text."""
        text = ""
        try:
            async with asyncio.timeout(LIMIT):
                while not all(each in text for each in wanted):
                    text = await self.page.inner_text(selector)
                    await asyncio.sleep(0.02)
        except TimeoutError:
            pytest.fail(f"{wanted} is not shown in {selector}: {text!r}")
        return text

    async def picture(self, path):
        await self.page.screenshot(path=path, full_page=True)
        assert path.read_bytes().startswith(b"\x89PNG")
        assert path.stat().st_size > 5000


@asynccontextmanager
async def browsing(chromium, **options):
    """A headless Chromium with one empty page."""
    from playwright.async_api import async_playwright

    async with async_playwright() as playwright:
        launched = await playwright.chromium.launch(
            executable_path=chromium, args=["--no-proxy-server", "--disable-gpu"]
        )
        try:
            yield Browser(await launched.new_page(**options))
        finally:
            await launched.close()


@asynccontextmanager
async def shown(chromium, *upstreams, screen=None, **options):
    """A stub, and a browser that shows its page; nothing may be logged there."""
    async with (
        Faced(*upstreams, **options) as faced,
        browsing(chromium, **screen or {}) as browser,
    ):
        await browser.page.goto(faced.url)
        yield faced, browser
        assert browser.console == []


def two():
    return [
        ScriptedUpstream("udp://192.0.2.1", DATA, operator="Alpha"),
        ScriptedUpstream("tls://192.0.2.2", DATA, operator="Beta"),
    ]


class Polls:
    """Counts how often the page has asked since it was made."""

    def __init__(self, faced):
        self.count = 0
        real = faced.face.status.to_dict

        def counted():
            self.count += 1
            return real()

        faced.face.status.to_dict = counted


def test_it_shows_an_upstream_dying_and_stale_names_within_2_s(chromium, tmp_path):
    async def main():
        alpha, beta = two()
        async with shown(chromium, alpha, beta, strategy="failover") as (
            faced,
            browser,
        ):
            await faced.ask()
            await faced.ask(query("mail.example.com"))
            await browser.until("#upstreams", "udp://192.0.2.1 (Alpha)", "● up")
            assert "None" in await browser.page.inner_text("#none")

            alpha.play(servfail(ede=(22, "no authority")))
            for i in range(6):
                await faced.ask(query(f"new{i}.example.com"))
            polls = Polls(faced)  # one a second: the second is there within 2 s
            text = await browser.until("#upstreams", "✕ down for", "No Reachable")
            assert polls.count <= 2, text
            assert "● up" in text
            await browser.until("#summary", "1 of 2 upstreams down")

            beta.play(servfail())
            faced.clock.ahead += 600
            await faced.ask()
            polls = Polls(faced)
            text = await browser.until("#old", WWW, "stale", "SERVFAIL")
            assert polls.count <= 2, text
            assert "mail.example.com" not in text
            await browser.until("#summary", "1 name on old data")
            await browser.until("#upstreams", "△ failing")
            await browser.until("#legend", "stale 1", "upstream 8")
            await browser.picture(tmp_path / "outage.png")

            alpha.play(DATA)
            beta.play(DATA)
            faced.clock.ahead += 31  # the failure recheck timer
            await faced.ask()
            await faced.ask()
            await browser.until("#none", "None")

    asyncio.run(main())


def test_hostile_names_and_texts_are_text(chromium):
    async def main():
        alpha = ScriptedUpstream("udp://192.0.2.1", answer("192.0.2.1", ttl=5))
        async with shown(chromium, alpha) as (faced, browser):
            for name in (HOSTILE, IMAGE):
                await faced.ask(dns.message.make_query(name, "A"))
            alpha.play(servfail(ede=(0, "<b onclick=alert(1)>bold</b>")))
            faced.clock.ahead += 60
            for name in (HOSTILE, IMAGE):
                await faced.ask(dns.message.make_query(name, "A"))
            await browser.until("#old", *SHOWN, "<b onclick")
            await browser.until("#upstreams", "<b onclick=alert(1)>bold</b>")
            await browser.page.click("#old button >> nth=0")  # explains it
            await browser.until("#verdict", SHOWN[0], "NOERROR")
            await browser.until("#records", SHOWN[0], "192.0.2.1")
            made = await browser.page.locator("main img, main script, main b").count()
            assert made == 0

    asyncio.run(main())


def test_a_name_is_explained_with_its_path_by_keyboard_alone(chromium):
    async def main():
        alpha, beta = two()
        alpha.play(servfail())
        async with shown(chromium, alpha, beta, strategy="failover") as (_, browser):
            page = browser.page
            for _ in range(10):
                await page.keyboard.press("Tab")
                if await page.evaluate("document.activeElement.id") == "name":
                    break
            await page.keyboard.type("a.example.com")
            await page.keyboard.press("Enter")
            await browser.until("#verdict", "a.example.com A: NOERROR; upstream: tls")
            await browser.until("#records", "192.0.2.1")
            await browser.until("#attempts", "udp://192.0.2.1", "tls://192.0.2.2")
            await page.fill("#name", "a..b")
            await page.keyboard.press("Enter")
            await browser.until("#verdict", "is not a name")
            assert "400 (Bad Request)" in browser.console.pop()  # Chromium's own words

    asyncio.run(main())


def test_it_says_when_the_stub_is_gone(chromium):
    async def main():
        async with browsing(chromium) as browser:
            async with Faced() as faced:
                await browser.page.goto(faced.url)
                await browser.until("#summary", "No upstream has been asked yet")
            await browser.until("#away", "does not answer; this is its state")

    asyncio.run(main())


def test_nothing_but_its_own_script_runs(chromium):
    async def main():
        async with shown(chromium) as (_, browser):
            refused = await browser.page.evaluate(INJECTED)
            assert refused == ["TypeError", "TypeError", "blocked"]
            assert len(browser.console) == 3  # and the browser says so
            browser.console.clear()

    asyncio.run(main())


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_can_be_read_and_fits_a_phone(chromium, tmp_path, scheme):
    """WCAG 2.2: 1.4.3 (contrast of 4.5:1), 1.4.10 (reflow at 320 px), 4.1.2 (names)."""

    async def main():
        alpha, beta = two()
        screen = {"color_scheme": scheme, "viewport": {"width": 320, "height": 700}}
        async with shown(chromium, alpha, beta, strategy="failover", screen=screen) as (
            faced,
            browser,
        ):
            await faced.ask()
            for upstream in (alpha, beta):
                upstream.play(servfail())
            faced.clock.ahead += 600
            for i in range(6):
                await faced.ask()
                await faced.ask(query(f"new{i}.example.com"))
            await browser.until("#old", WWW)
            await browser.picture(tmp_path / f"phone-{scheme}.png")
            page = browser.page
            assert await page.evaluate("document.documentElement.scrollWidth") <= 320
            rows = page.get_by_role("table", name="Upstreams").get_by_role("row")
            assert await rows.count() == 3  # for a screen reader, cards are a table
            worst = await page.evaluate(CONTRAST)
            assert worst[0] >= 4.5, worst
            assert await page.evaluate(UNNAMED) == []

    asyncio.run(main())


def test_a_screen_reader_is_told_what_is_seen_and_what_changes(chromium):
    """WCAG 2.2: 1.3.1 (structure), 4.1.2 (names and roles), 4.1.3 (status messages)."""

    async def main():
        alpha, beta = two()
        async with shown(chromium, alpha, beta, strategy="failover") as (
            faced,
            browser,
        ):
            page = browser.page
            await page.evaluate(HEAR)
            await faced.ask()
            await browser.until("#summary", "Upstreams answer")
            for upstream in (alpha, beta):
                upstream.play(servfail())
            faced.clock.ahead += 600
            await faced.ask()
            await browser.until("#old", WWW)
            tree = await page.locator("body").aria_snapshot()
            for part in (
                'heading "resolverkit" [level=1]',
                'heading "Upstreams" [level=2]',
                'table "Upstreams"',
                'columnheader "State"',
                'rowheader "udp://192.0.2.1 (Alpha)"',
                'img "Answers of the last hour: upstream 1,',
                'table "Names on old data"',
                f'rowheader "{WWW}"',
                f'button "{WWW}"',
                'textbox "Name"',
                'combobox "Type"',
                'button "Explain"',
            ):
                assert part in tree, (part, tree)
            assert await page.evaluate("document.documentElement.lang") == "en"
            assert "on old data" in await page.title()
            await browser.until("#news", "1 name on old data")
            heard = await page.evaluate("heard_by_ear")
            polls = Polls(faced)
            async with asyncio.timeout(LIMIT):
                while polls.count < 4:  # noqa: ASYNC110
                    await asyncio.sleep(0.05)
            assert await page.evaluate("heard_by_ear") == heard  # nothing has changed
            assert 1 <= len(heard) <= 3, heard

    asyncio.run(main())


def test_a_keyboard_reaches_everything_and_focus_is_seen_and_stays(chromium):
    """WCAG 2.2: 2.1.1 (keyboard), 2.4.7 (focus visible), 2.5.8 (targets of 24 px)."""

    async def main():
        alpha, beta = two()
        async with shown(chromium, alpha, beta, strategy="failover") as (
            faced,
            browser,
        ):
            page = browser.page
            for i in range(3):
                await faced.ask(query(f"n{i}.example.com"))
            for upstream in (alpha, beta):
                upstream.play(servfail())
            faced.clock.ahead += 600
            for i in range(3):
                await faced.ask(query(f"n{i}.example.com"))
            await browser.until("#old", "n0.example.com.", "n2.example.com.")
            wanted = await page.evaluate(OPERABLE)
            assert len(wanted) >= 7  # a summary, three names, two fields and a button
            reached = []
            for _ in range(30):
                await page.keyboard.press("Tab")
                focus = await page.evaluate(FOCUS)
                if focus is None:  # out of the page, at its end
                    break
                reached.append(focus)
            assert [
                each["what"] for each in reached if each["what"] in wanted
            ] == wanted
            for each in reached:
                assert each["outline"] >= 2, each
            small = [e for e in reached if e["what"] in wanted and e["height"] < 24]
            assert small == []

            name = page.get_by_role("button", name="n1.example.com.")
            await name.focus()
            polls = Polls(faced)
            async with asyncio.timeout(LIMIT):
                while polls.count < 3:  # noqa: ASYNC110
                    await asyncio.sleep(0.05)
            assert (await page.evaluate(FOCUS))["what"] == "BUTTON n1.example.com."
            await page.keyboard.press("Enter")
            await browser.until("#verdict", "n1.example.com. A: NOERROR; stale")

    asyncio.run(main())


HEAR = """() => {
window.heard_by_ear = [];
const news = document.getElementById("news");
new MutationObserver(() => heard_by_ear.push(news.textContent))
  .observe(news, {childList: true, characterData: true, subtree: true});
}"""
OPERABLE = """() => [...document.querySelectorAll("input, select, button, summary, a")]
  .filter((n) => n.checkVisibility())
  .map((n) => `${n.tagName} ${n.id || n.innerText}`)"""
FOCUS = """() => {
const node = document.activeElement;
if (!node || node === document.body) return null;
const style = getComputedStyle(node), box = node.getBoundingClientRect();
return {what: `${node.tagName} ${node.id || node.innerText}`, height: box.height,
  outline: style.outlineStyle === "none" ? 0 : parseFloat(style.outlineWidth)};
}"""
CONTRAST = """() => {
const parse = (text) => text.match(/[\\d.]+/g).map(Number);
const light = (text) => parse(text).slice(0, 3).map((c) => c / 255)
  .map((c) => c <= .04045 ? c / 12.92 : ((c + .055) / 1.055) ** 2.4)
  .reduce((sum, c, i) => sum + c * [.2126, .7152, .0722][i], 0);
const back = (node) => {
  for (; node; node = node.parentElement) {
    const found = getComputedStyle(node).backgroundColor;
    if ((parse(found)[3] ?? 1) > 0) return found;
  }
};
let worst = [99];
for (const node of document.body.querySelectorAll("*:not(script, option)")) {
  const own = [...node.childNodes].some((n) => n.nodeType === 3 && n.data.trim());
  if (!own || !node.checkVisibility()) continue;
  const [a, b] = [light(getComputedStyle(node).color), light(back(node))];
  const ratio = (Math.max(a, b) + .05) / (Math.min(a, b) + .05);
  if (ratio < worst[0]) worst = [ratio, node.id, node.className, node.textContent];
}
return worst;
}"""
UNNAMED = """() => {
const named = (n) => n.labels?.length || n.textContent.trim() || n.ariaLabel ||
  document.getElementById(n.getAttribute("aria-labelledby") ?? "")?.textContent.trim();
return [...document.querySelectorAll("input, select, button, svg, [tabindex], section")]
  .filter((n) => !named(n)).map((n) => n.outerHTML);
}"""
INJECTED = """async () => {
const told = [];
for (const attack of [
  () => { document.body.innerHTML = "<p>"; },
  () => { document.createElement("script").text = "alert(1)"; },
]) try { attack(); told.push("done"); } catch (error) { told.push(error.name); }
const image = new Image();
const loaded = new Promise((resolve) => {
  image.onload = () => resolve("loaded");
  image.onerror = () => resolve("blocked");
});
image.src = "http://192.0.2.1/x.png";
return [...told, await loaded];
}"""
