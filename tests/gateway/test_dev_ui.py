"""ADK's dev UI in a real browser, on the service: what somebody sees who clicks."""

import asyncio
import re
import shutil
from collections.abc import AsyncIterator
from dataclasses import replace

import pytest_asyncio
from playwright.async_api import Browser, Locator, Page, async_playwright, expect

from adk_chat.dev.server import RestateServer
from adk_chat.gateway.server import gateway_app
from adk_chat.streaming import MemoryBroker
from tests.conftest import plain
from tests.gateway.conftest import gateway_config, served
from tests.support import gates, unique

pytestmark = plain


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def browser() -> AsyncIterator[Browser]:
    chromium = shutil.which("chromium")
    assert chromium, "The tests of the dev UI need Debian's chromium: apt-get install chromium."
    async with async_playwright() as playwright:
        yield await playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def url(server: RestateServer, broker: MemoryBroker) -> AsyncIterator[str]:
    async with served(gateway_app(replace(gateway_config(server, broker), ui=True))) as client:
        yield str(client.base_url)


@pytest_asyncio.fixture(loop_scope="session")
async def page(browser: Browser, url: str) -> AsyncIterator[Page]:
    """The dev UI, as a user sees it who was never there."""
    page = await browser.new_page(viewport={"width": 1400, "height": 900})
    page.set_default_timeout(15_000)
    await page.goto(f"{url}/dev-ui/?app=scripted&userId={unique('user')}")
    if await page.get_by_role("button", name="No Thanks").is_visible():
        await page.get_by_role("button", name="No Thanks").click()
    yield page
    await page.close()


async def say(page: Page, text: str) -> None:
    box = page.locator("textarea").last
    await box.fill(text)
    await box.press("Enter")


def said(page: Page) -> Locator:
    return page.locator("app-chat-panel")


async def switch_on_streaming(page: Page) -> None:
    await page.get_by_role("button", name="More options").click()
    await page.get_by_text("Streaming", exact=True).click()
    await page.keyboard.press("Escape")


async def sessions(page: Page, title: str) -> None:
    """Open the list of sessions, of which the current one has that title."""
    await page.locator(".selector-button", has_text=title).click()


async def test_an_answer_streams_and_a_reload_in_its_middle_sees_it_complete(page: Page) -> None:
    name = unique("gate")
    gate = gates[name] = asyncio.Event()
    await switch_on_streaming(page)
    await say(page, f"stream once upon @{name} a time")
    await expect(said(page)).to_contain_text("once upon ", use_inner_text=True)
    await expect(said(page).get_by_text("once upon", exact=True)).to_be_visible()
    await page.reload()
    await expect(said(page).get_by_text(f"stream once upon @{name} a time")).to_be_visible()
    await expect(said(page).get_by_text("once upon", exact=True)).to_be_hidden()
    gate.set()
    await expect(said(page).get_by_text("once upon a time", exact=True)).to_be_visible()


async def test_a_tool_call_and_the_state_are_shown_and_the_state_is_edited(page: Page) -> None:
    await say(page, "tool milk")
    await expect(said(page).get_by_text("got {'noted': 'milk'}")).to_be_visible()
    await expect(said(page).get_by_role("button", name='note("milk")')).to_be_visible()
    await page.locator(".tab-label", has_text="State").click()
    await expect(page.locator("app-state-tab")).to_contain_text("note milk: true")
    await page.locator(".input-prefix-menu-btn").click()
    await page.get_by_text("Update state").click()
    editor = page.locator(".cdk-overlay-container .cm-content")
    await editor.click()
    await page.keyboard.press("Control+A")
    await page.keyboard.insert_text('{"color": "red"}')
    await expect(editor).to_have_text('{"color": "red"}')
    await page.wait_for_timeout(500)  # the editor hands on what was typed after 300 ms, and shows no sign of it
    await page.get_by_role("button", name="Save").click()
    await expect(page.get_by_text("Updated session state")).to_be_visible()
    await say(page, "hello")
    await expect(said(page).get_by_text("echo hello")).to_be_visible()
    await expect(page.locator("app-state-tab")).to_contain_text('color: "red"')


async def test_sessions_are_switched_renamed_and_deleted(page: Page) -> None:
    await say(page, "first")
    await expect(said(page).get_by_text("echo first")).to_be_visible()
    await page.get_by_role("button", name="New Session").click()
    await say(page, "second")
    await expect(said(page).get_by_text("echo second")).to_be_visible()
    await sessions(page, "second")
    await page.locator("mat-drawer").get_by_text("first", exact=True).click()
    await expect(said(page).get_by_text("echo first")).to_be_visible()
    await expect(said(page).get_by_text("echo second")).to_be_hidden()

    if not await page.get_by_role("button", name="Close session selector").is_visible():
        await sessions(page, "first")
    await page.get_by_role("button", name="Edit", exact=True).click()
    await page.locator("mat-drawer input").fill("My talk")
    await page.keyboard.press("Enter")
    await page.reload()
    await sessions(page, "My talk")
    await page.locator("mat-drawer").get_by_role("button", name=re.compile("Delete$")).click()
    await page.get_by_role("dialog").get_by_role("button", name="Delete").click()
    await expect(page.locator(".selector-button", has_text="My talk")).to_be_hidden()
    await expect(said(page).get_by_text("echo first")).to_be_hidden()


async def test_a_confirmation_is_given(page: Page) -> None:
    await say(page, 'call pay {"amount": 5}')
    await said(page).get_by_text("Confirmed").click()
    await said(page).get_by_role("button", name="Submit").click()
    await expect(said(page).get_by_text("got {'paid': 5}")).to_be_visible()
