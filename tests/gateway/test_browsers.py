"""Pages of other origins: CORS, streams for proxies and EventSource, tickets, repeated requests."""

import asyncio
import re
import time
from collections.abc import AsyncIterator
from typing import Any

import httpx
import jwt
import pytest
import pytest_asyncio
from playwright.async_api import Browser
from starlette.responses import HTMLResponse
from starlette.routing import Route

from adk_chat import ChatService
from adk_chat.dev.server import RestateServer
from adk_chat.gateway.auth.origins import OriginError, checked_origins
from adk_chat.gateway.auth.tickets import Tickets
from adk_chat.gateway.auth.tokens import TokenError
from adk_chat.protocol.turn_id import TurnId
from adk_chat.streaming import MemoryBroker
from tests.conftest import plain
from tests.gateway.agui.pages import chat, site
from tests.gateway.auth.bearer import SECRET, bearer, settings, token
from tests.gateway.conftest import APPS, served
from tests.gateway.sse import screen, watching
from tests.support import calls, gates, unique

Json = dict[str, Any]

PAGE = """
async ([gateway, bearer, body]) => {
  const send = (path, body) => fetch(gateway + path, {
    method: "POST", headers: { authorization: bearer, "content-type": "application/json" }, body: JSON.stringify(body)
  });
  const running = await send("/run_sse", body);
  const turn = running.headers.get("x-turn-id");
  const { ticket } = await (await send(`/turns/${turn}/ticket`)).json();
  const texts = [];
  let ends = 0;
  await new Promise((closed) => {
    const source = new EventSource(`${gateway}/turns/${turn}/events?ticket=${ticket}`);
    source.onmessage = ({ data }) => texts.push(JSON.parse(data).content.parts[0].text);
    source.addEventListener("end", () => ends++);
    // It comes back by itself after the end, until it is told that there is nothing more.
    source.onerror = () => source.readyState === EventSource.CLOSED && closed();
  });
  return [texts.at(-1), ends];
}
"""


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def page_url() -> AsyncIterator[str]:
    """Pages of another origin."""
    pages = site()
    pages.routes.append(Route("/", lambda _: HTMLResponse("<title>A page</title>")))
    async with served(pages) as client:
        yield str(client.base_url).rstrip("/")


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def gateway(server: RestateServer, broker: MemoryBroker, page_url: str) -> AsyncIterator[httpx.AsyncClient]:
    """A gateway with access control, which that page may use."""
    asked = settings(auth_key=SECRET, allow_origins=[page_url, "regex:https://.*\\.example\\.com"], ping_seconds=0.05)
    service = ChatService(*APPS.values(), settings=asked, broker=broker)
    async with served(service.gateway(server.ingress_url, server.admin_url)) as client:
        yield client


@pytest_asyncio.fixture(loop_scope="session")
async def user(gateway: httpx.AsyncClient) -> str:
    name = unique("user")
    answer = await gateway.post(f"/apps/scripted/users/{name}/sessions", json={"sessionId": "s"}, headers=bearer(name))
    assert answer.is_success, answer.text
    return name


def body(user: str, text: str) -> Json:
    message = {"role": "user", "parts": [{"text": text}]}
    return {"appName": "scripted", "userId": user, "sessionId": "s", "newMessage": message, "streaming": True}


@plain
async def test_a_page_follows_a_turn_with_a_ticket_to_its_end(
    gateway: httpx.AsyncClient, user: str, page_url: str, browser: Browser
) -> None:
    page = await browser.new_page()
    await page.goto(page_url)
    said = body(user, "stream once upon a time")
    ended = await page.evaluate(PAGE, [str(gateway.base_url).rstrip("/"), f"Bearer {token(user)}", said])
    assert ended == ["once upon a time ", 1]
    await page.close()


@plain
async def test_a_page_of_copilotkit_is_opened_again(
    gateway: httpx.AsyncClient, user: str, page_url: str, browser: Browser
) -> None:
    """In the middle of an answer, and before an approval; another answer is stopped.

    All requests go to one address, and pings come in between.
    """
    gate, never = unique("gate"), unique("gate")
    gates[gate], gates[never] = asyncio.Event(), asyncio.Event()
    given = {"url": f"{gateway.base_url}/copilotkit", "agent": "scripted", "thread": "t", "token": token(user)}
    async with chat(browser, page_url, "copilotkit", single="yes", **given) as shown:
        await shown.say("hello")
        await shown.shows("echo hello")
        await shown.say(f"stream one two @{gate} three")
        await shown.shows("one two")
        await shown.open()
        await shown.shows("echo hello")
        await shown.shows("one two")
        gates[gate].set()
        await shown.shows("one two three")
        await shown.say(f"stream four @{never} five")
        await shown.shows("four")
        await shown.stop()
        await shown.say('call pay {"amount": 5}')
        await shown.shows("Pay 5")
        await shown.open()
        await shown.approve()
        await shown.shows("got {'paid': 5}")
        assert shown.errors == []
    stored = await gateway.get(f"/apps/scripted/users/{user}/sessions/t", headers=bearer(user))
    events = stored.json()["events"]
    assert [event["errorCode"] for event in events if "errorCode" in event] == ["INVOCATION_ABORTED"]
    assert len(events) == 14


@plain
async def test_only_allowed_origins_read_anything_and_they_read_refusals_too(
    gateway: httpx.AsyncClient, user: str, page_url: str
) -> None:
    path = f"/apps/scripted/users/{user}/sessions"
    asks = {"access-control-request-method": "POST", "access-control-request-headers": "authorization, idempotency-key"}
    for origin in (page_url, "https://chat.example.com"):
        preflight = await gateway.options("/run_sse", headers={"origin": origin, **asks})
        assert preflight.headers["access-control-allow-origin"] == origin
        assert "idempotency-key" in preflight.headers["access-control-allow-headers"]
        for headers, status in ((bearer(user), 200), ({}, 401)):
            answer = await gateway.get(path, headers={"origin": origin, **headers})
            assert answer.status_code == status
            assert answer.headers.get_list("access-control-allow-origin") == [origin]
            assert answer.headers["access-control-expose-headers"] == "x-turn-id, retry-after"
    for origin in ("http://evil.example", "https://example.com.evil", "null"):
        assert (await gateway.options("/run_sse", headers={"origin": origin, **asks})).status_code == 400
        answer = await gateway.get(path, headers={"origin": origin, **bearer(user)})
        assert "access-control-allow-origin" not in answer.headers
        assert answer.status_code == 403


def test_what_is_no_origin_is_said() -> None:
    for wrong in ("localhost:3000", "http://localhost:3000/", "regex:("):
        with pytest.raises(OriginError, match="--allow-origins"):
            checked_origins([wrong])
    checked_origins(["*", "http://localhost:3000", "regex:https://.*"])


def test_regular_expressions_with_flags_of_their_own_can_be_joined() -> None:
    first, second = checked_origins(["regex:(?i)https://a", "regex:(?i)https://B"])
    joined = re.compile("|".join(origin.removeprefix("regex:") for origin in (first, second)))
    assert joined.fullmatch("https://A")
    assert joined.fullmatch("https://b")


@plain
async def test_a_silent_stream_says_that_it_is_alive_and_an_ended_one_that_it_has_ended(
    gateway: httpx.AsyncClient, user: str
) -> None:
    gate = gates[user] = asyncio.Event()
    headers = bearer(user)
    async with watching(gateway, "POST", "/run_sse", json=body(user, f"wait {user}"), headers=headers) as (posted, _):
        path = f"/turns/{posted.headers['x-turn-id']}/events"
        async with gateway.stream("GET", path, headers=headers) as watched:
            for response in (posted, watched):
                assert response.headers["cache-control"] == "no-cache"
                assert response.headers["x-accel-buffering"] == "no"
            lines = watched.aiter_lines()
            assert [await anext(lines) for _ in range(2)] == [": nothing new"] * 2
            gate.set()
            said = [line async for line in lines]
    shown = screen("\n".join([*said, ""]))
    assert shown.ended
    assert [event["content"]["parts"][0]["text"] for event in shown.complete] == [f"echo wait {user}"]
    again = await gateway.get(path, headers={**headers, "last-event-id": shown.last_id or ""})
    assert (again.status_code, again.text) == (204, "")


@plain
async def test_a_ticket_opens_the_events_of_its_turn_and_nothing_else(gateway: httpx.AsyncClient, user: str) -> None:
    turns = [
        (await gateway.post("/run", json=body(user, text), headers=bearer(user))).headers["x-turn-id"]
        for text in ("one", "two")
    ]
    refused = await gateway.post(f"/turns/{turns[0]}/ticket", headers=bearer("somebody else"))
    assert refused.status_code == 403
    answer = await gateway.post(f"/turns/{turns[0]}/ticket", headers=bearer(user))
    ticket = {"ticket": answer.json()["ticket"]}
    assert (await gateway.get(f"/turns/{turns[0]}/events", params=ticket)).status_code == 200
    assert (await gateway.get(f"/turns/{turns[1]}/events", params=ticket)).status_code == 401
    assert (await gateway.post(f"/turns/{turns[0]}/cancel", params=ticket)).status_code == 401
    assert (await gateway.get(f"/apps/scripted/users/{user}/sessions", params=ticket)).status_code == 401
    as_token = {"authorization": f"Bearer {ticket['ticket']}"}
    assert (await gateway.get(f"/turns/{turns[0]}/events", headers=as_token)).status_code == 401


def test_a_ticket_is_of_no_use_when_it_has_expired_or_was_made_up(monkeypatch: pytest.MonkeyPatch) -> None:
    tickets = Tickets()
    turn = TurnId.parse("inv_1x.dXNlci94L3M")
    assert tickets.subject(turn, tickets.issue(str(turn)).ticket) == "user"
    with pytest.raises(TokenError, match="is invalid"):
        Tickets().subject(turn, tickets.issue(str(turn)).ticket)
    issued = tickets.issue(str(turn))
    monkeypatch.setattr(time, "time", lambda: 0.0)
    expired = tickets.issue(str(turn)).ticket
    monkeypatch.undo()
    with pytest.raises(TokenError, match=r"expired. Ask for a new one"):
        tickets.subject(turn, expired)
    assert jwt.decode(issued.ticket, options={"verify_signature": False}).keys() == {"turn", "aud", "exp"}


@plain
async def test_a_repeated_request_is_the_same_turn(gateway: httpx.AsyncClient, user: str) -> None:
    text = unique("once")
    headers = {**bearer(user), "idempotency-key": text}
    run = await gateway.post("/run", json=body(user, text), headers=headers)
    again = await gateway.post("/run", json=body(user, text), headers=headers)
    assert run.json() == again.json()
    assert run.headers["x-turn-id"] == again.headers["x-turn-id"]
    assert calls[f"model: {text}"] == 1
    streams = [await gateway.post("/run_sse", json=body(user, text), headers=headers) for _ in range(2)]
    assert screen(streams[0].text).complete == screen(streams[1].text).complete == run.json()
    assert {answer.headers["x-turn-id"] for answer in (run, *streams)} == {run.headers["x-turn-id"]}
    assert calls[f"model: {text}"] == 1
    other = await gateway.post("/run", json=body(user, text), headers=bearer(user))
    assert other.headers["x-turn-id"] != run.headers["x-turn-id"]
