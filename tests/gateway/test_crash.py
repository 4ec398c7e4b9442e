"""Two gateways and two endpoints, with Redis, and SIGKILL for each kind of process in the middle of an answer."""

import asyncio
import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import pytest_asyncio
from playwright.async_api import Browser
from pydantic_core import to_json

from adk_chat.gateway.streams.run_request import TURN_ID
from tests.gateway.agui.pages import site
from tests.gateway.agui.people import all_come_back, all_say, all_see, everybody
from tests.gateway.conftest import served
from tests.gateway.sse import Screen, watching
from tests.gateway.town import Town
from tests.support import unique, until
from tests.terminal.chatting import piped, terminal

Json = dict[str, Any]
TEXT = " ".join(f"word-{number}" for number in range(40)) + " "


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def origin() -> AsyncIterator[str]:
    """The origin of the pages that speak AG-UI."""
    async with served(site()) as client:
        yield str(client.base_url).rstrip("/")


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def whole_town(binary: Path, tmp_path_factory: pytest.TempPathFactory, origin: str) -> AsyncIterator[Town]:
    async with Town(binary, tmp_path_factory.mktemp("town"), web=("--allow-origins", origin)) as started:
        yield started


@pytest_asyncio.fixture(loop_scope="session")
async def town(whole_town: Town) -> AsyncIterator[Town]:
    """The town. Every test leaves it as it found it, even one that fails."""
    yield whole_town
    await whole_town.mended()


class Talk:
    """A turn that says half of TEXT, and the other half when the test allows."""

    def __init__(self, town: Town) -> None:
        self.town = town
        self.user, self.gate = unique("user"), unique("gate")
        self.turn_id = ""
        words = TEXT.split()
        self.first_half = " ".join(words[:20]) + " "
        self.message = " ".join(["stream", *words[:20], f"@{self.gate}", *words[20:]])

    @property
    def path(self) -> str:
        return f"/apps/crash/users/{self.user}/sessions/s"

    @property
    def body(self) -> Json:
        message = {"role": "user", "parts": [{"text": self.message}]}
        return {"appName": "crash", "userId": self.user, "sessionId": "s", "newMessage": message, "streaming": True}

    def chat(self, gateway: int) -> tuple[str, ...]:
        """The arguments of `adk-chat chat` for it."""
        url = str(self.town.clients[gateway].base_url)
        return "crash", "--url", url, "--user", self.user, "--session", "s"

    async def begin(self, shown: Screen) -> httpx.Response:
        """Post it to the first gateway, and read the first half."""
        await self.town.clients[0].post(self.path.removesuffix("/s"), json={"sessionId": "s"})
        async with watching(self.town.clients[0], "POST", "/run_sse", json=self.body) as (response, events):
            self.turn_id = response.headers[TURN_ID]
            await self.until(self.first_half, shown, events)
        return response

    async def until(self, text: str, shown: Screen, events: AsyncIterator[Any]) -> None:
        """Read until that much partial text is shown."""
        while shown.partial_text != text:
            shown.show(await asyncio.wait_for(anext(events), 30))

    async def end(self, shown: Screen, gateway: int) -> None:
        """Read the rest from another gateway, from the last position."""
        headers = {"last-event-id": shown.last_id} if shown.last_id else {}
        path = f"/turns/{self.turn_id}/events"
        async with watching(self.town.clients[gateway], "GET", path, headers=headers) as (_, events):
            self.town.open(self.gate)
            async for event in events:
                shown.show(event)

    async def stored(self, gateway: int) -> str:
        """The answer in the store."""
        events = (await self.town.clients[gateway].get(self.path)).json()["events"]
        assert [event["author"] for event in events] == ["user", "crash"]
        text: str = events[1]["content"]["parts"][0]["text"]
        return text


async def test_turns_run_on_both_endpoints_whichever_gateway_they_came_through(town: Town) -> None:
    everybody = {str(endpoint.pid) for endpoint in town.endpoints}

    async def who_answers(client: httpx.AsyncClient) -> str:
        user = unique("user")
        await client.post(f"/apps/crash/users/{user}/sessions", json={"sessionId": "s"})
        message = {"role": "user", "parts": [{"text": "who"}]}
        body = {"appName": "crash", "userId": user, "sessionId": "s", "newMessage": message}
        answer = await client.post("/run", json=body)
        text: str = answer.json()[0]["content"]["parts"][0]["text"]
        return text

    for client in town.clients:
        seen: set[str] = set()
        for _ in range(10):
            seen |= {*await asyncio.gather(*(who_answers(client) for _ in range(10)))}
            if seen == everybody:
                break
            town.balancer.drop()  # Restate has few connections, and may have used only one
        assert seen == everybody


async def test_an_endpoint_is_killed_in_the_middle_of_an_answer(town: Town) -> None:
    talk, shown = Talk(town), Screen()
    await town.clients[0].post(talk.path.removesuffix("/s"), json={"sessionId": "s"})
    async with watching(town.clients[0], "POST", "/run_sse", json=talk.body) as (response, events):
        talk.turn_id = response.headers[TURN_ID]
        await talk.until(talk.first_half, shown, events)
        for endpoint in town.endpoints:  # one of them has the turn
            await endpoint.kill()
        await town.endpoints[0].start()
        town.open(talk.gate)
        async for event in events:
            shown.show(event)
    (answer,) = shown.complete
    assert shown.resets == 0  # the same is said again, and continues
    assert answer["content"]["parts"][0]["text"] == shown.partial_text == await talk.stored(0) == TEXT


async def test_a_gateway_is_killed_and_the_other_one_goes_on(town: Town) -> None:
    talk, shown = Talk(town), Screen()
    await town.clients[0].post(talk.path.removesuffix("/s"), json={"sessionId": "s"})
    async with watching(town.clients[0], "POST", "/run_sse", json=talk.body) as (response, events):
        talk.turn_id = response.headers[TURN_ID]
        await talk.until(talk.first_half, shown, events)
        await town.gateways[0].kill()
        with pytest.raises(httpx.TransportError):
            await anext(events)
    await talk.end(shown, gateway=1)
    assert shown.partial_text == shown.complete[0]["content"]["parts"][0]["text"] == await talk.stored(1) == TEXT


async def test_redis_is_killed_and_the_answer_arrives(town: Town) -> None:
    talk, shown = Talk(town), Screen()
    await town.clients[0].post(talk.path.removesuffix("/s"), json={"sessionId": "s"})
    async with watching(town.clients[0], "POST", "/run_sse", json=talk.body) as (_, events):
        await talk.until(talk.first_half, shown, events)
        await town.redis.kill()
        town.open(talk.gate)
        async for event in events:
            shown.show(event)
    assert shown.complete[0]["content"]["parts"][0]["text"] == await talk.stored(0) == TEXT
    lost = [(200, "degraded", "Redis does not answer")] * 4
    assert await ready(town, "streams") == lost, "nobody is taken out of service for that"
    await town.redis.start()

    async def back() -> bool:
        return await ready(town, "streams") == [(200, "ok", "ok")] * 4

    await until(back, 5)


async def ready(town: Town, what: str) -> list[tuple[int, str, str]]:
    """What each process reports about itself, and about one part."""
    async with httpx.AsyncClient(timeout=10) as client:
        urls = [*town.endpoint_urls, *(str(gateway.base_url) for gateway in town.clients)]
        answers = await asyncio.gather(*(client.get(f"{url}/ready") for url in urls))
    return [(answer.status_code, answer.json()["status"], answer.json()[what]) for answer in answers]


async def test_a_gateway_is_not_ready_when_no_endpoint_answers(town: Town) -> None:
    gateway = town.clients[0]
    for endpoint in town.endpoints:
        await endpoint.kill()

    async def seen() -> bool:
        return (await gateway.get("/ready")).status_code == 503

    await until(seen, 5)
    said = (await gateway.get("/ready")).json()
    assert (said["status"], said["restate"]) == ("unavailable", "ok")
    assert said["handlers"] == f"the endpoint at http://127.0.0.1:{town.balancer.port} does not answer"
    await town.mended()

    async def back() -> bool:
        return (await gateway.get("/ready")).status_code == 200

    await until(back, 5)


async def test_a_stream_begun_through_one_gateway_is_read_through_the_other(town: Town) -> None:
    talk, shown = Talk(town), Screen()
    await talk.begin(shown)
    await talk.end(shown, gateway=1)
    assert shown.partial_text == shown.complete[0]["content"]["parts"][0]["text"] == TEXT
    assert shown.resets == 0


async def test_the_terminal_chat_goes_on_when_its_gateway_is_killed_and_comes_back(town: Town) -> None:
    talk = Talk(town)
    async with terminal(*talk.chat(gateway=0), NO_COLOR="1") as chat:
        await chat.shows("> ")
        chat.type(talk.message)
        await chat.shows(f"\n{talk.first_half}")
        await town.gateways[0].kill()
        await town.gateways[0].start()
        town.open(talk.gate)
        await chat.shows(f"\n{TEXT}\n> ")
        chat.type("/quit")
        assert await chat.code() == 0
    assert "restarted" not in chat.screen
    assert await talk.stored(0) == TEXT


async def test_the_terminal_chat_says_an_answer_once_whose_endpoint_is_killed(town: Town) -> None:
    talk, shown = Talk(town), Screen()
    chatting = asyncio.create_task(piped(f"{talk.message}\n", *talk.chat(gateway=1)))

    async def running() -> list[Json]:
        answer = await town.clients[1].get(f"{talk.path}/turns")
        turns: list[Json] = answer.json() if answer.is_success else []
        return turns

    await until(running)
    (turn,) = await running()
    async with watching(town.clients[1], "GET", f"/turns/{turn['turnId']}/events") as (_, events):
        await talk.until(talk.first_half, shown, events)
    for endpoint in town.endpoints:
        await endpoint.kill()
    await town.endpoints[0].start()
    town.open(talk.gate)
    assert await chatting == (0, f"{TEXT}\n", "")
    assert await talk.stored(1) == TEXT


async def test_frontends_of_agui_go_on(town: Town, browser: Browser, origin: str) -> None:
    """The clients and pages that people use, unmodified, in one conversation in which everything is killed once."""
    gates = [unique("gate") for _ in range(3)]
    messages = [f"stream one $pid @{gates[0]} three", f"stream four @{gates[1]} five", f"stream six @{gates[2]} seven"]
    async with everybody(town, browser, origin, "crash") as people:
        await all_say(people, messages[0])
        await all_see(people, r"one \d+")
        await asyncio.gather(*(endpoint.kill() for endpoint in town.endpoints))
        await town.endpoints[0].start()
        town.open(gates[0])
        # It begins anew and differently: what was streamed is void.
        await all_see(people, f"one {town.endpoints[0].pid} three")

        await all_say(people, messages[1])
        await all_see(people, "four")
        await town.gateways[0].kill()
        await town.gateways[0].start()
        await all_come_back(people)
        await all_see(people, "four")
        town.open(gates[1])
        await all_see(people, "four five")

        await all_say(people, messages[2])
        await all_see(people, "six")
        town.gateways[0].terminate()
        await town.gateways[0].ended(10)
        await town.gateways[0].start()
        await all_come_back(people, "reconnect")
        town.open(gates[2])
        await all_see(people, "six seven")

        await all_say(people, 'call work {"name": "now"}')
        await all_see(people, "echo work")
        await all_say(people, 'call pay {"amount": 5}')
        await asyncio.gather(*(person.approve() for person in people))
        await all_see(people, "got {'paid': 5}")
        await all_say(people, 'call paint {"color": "red"}')
        await asyncio.gather(*(person.paint() for person in people))
        await all_see(people, "got {'result': 'painted red'}")
    wanted = await _by_adks_api(town.clients[0], [*messages, 'call work {"name": "now"}', 'call pay {"amount": 5}'])
    for person in people:
        path = f"/apps/crash/users/{person.user}/sessions/{person.thread}"
        events = (await town.clients[0].get(path)).json()["events"]
        assert _plain(events[:-4]) == wanted
        paint = [[*part] for event in events[-4:] for part in event["content"]["parts"]]
        assert paint == [["text"], ["functionCall"], ["functionResponse"], ["text"]]


async def _by_adks_api(gateway: httpx.AsyncClient, texts: list[str]) -> list[str]:
    """The events of the same conversation by `/run_sse`, at the end of which something is paid."""
    user = unique("user")
    sessions = f"/apps/crash/users/{user}/sessions"
    await gateway.post(sessions, json={"sessionId": "s"})

    async def send(part: Json) -> list[Json]:
        message = {"role": "user", "parts": [part]}
        body = {"appName": "crash", "userId": user, "sessionId": "s", "newMessage": message, "streaming": True}
        (await gateway.post("/run_sse", json=body)).raise_for_status()
        events: list[Json] = (await gateway.get(f"{sessions}/s")).json()["events"]
        return events

    for text in texts:
        events = await send({"text": text})
    (asked,) = [part["functionCall"] for part in events[-2]["content"]["parts"]]
    response = {"id": asked["id"], "name": asked["name"], "response": {"confirmed": True}}
    return _plain(await send({"functionResponse": response}))


def _plain(events: list[Json]) -> list[str]:
    """Events without what is made anew each time."""
    made_anew = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
    for name in ("timestamp", "customMetadata"):
        events = [{key: value for key, value in event.items() if key != name} for event in events]
    return [made_anew.sub("", to_json(event).decode()) for event in events]
