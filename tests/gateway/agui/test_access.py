"""Who may do what with AG-UI, and what its option turns off."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace

import httpx
import pytest
import pytest_asyncio

from adk_chat import ChatService
from adk_chat.dev.server import RestateServer
from adk_chat.gateway.server import gateway_app
from adk_chat.streaming import MemoryBroker
from tests.conftest import plain
from tests.gateway.agui.frontend import Frontend
from tests.gateway.auth.bearer import SECRET, bearer, settings
from tests.gateway.conftest import APPS, gateway_config, served
from tests.support import gates, unique

pytestmark = plain


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def guarded(server: RestateServer, broker: MemoryBroker) -> AsyncIterator[httpx.AsyncClient]:
    """A gateway with access control."""
    service = ChatService(*APPS.values(), settings=settings(auth_key=SECRET), broker=broker)
    async with served(service.gateway(server.ingress_url, server.admin_url)) as client:
        yield client


def of(user: str, client: httpx.AsyncClient, thread: str) -> Frontend:
    """A frontend with the token of a user, which names no user itself."""
    made = Frontend(client, headers=bearer(user))
    made.user, made.thread = user, thread
    return made


async def test_the_user_is_that_of_the_token(guarded: httpx.AsyncClient) -> None:
    alice, thread = unique("alice"), unique("thread")
    frontend = of(alice, guarded, thread)
    assert (await frontend.run("hello", forwardedProps={})).text == "echo hello"
    assert len(await frontend.events()) == 2


@pytest.mark.parametrize("path", ["", "/connect", "/threads/t/stop"])
async def test_without_a_token(guarded: httpx.AsyncClient, path: str) -> None:
    frontend = Frontend(guarded)
    answer = await guarded.post(f"/agui/scripted{path}", json=frontend.input("hello"))
    assert answer.status_code == 401
    assert (await guarded.get("/copilotkit/info")).status_code == 401


async def test_in_the_name_of_another_user(guarded: httpx.AsyncClient) -> None:
    alice, bob = of(unique("alice"), guarded, "t"), unique("bob")
    await alice.run("hello")
    for path, query in (("", ""), ("/connect", ""), ("", f"?user_id={alice.user}")):
        body = alice.input(forwardedProps={} if query else {"userId": alice.user})
        answer = await guarded.post(f"/agui/scripted{path}{query}", json=body, headers=bearer(bob))
        assert answer.status_code == 403, answer.text
    answer = await guarded.get(f"/agui/scripted/threads/t?user_id={alice.user}", headers=bearer(bob))
    assert answer.status_code == 403
    answer = await guarded.get("/agui/scripted/threads/t", headers={**bearer(bob), "x-user-id": alice.user})
    assert answer.status_code == 403


async def test_a_header_names_the_user_where_no_token_does(gateway: httpx.AsyncClient) -> None:
    frontend = Frontend(gateway, headers={"x-user-id": unique("user")})
    frontend.user = frontend.headers["x-user-id"]
    await frontend.run("hello", forwardedProps={})
    assert len(await frontend.events()) == 2
    thread = await gateway.get(f"/agui/scripted/threads/{frontend.thread}", headers=frontend.headers)
    assert [message["content"] for message in thread.json()["messages"]] == ["hello", "echo hello"]


async def test_threads_and_runs_of_others(guarded: httpx.AsyncClient) -> None:
    """The same ids are other threads and other runs."""
    thread, run = unique("thread"), unique("run")
    alice, bob = of(unique("alice"), guarded, thread), of(unique("bob"), guarded, thread)
    gate = unique("gate")
    gates[gate] = asyncio.Event()
    alice.tools = [{"name": "paint", "description": ""}]
    async with alice.streaming(alice.input(f"stream one @{gate} two", runId=run)) as (shown, events):
        async for event in events:
            if event["type"] == "TEXT_MESSAGE_CONTENT" and not gates[gate].is_set():
                assert (await guarded.get(f"/agui/scripted/threads/{thread}", headers=bob.headers)).status_code == 404
                stop = f"/agui/scripted/threads/{thread}/stop"
                assert (await guarded.post(stop, headers=bob.headers)).json() == {"stopped": False}
                assert (await bob.connect()).messages == []
                said = await bob.run("call paint {}", runId=run)
                assert "no tool with that name" in said.text, "bob was offered a tool of alice's page"
                gates[gate].set()
    assert shown.text == "one two "
    assert len(await alice.events()) == 2


async def test_it_can_be_turned_off(server: RestateServer, broker: MemoryBroker) -> None:
    async with served(gateway_app(replace(gateway_config(server, broker), agui=False))) as client:
        frontend = Frontend(client)
        assert (await client.post("/agui/scripted", json=frontend.input("hello"))).status_code == 404
        assert (await client.get("/copilotkit/info")).status_code == 404
        assert (await client.get("/list-apps")).is_success


async def test_while_restate_is_away(server: RestateServer) -> None:
    async with served(gateway_app(replace(gateway_config(server), ingress_url="http://127.0.0.1:1"))) as client:
        frontend = Frontend(client)
        answer = await client.post("/agui/scripted", json=frontend.input("hello"))
        assert (answer.status_code, answer.headers["retry-after"]) == (503, "2"), answer.text


async def test_capabilities(gateway: httpx.AsyncClient) -> None:
    told = (await gateway.get("/agui/scripted/capabilities")).json()
    assert told["identity"] == {"name": "scripted", "type": "adk"}
    assert told["tools"] == {"supported": True, "clientProvided": True}
    info = (await gateway.get("/copilotkit/info")).json()
    assert info["mode"] == "sse"
    assert info["agents"]["scripted"]["capabilities"] == told
    assert (await gateway.get("/agui/nobody/capabilities")).status_code == 404
    unknown = await gateway.post("/copilotkit", json={"method": "dance"})
    assert unknown.status_code == 404
