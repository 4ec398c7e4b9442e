"""More turns than Restate runs at once."""

import asyncio
import logging
from collections import Counter
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

import httpx
import pytest
import pytest_asyncio
from click.testing import CliRunner
from google.adk.agents.llm_agent import LlmAgent
from google.adk.apps.app import App
from google.adk.models.llm_request import LlmRequest
from google.adk.models.llm_response import LlmResponse
from restate.extensions import current_context

from adk_chat import ChatService, restate_tool, service
from adk_chat.cli.main import main
from adk_chat.dev.server import RestateServer
from adk_chat.durable.journal import idle
from adk_chat.objects.app_state import APP_STATE
from adk_chat.process import readiness, slots
from adk_chat.process.readiness import Check, Readiness
from adk_chat.restate_api.invocations import TURNS
from adk_chat.settings import Settings
from tests.conftest import hosting, query
from tests.support import ChatClient, ScriptedModel, function_call, gates, last_text, obey, reply, unique, until

SLOTS, CROWD, SECONDS = 16, 40, 0.1
awakeables: list[str] = []


@restate_tool
async def wait(name: str) -> str:
    """Wait for the test, as for a person."""
    context = current_context()
    assert context is not None
    awakeable, answer = context.awakeable(type_hint=str)
    awakeables.append(awakeable)
    return await answer


@restate_tool
async def ask() -> str:
    """Ask another handler."""
    context = current_context()
    assert context is not None
    return (await context.generic_call(APP_STATE, "get", b"{}", key="small")).decode()


async def script(request: LlmRequest) -> list[LlmResponse]:
    """The model's script."""
    verb, _, gate = last_text(request).partition(" ")
    if verb != "ask" or not gate:  # the tool has answered
        return await obey(request)
    await gates[gate].wait()
    return [reply(function_call("ask"))]


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def small(binary: Path) -> AsyncIterator[RestateServer]:
    """A Restate that runs few handlers at once."""
    agent = LlmAgent(name="small", model=ScriptedModel(script=script), tools=[wait, ask])
    # Every turn asks for the `app:` state, and that call takes a slot as well.
    settings = Settings(app_state_max_age_seconds=0)
    # Otherwise each would keep its slot for a second, and this would take long.
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(service, "_WAITING", timedelta(seconds=SECONDS))
        patch.setattr(idle, "_IDLE_SECONDS", SECONDS)
        patch.setattr(idle, "_BUSY_SECONDS", SECONDS)  # the clients are in this process as well
        objects = ChatService(App(name="small", root_agent=agent), settings=settings).objects
        async with hosting(binary, objects, slots=SLOTS) as server:
            yield server


@pytest.mark.parametrize("handler", ["message", "post"])
async def test_a_crowd_is_answered(small: RestateServer, handler: str) -> None:
    async with httpx.AsyncClient(base_url=small.ingress_url, timeout=60) as http:
        users = [ChatClient(http, f"{handler}-{number}") for number in range(CROWD)]
        body = {"message": "hello", "session_id": "s"}
        answers = await asyncio.gather(*(user.send(handler, body) for user in users))
        assert {answer.status_code for answer in answers} == {200}

        async def done() -> bool:
            return not await query(small, "SELECT id FROM sys_invocation WHERE status != 'completed'")

        await until(done)
        assert [await user.texts("s") for user in users] == [["hello", "echo hello"]] * CROWD


async def test_turns_that_wait_for_people_keep_nobody_else_waiting(small: RestateServer) -> None:
    async with httpx.AsyncClient(base_url=small.ingress_url, timeout=60) as http:
        users = [ChatClient(http, f"waiting-{number}") for number in range(CROWD)]
        body = {"message": 'call wait {"name": "x"}', "session_id": "s"}
        waiting = [asyncio.create_task(user.send("message", body)) for user in users]

        async def all_wait() -> bool:
            return len({*awakeables}) == CROWD

        await until(all_wait)
        assert await ChatClient(http, "other").message("s", "hello") == "echo hello"
        for awakeable in {*awakeables}:
            (await http.post(f"/restate/awakeables/{awakeable}/resolve", json="yes")).raise_for_status()
        answers = [await answer for answer in waiting]
        assert {answer.text for answer in answers} == {"\"got {'result': 'yes'}\""}


async def test_that_all_slots_are_taken_is_said(
    small: RestateServer, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    first, gate = unique("gate"), unique("gate")
    gates[first], gates[gate] = asyncio.Event(), asyncio.Event()
    monkeypatch.setattr(slots, "LOOK_SECONDS", 0.1)
    async with httpx.AsyncClient(base_url=small.ingress_url, timeout=60) as http:

        def work(number: int, message: str) -> "asyncio.Task[httpx.Response]":
            body = {"message": message, "session_id": "s"}
            return asyncio.create_task(ChatClient(http, f"working-{number}").send("message", body))

        async def begun() -> object:
            return await query(small, f"SELECT id FROM sys_invocation WHERE {TURNS} AND status = 'running'")

        working = [work(0, f"ask {first}")]
        await until(begun)
        working += [work(number, f"wait {gate}") for number in range(1, SLOTS + 2)]
        watching = asyncio.create_task(slots.watch_slots(small.admin_url, {}))

        async def said() -> bool:
            return "Restate runs as many handlers as it may, and " in caplog.text

        async def listed() -> list[str]:
            """The waiting turns, when two wait and all others run."""
            command = ["turns", "--admin-url", small.admin_url, "list"]
            *lines, last = (await asyncio.to_thread(CliRunner().invoke, main, command)).output.splitlines()
            seen = Counter(line.split()[1] for line in lines)
            if seen != {"running": SLOTS, "waiting": 2}:
                return []
            assert last.startswith("2 of them wait for a slot: Restate runs"), last
            return [line for line in lines if line.split()[1] == "waiting"]

        with caplog.at_level(logging.WARNING, "adk_chat.process.slots"):
            await until(said)
        await until(listed)
        watching.cancel()
        probed = Readiness(small.ingress_url, small.admin_url)
        assert await probed.handlers() == Check(), "they may be busy"
        monkeypatch.setattr(readiness, "_GONE_SECONDS", 0)
        # Taking a gateway out of service would help nobody.
        assert await probed.handlers() == Check(readiness.FULL, needed=False)
        await probed.close()
        gates[first].set()

        async def waits_for_a_call() -> bool:
            """Whether the first waits: its tool's call comes after turns that wait to start, and has no slot."""
            return any("working-0" in line for line in await listed())

        await until(waits_for_a_call)
        gates[gate].set()
        assert {(await answer).status_code for answer in working} == {200}
