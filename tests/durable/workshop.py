"""An app whose tools do everything that tools do, for the tests of durable tool calls."""

import asyncio
import sys
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.message import Message
from typing import Any
from urllib.error import HTTPError

import restate
from google.adk.agents.llm_agent import LlmAgent
from google.adk.agents.readonly_context import ReadonlyContext
from google.adk.apps.app import App
from google.adk.events.event import Event
from google.adk.events.event_actions import EventActions
from google.adk.sessions.session import Session
from google.adk.tools.base_tool import BaseTool
from google.adk.tools.base_toolset import BaseToolset
from google.adk.tools.function_tool import FunctionTool
from google.adk.tools.tool_context import ToolContext
from google.genai import types
from pydantic import BaseModel
from restate.ext.adk import restate_context
from restate.extensions import current_context
from typing_extensions import override

from adk_chat import restate_tool
from tests.support import Json, ScriptedModel, calls, obey

SECONDS = 20
meetings: dict[str, asyncio.Barrier] = {}
"""Where tools that run at the same time meet. One that waits there for longer than SECONDS fails."""


class Weather(BaseModel):
    """A pydantic result."""

    city: str
    at: datetime


@dataclass
class Point:
    """A dataclass result."""

    x: int
    y: tuple[int, ...]


def count(name: str) -> None:
    """Note that a tool ran to its end."""
    calls[f"tool: {name}"] += 1


def _deep(levels: int) -> Json:
    return {"in": _deep(levels - 1)} if levels else {}


async def give(kind: str, name: str) -> Any:
    """Return something of that kind."""
    count(name)
    return {
        "dict": {"a": [1, None, {"b": 2.5}]},
        "text": "plain",
        "none": None,
        "tuple": (1, "two"),
        "model": Weather(city="Paris", at=datetime(2026, 1, 2, tzinfo=UTC)),
        "dataclass": Point(1, (2, 3)),
        "nested": {"weather": Weather(city="Rome", at=datetime(2026, 1, 2, tzinfo=UTC))},
        "half": {"response": {"text": "\ud83d"}},
        "deep": {"response": _deep(220)},
    }[kind]


async def fail(name: str) -> None:
    """Raise."""
    count(name)
    if name.startswith("page"):
        raise HTTPError("http://x/", 404, "Not Found", Message(), None)
    raise KeyError(f"no {name}")


async def pause(seconds: float, name: str) -> Json:
    """Sleep without Restate."""
    await asyncio.sleep(seconds)
    count(name)
    return {"slept": seconds}


async def meet(where: str, name: str) -> Json:
    """Wait for the others that should be there at the same time."""
    async with asyncio.timeout(SECONDS):
        await meetings[where].wait()
    count(name)
    return {"met": where}


async def act(name: str, tool_context: ToolContext) -> Json:
    """Do what a tool can do besides returning something."""
    count(name)
    tool_context.state["plain"] = name
    tool_context.state["user:shared"] = name
    tool_context.state["temp:gone"] = name
    tool_context.state.setdefault("list", []).append(name)
    tool_context.actions.skip_summarization = True
    await tool_context.save_artifact("file.txt", types.Part(text=name))
    return {"acted": name}


def count_up(name: str, tool_context: ToolContext) -> int:
    """Count in the state of the app."""
    tool_context.state[f"app:{name}"] = tool_context.state.get(f"app:{name}", 0) + 1
    return int(tool_context.state[f"app:{name}"])


async def write_down(name: str, tool_context: ToolContext) -> Json:
    """Use the session service: list, read, create and append."""
    count(name)
    invocation = tool_context.get_invocation_context()
    sessions = invocation.session_service
    at: Json = {"app_name": invocation.app_name, "user_id": invocation.user_id}
    listed = (await sessions.list_sessions(**at)).sessions
    users = {one.user_id for one in (await sessions.list_sessions(app_name=invocation.app_name)).sessions}
    assert invocation.user_id in users
    older = await sessions.get_session(**at, session_id="older")
    assert older is not None
    await sessions.append_event(older, Event(author="notes", actions=EventActions(state_delta={"seen": name})))
    made = await sessions.create_session(**at, session_id=name, state={"by": "tool"})
    note = Event(author="notes", invocation_id=invocation.invocation_id, actions=EventActions(state_delta={"n": name}))
    await sessions.append_event(invocation.session, note)
    return {"sessions": sorted(one.id for one in listed), "older": len(older.events), "made": made.id}


async def ask_for_context(name: str) -> Json:
    """Get the context through a helper that cannot be detected."""
    return {"time": await _context().time()}


def _context() -> restate.Context:
    context = current_context()
    assert context is not None
    return context


async def with_timer(name: str) -> Json:
    """A tool written for `restate.ext.adk`."""

    async def step() -> str:
        count(name)
        return name

    done = await restate_context().run_typed("own step", step)
    await restate_context().sleep(timedelta(milliseconds=300))
    return {"done": done}


@restate_tool
async def with_call(name: str) -> Json:
    """Call another service, through a helper that only the mark declares."""
    answer = await _context().generic_call("Probe", "echo", b'"' + name.encode() + b'"', key="k")
    return {"answered": answer.decode()}


def leave(name: str) -> None:
    """Exit as command-line libraries do."""
    count(name)
    sys.exit(2)


async def leave_the_loop(name: str) -> None:
    """The same on the event loop."""
    leave(name)


async def give_up(name: str) -> None:
    """Raise a cancellation that nobody requested."""
    count(name)
    raise asyncio.CancelledError("by itself")


class Away(BaseToolset):
    """Lists its tools always, except for the first time in an attempt after a tool was called."""

    def __init__(self) -> None:
        super().__init__()
        self._use_invocation_cache = False  # which in one process would hide that
        self._listed: list[Session] = []

    @override
    async def get_tools(self, readonly_context: ReadonlyContext | None = None) -> list[BaseTool]:
        assert readonly_context is not None
        session = readonly_context.session
        first = not any(earlier is session for earlier in self._listed)  # that of another attempt is different
        self._listed.append(session)
        if first and calls[f"tool: {session.id}"]:
            raise ConnectionError("the toolset is away")
        return [FunctionTool(fail), FunctionTool(pause)]


def away() -> App:
    """An app whose toolset is unavailable on a replay."""
    agent = LlmAgent(name="away", model=ScriptedModel(script=obey), tools=[Away()])
    return App(name="away", root_agent=agent)


def counting() -> App:
    """An app with `app:` state."""
    agent = LlmAgent(name="counting", model=ScriptedModel(script=obey), tools=[count_up])
    return App(name="counting", root_agent=agent)


def workshop() -> App:
    """The app."""
    tools = [give, fail, pause, meet, act, write_down, ask_for_context, with_timer, with_call]
    tools += [leave, leave_the_loop, give_up]
    agent = LlmAgent(name="workshop", model=ScriptedModel(script=obey), tools=tools)
    return App(name="workshop", root_agent=agent)
