"""More turns than the engine runs at once."""

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

import httpx
import pytest
import pytest_asyncio
from google.adk.agents.llm_agent import LlmAgent
from google.adk.apps.app import App
from restate.extensions import current_context

from adk_chat import ChatService, restate_tool, service
from adk_chat.dev.server import RestateServer
from adk_chat.durable import pump
from adk_chat.settings import Settings
from tests.conftest import hosting, query
from tests.support import ChatClient, ScriptedModel, obey, until

SLOTS, TURNS, SECONDS = 16, 40, 0.1
awakeables: list[str] = []


@restate_tool
async def wait(name: str) -> str:
    """Wait for the test, as for a person."""
    context = current_context()
    assert context is not None
    awakeable, answer = context.awakeable(type_hint=str)
    awakeables.append(awakeable)
    return await answer


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def small(binary: Path) -> AsyncIterator[RestateServer]:
    """An engine that runs few handlers at once."""
    agent = LlmAgent(name="small", model=ScriptedModel(script=obey), tools=[wait])
    # Every turn asks for the state of the app, and that call takes a slot as well.
    settings = Settings(_env_file=None, app_state_max_age_seconds=0)
    with pytest.MonkeyPatch.context() as patch:  # or each would have its slot for a second, and this would take long
        patch.setattr(service, "_WAITING", timedelta(seconds=SECONDS))
        patch.setattr(pump, "_IDLE_SECONDS", SECONDS)
        objects = ChatService(App(name="small", root_agent=agent), settings=settings).objects
        async with hosting(binary, objects, slots=SLOTS) as server:
            yield server


@pytest.mark.parametrize("handler", ["message", "post"])
async def test_a_crowd_is_answered(small: RestateServer, handler: str) -> None:
    async with httpx.AsyncClient(base_url=small.ingress_url, timeout=60) as http:
        users = [ChatClient(http, f"{handler}-{number}") for number in range(TURNS)]
        body = {"message": "hello", "session_id": "s"}
        answers = await asyncio.gather(*(user.send(handler, body) for user in users))
        assert {answer.status_code for answer in answers} == {200}

        async def done() -> bool:
            return not await query(small, "SELECT id FROM sys_invocation WHERE status != 'completed'")

        await until(done)
        assert [await user.texts("s") for user in users] == [["hello", "echo hello"]] * TURNS


async def test_turns_that_wait_for_people_keep_nobody_else_waiting(small: RestateServer) -> None:
    async with httpx.AsyncClient(base_url=small.ingress_url, timeout=60) as http:
        users = [ChatClient(http, f"waiting-{number}") for number in range(TURNS)]
        body = {"message": 'call wait {"name": "x"}', "session_id": "s"}
        waiting = [asyncio.create_task(user.send("message", body)) for user in users]

        async def all_wait() -> bool:
            return len({*awakeables}) == TURNS

        await until(all_wait)
        assert await ChatClient(http, "other").message("s", "hello") == "echo hello"
        for awakeable in {*awakeables}:
            (await http.post(f"/restate/awakeables/{awakeable}/resolve", json="yes")).raise_for_status()
        answers = [await answer for answer in waiting]
        assert {answer.text for answer in answers} == {"\"got {'result': 'yes'}\""}
