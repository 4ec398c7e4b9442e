"""A page of CopilotKit behind access control, with nothing between it and the gateway."""

import asyncio
from collections.abc import AsyncIterator

import httpx
import pytest_asyncio
from playwright.async_api import Browser

from adk_chat import ChatService
from adk_chat.dev.server import RestateServer
from adk_chat.streaming import MemoryBroker
from tests.conftest import plain
from tests.gateway.agui.pages import chat, site
from tests.gateway.auth.bearer import SECRET, bearer, settings, token
from tests.gateway.conftest import APPS, served
from tests.support import gates, unique

pytestmark = plain


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def origin() -> AsyncIterator[str]:
    async with served(site()) as client:
        yield str(client.base_url).rstrip("/")


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def gateway(server: RestateServer, broker: MemoryBroker, origin: str) -> AsyncIterator[httpx.AsyncClient]:
    """A gateway with access control, which the pages may use."""
    asked = settings(auth_key=SECRET, allow_origins=[origin], ping_seconds=0.05)
    service = ChatService(*APPS.values(), settings=asked, broker=broker)
    async with served(service.gateway(server.ingress_url, server.admin_url)) as client:
        yield client


async def test_the_page_is_opened_again(gateway: httpx.AsyncClient, origin: str, browser: Browser) -> None:
    """In the middle of an answer, and before an approval. All requests go to one address."""
    user, thread, gate = unique("user"), unique("thread"), unique("gate")
    gates[gate] = asyncio.Event()
    given = {"url": f"{gateway.base_url}/copilotkit", "agent": "scripted", "thread": thread, "token": token(user)}
    async with chat(browser, origin, "copilotkit", single="yes", **given) as shown:
        await shown.say("hello")
        await shown.shows("echo hello")
        await shown.say(f"stream one two @{gate} three")
        await shown.shows("one two")
        await shown.open()
        await shown.shows("echo hello")
        await shown.shows("one two")
        gates[gate].set()
        await shown.shows("one two three")
        await shown.say('call pay {"amount": 5}')
        await shown.shows("Pay 5")
        await shown.open()
        await shown.approve()
        await shown.shows("got {'paid': 5}")
        assert shown.errors == []
    path = f"/apps/scripted/users/{user}/sessions/{thread}"
    assert len((await gateway.get(path, headers=bearer(user))).json()["events"]) == 11
