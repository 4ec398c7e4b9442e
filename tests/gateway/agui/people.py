"""People in conversations: with the clients of AG-UI on Node, and in pages of CopilotKit and assistant-ui."""

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Protocol

from playwright.async_api import Browser

from tests.gateway.agui.clients import CLIENTS, Node, node
from tests.gateway.agui.pages import PAGES, Chat, chat
from tests.gateway.town import Town
from tests.programs import find_agui_clients
from tests.support import Json, unique

PAINT: Json = {"name": "paint", "description": "Paints the page.", "parameters": {"type": "object", "properties": {}}}


class Person(Protocol):
    """Somebody with a thread of their own, who has the tool `paint`."""

    user: str
    thread: str

    async def say(self, text: str) -> None:
        """Send a message."""

    async def sees(self, text: str) -> None:
        """Wait until that is what the agent says, and nothing else. The text is a regular expression."""

    async def come_back(self, code: str | None = None) -> None:
        """Connect again after the connection has broken, or the run has ended with an error of that code."""

    async def approve(self) -> None:
        """Approve what the agent asks for."""

    async def paint(self) -> None:
        """Do what the agent asks for."""


class OnNode:
    """A person with one of the clients."""

    def __init__(self, client: Node, user: str, thread: str) -> None:
        self.user, self.thread = user, thread
        self._client = client
        self._run = ""
        self._running = False

    async def say(self, text: str) -> None:
        """See `Person`."""
        await self._send({"id": unique("message"), "role": "user", "content": text})

    async def sees(self, text: str) -> None:
        """See `Person`."""
        while not re.fullmatch(text, self._client.text.strip()):
            assert await self._client.goes_on(), f"{self._client.done} instead of {text}"
        self._running = True

    async def come_back(self, code: str | None = None) -> None:
        """See `Person`."""
        done = await self._ended()
        assert done["error"] or code, "a run that was cut off looked like one that succeeded"
        if code is not None:
            last = self._client.events[-1]
            assert (last["type"], last["code"]) == ("RUN_ERROR", code)
        self._client.send(runId=self._run, tools=[PAINT])

    async def approve(self) -> None:
        """See `Person`."""
        (interrupt,) = (await self._ended())["interrupts"]
        answer = {"interruptId": interrupt["id"], "status": "resolved", "payload": {"approved": True}}
        self._client.send(resume=[answer], tools=[PAINT])

    async def paint(self) -> None:
        """See `Person`."""
        call = (await self._ended())["messages"][-1]["toolCalls"][0]
        assert call["function"] == {"name": "paint", "arguments": '{"color":"red"}'}
        await self._send({"id": unique("message"), "role": "tool", "toolCallId": call["id"], "content": "painted red"})

    async def _send(self, message: Json) -> None:
        await self._ended()
        self._run = unique("run")
        self._client.send(message, runId=self._run, tools=[PAINT])

    async def _ended(self) -> Json:
        while await self._client.goes_on():
            pass
        return self._client.done


class InPage:
    """A person with one of the pages."""

    def __init__(self, page: Chat, user: str, thread: str) -> None:
        self.user, self.thread = user, thread
        self._page = page

    async def say(self, text: str) -> None:
        """See `Person`."""
        await self._page.say(text)

    async def sees(self, text: str) -> None:
        """See `Person`."""
        await self._page.shows(re.compile(rf"^\s*{text}\s*$"))

    async def come_back(self, code: str | None = None) -> None:
        """See `Person`."""
        await self._page.open()

    async def approve(self) -> None:
        """See `Person`."""
        await self._page.approve()

    async def paint(self) -> None:
        """See `Person`."""
        await self._page.is_painted("red")


@asynccontextmanager
async def everybody(town: Town, browser: Browser, origin: str, app: str) -> AsyncIterator[list[Person]]:
    """A person with each client and each page, at the first gateway.

    Args:
        town: the service, without access control.
        browser: the browser.
        origin: of the pages.
        app: the agent.
    """
    gateway, home = str(town.clients[0].base_url).rstrip("/"), find_agui_clients(print)
    async with AsyncExitStack() as stack:
        people: list[Person] = []
        for client in CLIENTS:
            user, thread = unique("user"), unique("thread")
            url = f"{gateway}/agui/{app}?user_id={user}"
            people.append(OnNode(await stack.enter_async_context(node(home, client, url, thread)), user, thread))
        for page in PAGES:
            user, thread = unique("user"), unique("thread")
            url = f"{gateway}/copilotkit" if page == "copilotkit" else f"{gateway}/agui/{app}?user_id={user}"
            opened = chat(browser, origin, page, url=url, agent=app, thread=thread, user=user)
            people.append(InPage(await stack.enter_async_context(opened), user, thread))
        yield people


async def all_say(people: list[Person], text: str) -> None:
    """Everybody sends a message."""
    await asyncio.gather(*(person.say(text) for person in people))


async def all_see(people: list[Person], text: str) -> None:
    """Everybody sees an answer."""
    await asyncio.gather(*(person.sees(text) for person in people))


async def all_come_back(people: list[Person], code: str | None = None) -> None:
    """Everybody connects again."""
    await asyncio.gather(*(person.come_back(code) for person in people))
