"""The frontends of AG-UI that people use, unmodified, in conversations in which processes are killed."""

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
import pytest_asyncio
from playwright.async_api import Browser

from tests.gateway.agui.clients import Node, node, said, texts
from tests.gateway.agui.pages import PAGES, Chat, chat, site
from tests.gateway.conftest import served
from tests.gateway.town import Town
from tests.programs import find_agui_clients
from tests.support import Json, text_of, unique

CLIENTS = ["client-1.0", "client-0.0"]
PAINT = {"name": "paint", "description": "Paints the page.", "parameters": {"type": "object", "properties": {}}}
MADE_ANEW = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")


@pytest.fixture(scope="session")
def home() -> Path:
    return find_agui_clients(print)


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def origin() -> AsyncIterator[str]:
    """The origin of the pages."""
    async with served(site()) as client:
        yield str(client.base_url).rstrip("/")


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def whole_town(binary: Path, tmp_path_factory: pytest.TempPathFactory, origin: str) -> AsyncIterator[Town]:
    directory, agent = tmp_path_factory.mktemp("town"), "tests.gateway.agui.agent:app"
    async with Town(binary, directory, agent, "AGUI_DIR", web=("--allow-origins", origin)) as started:
        yield started


@pytest_asyncio.fixture(loop_scope="session")
async def town(whole_town: Town) -> AsyncIterator[Town]:
    """The town. Every test leaves it as it found it, even one that fails."""
    yield whole_town
    await whole_town.mended()


class Talk:
    """A conversation of several turns: a streamed answer, a tool, an approval, a tool of the frontend."""

    def __init__(self, town: Town, *, differs: bool = False) -> None:
        self.town = town
        self.differs = differs
        self.user, self.thread, self.gate = unique("user"), unique("thread"), unique("gate")

    @property
    def streamed(self) -> str:
        return f"stream one {'$pid' if self.differs else 'two'} @{self.gate} three"

    @property
    def url(self) -> str:
        return f"{self.town.clients[0].base_url}/agui/painter?user_id={self.user}"

    async def rest(self, client: Node) -> Json:
        """The turns after the first one."""
        await client.run(said("m2", "tool milk"), tools=[PAINT])
        done = await client.run(said("m3", 'call pay {"amount": 5}'), tools=[PAINT])
        (interrupt,) = done["interrupts"]
        answer = {"interruptId": interrupt["id"], "status": "resolved", "payload": {"approved": True}}
        await client.run(resume=[answer], tools=[PAINT])
        done = await client.run(said("m4", 'call paint {"color": "red"}'), tools=[PAINT])
        call = done["messages"][-1]["toolCalls"][0]["id"]
        result = {"id": "m5", "role": "tool", "toolCallId": call, "content": '{"painted": "red"}'}
        return await client.run(result, tools=[PAINT])

    async def rest_in(self, page: Chat) -> None:
        """The same in a page."""
        await page.say("tool milk")
        await page.shows("got {'noted': 'milk'}")
        await page.say('call pay {"amount": 5}')
        await page.approve()
        await page.shows("got {'paid': 5}")
        await page.say('call paint {"color": "red"}')
        await page.is_painted("red")
        await page.shows("got {'result': 'painted red'}")

    async def is_stored(self) -> None:
        """Check that each message is stored once."""
        events = await self.stored()
        said = [text_of(event) for event in events if event["author"] == "user" and text_of(event)]
        assert said == [self.streamed, "tool milk", 'call pay {"amount": 5}', 'call paint {"color": "red"}']
        assert len(events) == 17

    async def stored(self) -> list[Json]:
        path = f"/apps/painter/users/{self.user}/sessions/{self.thread}"
        events: list[Json] = (await self.town.clients[1].get(path)).json()["events"]
        return events


ANSWERS = ["one two three ", "got {'noted': 'milk'}", "got {'paid': 5}", "got {'painted': 'red'}"]


@asynccontextmanager
async def on_node(
    town: Town, home: Path, *, differs: bool = False, **parameters: Any
) -> AsyncIterator[list[tuple[Talk, Node]]]:
    """A conversation with each client on Node, in the middle of its first answer."""
    async with AsyncExitStack() as stack:
        made = []
        for client in CLIENTS:
            talk = Talk(town, differs=differs)
            made.append((talk, await stack.enter_async_context(node(home, client, talk.url, talk.thread))))
        for talk, application in made:
            application.send(said("m1", talk.streamed), tools=[PAINT], **parameters)
        for _, application in made:
            await application.until_words(2)
        yield made


@asynccontextmanager
async def in_pages(
    town: Town, browser: Browser, origin: str, *, differs: bool = False
) -> AsyncIterator[list[tuple[Talk, Chat]]]:
    """A conversation in each kind of page, in the middle of its first answer."""
    async with AsyncExitStack() as stack:
        made = []
        for page in PAGES:
            talk = Talk(town, differs=differs)
            url = f"{town.clients[0].base_url}/copilotkit" if page == "copilotkit" else talk.url
            opened = chat(browser, origin, page, url=url, agent="painter", thread=talk.thread, user=talk.user)
            made.append((talk, await stack.enter_async_context(opened)))
        for talk, shown in made:
            await shown.say(talk.streamed)
        for _, shown in made:
            await shown.shows(re.compile(r"^\s*one (two|[0-9]+)\s*$"))
        yield made


async def test_the_endpoints_are_killed(town: Town, home: Path, browser: Browser, origin: str) -> None:
    """The answer begins anew and differently: what was streamed of it is void."""
    on_nodes, in_all_pages = on_node(town, home, differs=True), in_pages(town, browser, origin, differs=True)
    async with on_nodes as talks, in_all_pages as pages:
        await asyncio.gather(*(endpoint.kill() for endpoint in town.endpoints))
        await town.endpoints[0].start()
        answer = f"one {town.endpoints[0].pid} three "
        for talk, application in talks:
            town.open(talk.gate)
            first = await application.done()
            assert (texts(first), first["error"]) == ([answer], None)
            assert "MESSAGES_SNAPSHOT" in [event["type"] for event in application.events]
            done = await talk.rest(application)
            assert (texts(done), done["error"]) == ([answer, *ANSWERS[1:]], None)
            assert done["state"] == {"note milk": True}
        for talk, page in pages:
            town.open(talk.gate)
            await page.shows(answer.strip())
            await talk.rest_in(page)
            await talk.is_stored()
            assert page.errors == []


async def test_a_gateway_is_killed(town: Town, home: Path, browser: Browser, origin: str) -> None:
    async with on_node(town, home, runId="r1") as talks, in_pages(town, browser, origin) as pages:
        await town.gateways[0].kill()
        for _, application in talks:
            assert (await application.done())["error"], "a run that was cut off looked like one that succeeded"
        await town.gateways[0].start()
        for talk, application in talks:
            # The same run again, with what the client has of it.
            application.send(runId="r1", tools=[PAINT])
            await application.until_words(2)
            town.open(talk.gate)
            again = await application.done()
            assert (texts(again), again["error"]) == (["one two three "], None)
            assert texts(await talk.rest(application)) == ANSWERS
            await talk.is_stored()
        for talk, page in pages:
            await page.open()
            await page.shows("one two")
            town.open(talk.gate)
            await page.shows("one two three")
            await talk.rest_in(page)
            await talk.is_stored()


async def test_a_gateway_restarts(town: Town, home: Path) -> None:
    async with on_node(town, home, runId="r1") as talks:
        town.gateways[0].terminate()
        for talk, application in talks:
            await application.done()
            last = application.events[-1]
            assert (last["type"], last["code"]) == ("RUN_ERROR", "reconnect")
            town.open(talk.gate)
        await town.gateways[0].ended(10)
        await town.gateways[0].start()
        for _, application in talks:
            assert texts(await application.run(runId="r1")) == ["one two three "]


async def test_it_is_stored_as_by_adks_api(town: Town, home: Path) -> None:
    talk = Talk(town)
    town.open(talk.gate)
    async with node(home, CLIENTS[0], talk.url, talk.thread) as application:
        await application.run(said("m1", talk.streamed), tools=[PAINT])
        await talk.rest(application)
    other = await _by_adks_api(town.clients[0], talk.streamed)
    assert _plain(await talk.stored()) == _plain(other)


async def _by_adks_api(gateway: httpx.AsyncClient, streamed: str) -> list[Json]:
    """The events of the same conversation by `/run_sse`."""
    user = unique("user")
    sessions = f"/apps/painter/users/{user}/sessions"
    await gateway.post(sessions, json={"sessionId": "s"})

    async def send(*parts: Json) -> list[Json]:
        message = {"role": "user", "parts": parts}
        body = {"appName": "painter", "userId": user, "sessionId": "s", "newMessage": message, "streaming": True}
        (await gateway.post("/run_sse", json=body)).raise_for_status()
        events: list[Json] = (await gateway.get(f"{sessions}/s")).json()["events"]
        return events

    def answer(events: list[Json], name: str, response: Json) -> Json:
        calls = [
            part["functionCall"] for event in events for part in event["content"]["parts"] if "functionCall" in part
        ]
        (call,) = [call for call in calls if call["name"] == name]
        return {"functionResponse": {"id": call["id"], "name": name, "response": response}}

    await send({"text": streamed})
    await send({"text": "tool milk"})
    events = await send({"text": 'call pay {"amount": 5}'})
    return await send(answer(events, "adk_request_confirmation", {"confirmed": True}))


def _plain(events: list[Json]) -> list[str]:
    """Events without what is made anew each time, up to the tool that ADK's API cannot bring."""
    kept: list[str] = []
    for event in events:
        parts = event["content"]["parts"]
        if any("paint" in str(part) for part in parts):
            break
        left = ("timestamp", "id", "invocationId", "customMetadata")
        kept.append(
            MADE_ANEW.sub(
                '""', str({name: value for name, value in event.items() if name not in left}).replace("'", '"')
            )
        )
    return kept
