"""ADK's dev UI in a real browser, on the service: what a user sees who clicks."""

import asyncio
import json
import re
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from urllib.parse import parse_qs, quote, urlsplit

import httpx
import pytest
import pytest_asyncio
from fastapi import FastAPI
from playwright.async_api import Browser, Locator, Page, expect

from adk_chat.dev.server import RestateServer
from adk_chat.gateway.server import gateway_app
from adk_chat.streaming import MemoryBroker
from tests.conftest import plain
from tests.gateway.conftest import PATIENCE_MS, gateway_config, served
from tests.gemini import unreachable_app
from tests.support import gates, unique, until

pytestmark = plain


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def ui(server: RestateServer, broker: MemoryBroker) -> FastAPI:
    return gateway_app(replace(gateway_config(server, broker), ui=True))


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def client(ui: FastAPI) -> AsyncIterator[httpx.AsyncClient]:
    async with served(ui) as client:
        yield client


@pytest_asyncio.fixture(loop_scope="session")
async def anybody(browser: Browser) -> AsyncIterator[Page]:
    """A window of a new visitor. ADK's question about telemetry is answered, since the answer would be stored."""
    page = await browser.new_page(viewport={"width": 1400, "height": 900})
    page.set_default_timeout(PATIENCE_MS)
    await page.route("**/config/telemetry", lambda route: route.fulfill(json={"telemetry": False}))
    yield page
    await page.close()


@pytest_asyncio.fixture(loop_scope="session")
async def page(anybody: Page, client: httpx.AsyncClient) -> Page:
    """The dev UI."""
    await visit(anybody, client)
    return anybody


async def visit(page: Page, client: httpx.AsyncClient) -> None:
    await page.goto(f"{client.base_url}/dev-ui/?app=scripted&userId={unique('user')}", wait_until="domcontentloaded")


async def say(page: Page, text: str) -> None:
    box = page.locator("textarea").last
    await box.fill(text)
    await box.press("Enter")


def said(page: Page) -> Locator:
    return page.locator("app-chat-panel")


def turn(page: Page) -> Locator:
    """What the script beside ADK's page shows of a turn that the page does not watch."""
    return page.locator("#adk-chat-turn")


async def session_of(page: Page, client: httpx.AsyncClient) -> str:
    """The URL in ADK's API of the session that the page shows."""
    await expect(page).to_have_url(re.compile("session="))
    shown = parse_qs(urlsplit(page.url).query)
    return f"/apps/scripted/users/{shown['userId'][0]}/sessions/{shown['session'][0]}"


async def switch_on_streaming(page: Page) -> None:
    await page.get_by_role("button", name="More options").click()
    await page.get_by_text("Streaming", exact=True).click()
    await page.keyboard.press("Escape")


async def sessions(page: Page, title: str) -> None:
    """Open the list of sessions, where the current one has that title."""
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
    await expect(turn(page)).to_contain_text("once upon")
    gate.set()
    await expect(said(page).get_by_text("once upon a time", exact=True)).to_be_visible()
    await expect(turn(page)).to_be_hidden()


async def test_a_turn_that_runs_when_the_page_is_loaded_can_be_stopped(page: Page, client: httpx.AsyncClient) -> None:
    name = unique("gate")
    gates[name] = asyncio.Event()
    await say(page, f"wait {name}")
    await expect(said(page).get_by_text(f"wait {name}")).to_be_visible()
    session = await session_of(page, client)
    await page.reload()
    await expect(turn(page)).to_contain_text("The agent is answering ...")
    await turn(page).get_by_role("button", name="Stop").click()
    await expect(turn(page)).to_contain_text("The turn was cancelled.")
    assert (await client.get(f"{session}/turns")).json() == []


async def test_a_tool_call_and_the_state_are_shown_and_the_state_is_edited(
    anybody: Page, client: httpx.AsyncClient
) -> None:
    page = anybody
    await page.clock.install()
    await visit(page, client)
    await switch_on_streaming(page)
    async with page.expect_request("**/run_sse") as asked:
        await say(page, "tool milk")
    assert json.loads((await asked.value).post_data or "")["streaming"] is True
    await expect(said(page).get_by_text("got {'noted': 'milk'}")).to_be_visible()
    await expect(said(page).get_by_role("button", name='note("milk")')).to_be_visible()
    await page.get_by_role("radio", name="Traces").click()
    await expect(said(page).locator(".trace-label", has_text="note")).to_be_visible()
    await page.get_by_role("radio", name="Events").click()
    await page.locator(".tab-label", has_text="State").click()
    await expect(page.locator("app-state-tab")).to_contain_text("note milk: true")
    await page.locator(".input-prefix-menu-btn").click()
    await page.get_by_text("Update state").click()
    editor = page.locator(".cdk-overlay-container .cm-content")
    await editor.click()
    await page.keyboard.press("Control+A")
    await page.keyboard.insert_text('{"color": "red"}')
    await expect(editor).to_have_text('{"color": "red"}')
    await page.clock.run_for(1000)  # the editor takes over typed text after a moment, without any sign of it
    await page.get_by_role("button", name="Save").click()
    await expect(page.get_by_text("Updated session state")).to_be_visible()
    await say(page, "hello")
    await expect(said(page).get_by_text("echo hello")).to_be_visible()
    await expect(page.locator("app-state-tab")).to_contain_text('color: "red"')


async def test_sessions_are_switched_renamed_and_deleted(page: Page, client: httpx.AsyncClient) -> None:
    await say(page, "first")
    await expect(said(page).get_by_text("echo first")).to_be_visible()
    first = await session_of(page, client)
    await page.get_by_role("button", name="New Session").click()
    await say(page, "second")
    await expect(said(page).get_by_text("echo second")).to_be_visible()
    second = await session_of(page, client)
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
    assert (await client.get(first)).status_code == 404
    left = (await client.get(first.rpartition("/")[0])).json()
    assert second.rpartition("/")[2] in {session["id"] for session in left}
    assert first.rpartition("/")[2] not in {session["id"] for session in left}


async def test_a_confirmation_is_given(page: Page) -> None:
    await say(page, 'call pay {"amount": 5}')
    await said(page).get_by_text("Confirmed").click()
    await said(page).get_by_role("button", name="Submit").click()
    await expect(said(page).get_by_text("got {'paid': 5}")).to_be_visible()


async def test_the_stop_button_cancels_the_turn(page: Page, client: httpx.AsyncClient) -> None:
    name = unique("gate")
    gates[name] = asyncio.Event()
    await switch_on_streaming(page)
    await say(page, f"stream once upon @{name} a time")
    await expect(said(page).get_by_text("once upon", exact=True)).to_be_visible()
    await said(page).locator("button", has_text="stop").click()
    session = await session_of(page, client)

    async def ended() -> bool:
        return not (await client.get(f"{session}/turns")).json()

    await until(ended)
    await expect(turn(page)).to_contain_text("The turn was cancelled.")
    assert (await client.get(session)).json()["events"][1]["interrupted"] is True
    await say(page, "hello")
    await expect(said(page).get_by_text("echo hello")).to_be_visible()


async def test_a_model_that_is_asked_again_is_said_in_the_panel_alone(
    anybody: Page, server: RestateServer, broker: MemoryBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GOOGLE_GEMINI_BASE_URL", "http://127.0.0.1:1")
    monkeypatch.setenv("GOOGLE_API_KEY", "none")
    app = unreachable_app()
    config = replace(gateway_config(server, broker), apps={app.name: app}, ui=True)
    async with served(gateway_app(config)) as client:
        where = f"{client.base_url}/dev-ui/?app=unreachable&userId={unique('user')}"
        await anybody.goto(where, wait_until="domcontentloaded")
        await switch_on_streaming(anybody)
        await say(anybody, "hello")
        await expect(turn(anybody)).to_contain_text("gemini-2.5-flash failed; retrying in")
        await expect(said(anybody).get_by_text("ClientConnectorError")).to_be_visible()
        await expect(said(anybody).get_by_text("#3", exact=True)).to_be_hidden()


async def test_an_answer_is_shown_when_its_connection_breaks(anybody: Page, ui: FastAPI) -> None:
    page, name = anybody, unique("gate")
    gate = gates[name] = asyncio.Event()
    async with served(ui) as client:
        await visit(page, client)
        await switch_on_streaming(page)
        await say(page, f"stream once upon @{name} a time")
        await expect(said(page).get_by_text("once upon", exact=True)).to_be_visible()
    await expect(page.get_by_text("network error")).to_be_visible()
    async with served(ui, client.base_url.port):
        gate.set()
        await expect(said(page).get_by_text("once upon a time", exact=True)).to_be_visible()
        assert "cancelled" not in await said(page).inner_text()


async def test_a_session_is_exported_and_imported(page: Page, client: httpx.AsyncClient, tmp_path: Path) -> None:
    await say(page, "hello")
    await expect(said(page).get_by_text("echo hello")).to_be_visible()
    exported = await session_of(page, client)
    await sessions(page, "hello")
    async with page.expect_download() as download:
        await page.get_by_role("button", name="Export").click()
    await (await download.value).save_as(tmp_path / "session.json")
    async with page.expect_file_chooser() as chooser:
        await page.get_by_role("button", name="Import").click()
    await (await chooser.value).set_files(tmp_path / "session.json")
    await expect(page.get_by_text("Session imported successfully")).to_be_visible()
    await expect(said(page).get_by_text("echo hello")).to_be_visible()
    imported = await session_of(page, client)
    assert imported != exported
    assert (await client.get(imported)).json()["state"] == (await client.get(exported)).json()["state"]


async def test_the_restate_ui_shows_the_conversation(
    anybody: Page, server: RestateServer, client: httpx.AsyncClient
) -> None:
    page, user = anybody, unique("user")
    path = f"/apps/scripted/users/{user}/sessions"
    await client.post(path, json={"sessionId": "tea"})
    message = {"role": "user", "parts": [{"text": "a nice cup of tea"}]}
    await client.post("/run", json={"appName": "scripted", "userId": user, "sessionId": "tea", "newMessage": message})
    key = json.dumps({"operation": "EQUALS", "value": user})
    await page.goto(
        f"{server.admin_url}/ui/state/Chat?sysFilter_service_key={quote(key)}", wait_until="domcontentloaded"
    )
    await page.get_by_role("button", name=f"Expand Virtual object instance Chat / {user}", exact=True).click()
    row = page.get_by_role("row").filter(has_text=re.compile("^session_store::tea"))
    await row.get_by_role("button").first.click()
    value = page.get_by_role("dialog").filter(has_text="session_store::tea").locator(".view-lines")
    await expect(value).to_contain_text('"userId": "' + user)
    # The page's header may lie over the middle of the text, where a click would go.
    await value.click(force=True, position={"x": 5, "y": 5})
    for text in ("a nice cup of tea", "echo a nice cup of tea"):

        async def scrolled_to(text: str = text) -> bool:
            await page.keyboard.press("PageDown")
            return f'"text": "{text}"' in (await value.inner_text()).replace("\xa0", " ")

        await until(scrolled_to, PATIENCE_MS / 1000)
