"""Calls that start at once, in parallel branches."""

import asyncio
import threading
from collections.abc import AsyncGenerator
from pathlib import Path

import httpx
import pytest
from google.adk.agents.run_config import RunConfig, ToolThreadPoolConfig
from google.adk.events.event import Event
from google.adk.workflow import START, Workflow
from google.genai import types

from adk_chat import ChatService
from adk_chat.durable.journal.wave import Wave
from adk_chat.settings import Settings
from tests.conftest import hosting
from tests.support import ChatClient, unique, until

OWN_THREADS = RunConfig(tool_thread_pool_config=ToolThreadPoolConfig(max_workers=4))


async def test_branches_go_on_together_and_nobody_waits_for_one_that_waits() -> None:
    wave, went_on = Wave(0), []
    results = {name: asyncio.Event() for name in ("first", "waits", "fails", "last")}

    async def branch(name: str) -> None:
        async def code() -> None:
            if name == "waits":
                await asyncio.sleep(0)

        place = wave.join()
        with place.in_step():
            await place.noting(code())
            await results[name].wait()  # as for the engine
            if name == "fails":
                return
            await place.end()
            went_on.append(name)

    async def rest() -> list[str]:
        for _ in range(10):
            await asyncio.sleep(0)
        return went_on.copy()

    async with asyncio.TaskGroup() as group:
        for name in results:
            group.create_task(branch(name))
        assert await rest() == []
        results["last"].set()
        assert await rest() == [], "the first one has no result yet"
        results["waits"].set()
        assert await rest() == ["waits"]
        results["first"].set()
        assert await rest() == ["waits"], "one may still fail"
        results["fails"].set()
        assert await rest() == ["waits", "first", "last"]


@pytest.mark.parametrize("run_config", [None, OWN_THREADS], ids=["threads of the turn", "threads that were asked for"])
async def test_a_plain_function_holds_others_as_under_adk(
    binary: Path, settings: Settings, run_config: RunConfig | None
) -> None:
    freed, triggers = threading.Event(), set()

    def slow(node_input: str) -> str:
        return "slow" if freed.wait(10) else "late"

    def quick(node_input: str) -> str:
        return "quick"

    async def told(node_input: str) -> AsyncGenerator[Event, None]:
        triggers.add(node_input)
        yield Event(content=types.Content(role="model", parts=[types.Part(text=f"by {node_input}")]))

    flow = Workflow(name="flow", edges=[(START, (slow, quick), told)])
    objects = ChatService(flow, settings=settings, run_config=run_config).objects
    async with hosting(binary, objects) as server, httpx.AsyncClient(base_url=server.ingress_url, timeout=60) as http:
        chat = ChatClient(http, unique("user"))
        turn = asyncio.create_task(chat.message("s", "hello"))

        async def told_of_one() -> bool:
            return triggers == {"quick"}

        if run_config is not None:  # otherwise this would wait for what waits for it
            await until(told_of_one)
        freed.set()
        await turn
        assert await chat.texts("s") == ["hello", *(["by quick", "by slow"] if run_config else ["by slow", "by quick"])]
