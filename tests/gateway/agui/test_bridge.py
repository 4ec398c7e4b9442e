"""What the bridge between ADK and AG-UI that most people use (ag-ui-adk 0.11) gets wrong does not happen here.

Its other failures are tested where they belong: a workflow behind a tool begins again, and a call that nobody answered
stays in the history (`test_interrupts`).
"""

import asyncio
from collections.abc import AsyncIterator

import httpx
import pytest_asyncio

from adk_chat.dev.server import RestateServer
from adk_chat.gateway.server import gateway_app
from adk_chat.streaming import MemoryBroker
from tests.conftest import plain
from tests.gateway.agui.frontend import Frontend
from tests.gateway.conftest import gateway_config, served
from tests.support import calls, gates, text_of, unique

pytestmark = plain


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def other(server: RestateServer, broker: MemoryBroker) -> AsyncIterator[httpx.AsyncClient]:
    """A second gateway."""
    async with served(gateway_app(gateway_config(server, broker))) as client:
        yield client


async def test_nothing_is_answered_again_by_another_replica(
    gateway: httpx.AsyncClient, other: httpx.AsyncClient
) -> None:
    frontend = Frontend(gateway)
    texts = [unique("text") for _ in range(4)]
    for number, text in enumerate(texts):
        frontend.client = (gateway, other)[number % 2]
        assert (await frontend.run(text)).text == f"echo {text}"
    assert [calls[f"model: {text}"] for text in texts] == [1] * 4
    assert [text_of(event) for event in await frontend.events()][::2] == texts


async def test_an_approval_from_two_tabs_is_one_payment(gateway: httpx.AsyncClient, other: httpx.AsyncClient) -> None:
    frontend = Frontend(gateway)
    (interrupt,) = (await frontend.run('call pay {"amount": 5}')).interrupts
    tab = Frontend(other)
    tab.user, tab.thread, tab.messages = frontend.user, frontend.thread, [*frontend.messages]
    resume = [{"interruptId": interrupt["id"], "status": "resolved", "payload": True}]
    for run in await asyncio.gather(frontend.run(resume=resume), tab.run(resume=resume)):
        assert run.text == "got {'paid': 5}", "one of the tabs does not show the answer"
        assert run.end["outcome"] == {"type": "success"}
    events = await frontend.events()
    assert len([event for event in events if text_of(event) == "got {'paid': 5}"]) == 1


async def test_a_message_from_two_tabs_is_answered_once(gateway: httpx.AsyncClient, other: httpx.AsyncClient) -> None:
    frontend, tab = Frontend(gateway), Frontend(other)
    tab.user, tab.thread = frontend.user, frontend.thread
    message = {"id": unique("message"), "role": "user", "content": unique("text")}
    for run in await asyncio.gather(frontend.run(message), tab.run(message)):
        assert run.text == f"echo {message['content']}"
    assert len(await frontend.events()) == 2


async def test_no_session_is_stale(gateway: httpx.AsyncClient, other: httpx.AsyncClient) -> None:
    """Two tabs write at once, and somebody renames the thread."""
    frontend, tab = Frontend(gateway), Frontend(other)
    tab.user, tab.thread = frontend.user, frontend.thread
    await frontend.run("hello")
    tab.messages = [*frontend.messages]
    gate = unique("gate")
    gates[gate] = asyncio.Event()
    async with frontend.streaming(frontend.input(f"wait {gate}")) as (run, events):
        await anext(events)
        async with tab.streaming(tab.input("count")) as (queued, coming):
            await anext(coming)
            rename = {"stateDelta": {"__session_metadata__": {"displayName": "Mine"}}}
            path = f"/apps/scripted/users/{frontend.user}/sessions/{frontend.thread}"
            assert (await gateway.patch(path, json=rename)).is_success
            gates[gate].set()
            async for _ in events:
                pass
            async for _ in coming:
                pass
    assert run.text == f"echo wait {gate}"
    assert queued.text == "5"
