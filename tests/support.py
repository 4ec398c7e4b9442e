"""What tests share: a scripted model, an app around it, and a client like curl."""

import asyncio
import contextlib
import itertools
import json
import os
import threading
from collections import Counter
from collections.abc import AsyncGenerator, Awaitable, Callable
from typing import Any

import httpx
import restate
from google.adk.agents.base_agent import BaseAgent
from google.adk.agents.invocation_context import InvocationContext
from google.adk.agents.llm_agent import LlmAgent
from google.adk.agents.parallel_agent import ParallelAgent
from google.adk.apps.app import App
from google.adk.events.event import Event
from google.adk.models.base_llm import BaseLlm
from google.adk.models.llm_request import LlmRequest
from google.adk.models.llm_response import LlmResponse
from google.adk.plugins.base_plugin import BasePlugin
from google.adk.tools.function_tool import FunctionTool
from google.adk.tools.tool_context import ToolContext
from google.genai import types

Json = dict[str, Any]

_numbers = itertools.count(1)

calls: Counter[str] = Counter()
"""How many times each model call and tool call ran to its end, by its input."""
gates: dict[str, asyncio.Event] = {}
"""Model calls and tools that wait, by their input, until the test opens the gate."""


def unique(prefix: str = "id") -> str:
    """A name that no other test uses."""
    return f"{prefix}-{next(_numbers)}"


def reply(*parts: types.Part | str) -> LlmResponse:
    """A complete model response."""
    made = [types.Part(text=part) if isinstance(part, str) else part for part in parts]
    usage = types.GenerateContentResponseUsageMetadata(prompt_token_count=1, candidates_token_count=1)
    return LlmResponse(content=types.Content(role="model", parts=made), usage_metadata=usage)


def function_call(name: str, /, **args: Any) -> types.Part:
    """A part in which the model calls a function."""
    return types.Part(function_call=types.FunctionCall(name=name, args=args))


class ScriptedModel(BaseLlm):
    """A model that does what `script` says. It counts the calls that it completed in `calls`."""

    model: str = "scripted"
    script: Callable[[LlmRequest], Awaitable[list[LlmResponse]]]
    gate: Callable[[str], Awaitable[object]] = lambda name: gates[name].wait()

    async def generate_content_async(
        self, llm_request: LlmRequest, stream: bool = False
    ) -> AsyncGenerator[LlmResponse, None]:
        verb, _, words = last_text(llm_request).partition(" ")
        if verb == "stream":
            async for response in speak(words.split(), stream, self.gate):
                yield response
            calls[f"model: {last_text(llm_request)}"] += 1
            return
        responses = await self.script(llm_request)
        calls[f"model: {last_text(llm_request)}"] += 1
        for response in responses:
            yield response


async def speak(
    words: list[str], stream: bool, gate: Callable[[str], Awaitable[object]]
) -> AsyncGenerator[LlmResponse, None]:
    """Say the words one by one, if asked to stream, and then all of them.

    At `@name` it waits for the test. `$pid` is the id of the process, so that another process says something else.
    """
    said = []
    for word in words:
        if word.startswith("@"):
            await gate(word[1:])
            continue
        said.append((str(os.getpid()) if word == "$pid" else word) + " ")
        if stream:
            part = types.Part(text=said[-1])
            yield LlmResponse(content=types.Content(role="model", parts=[part]), partial=True)
    yield reply("".join(said))


def last_text(request: LlmRequest) -> str:
    """The model's input: the text of the last content, or the names of the functions it answers."""
    parts = (request.contents[-1].parts if request.contents else None) or []
    return " ".join(part.text or (part.function_response and part.function_response.name) or "" for part in parts)


async def obey(request: LlmRequest) -> list[LlmResponse]:
    """The script of the test app: the user's message says what the model does."""
    asked = last_text(request)
    last = (request.contents[-1].parts or [])[-1]
    verb, _, rest = asked.partition(" ")
    if last.function_response:
        responses = [part.function_response for part in request.contents[-1].parts or []]
        return [reply("got " + ", ".join(str(r.response) for r in responses if r))]
    if verb == "wait":
        await gates[rest].wait()
    if verb == "tool":
        return [reply(*(function_call("note", text=text) for text in rest.split(",")))]
    if verb == "call":
        wanted = [call.partition(" ") for call in rest.split(";")]
        return [reply(*(function_call(name, **json.loads(args)) for name, _, args in wanted))]
    if verb == "gated":
        return [reply(function_call("gated", name=rest))]
    if verb == "count":
        return [reply(str(len(request.contents)))]
    if verb == "instruction":
        return [reply(str(request.config.system_instruction))]
    if verb == "large":
        return [reply("x" * int(rest))]
    if verb == "refused":
        raise restate.TerminalError("not with me", 451)
    if verb == "busy":
        calls[asked] += 1
        raise ConnectionError("nobody is there")
    if verb == "exit":
        raise SystemExit(3)
    if verb == "error":
        raise ValueError("the model is out of order")
    return [reply(f"echo {asked}")]


async def note(text: str, tool_context: ToolContext) -> Json:
    """Write something into the state."""
    calls[f"tool: {text}"] += 1
    tool_context.state[f"note {text}"] = True
    return {"noted": text}


async def gated(name: str) -> Json:
    """Wait for the test."""
    await gates[name].wait()
    calls[f"tool: {name}"] += 1
    return {"passed": name}


def pay(amount: int) -> Json:
    """Pay, once somebody has agreed."""
    return {"paid": amount}


def scripted_app(name: str, plugins: list[BasePlugin] | None = None, **attributes: Any) -> App:
    """An app of one agent whose model obeys the user's messages."""
    agent = LlmAgent(
        name=name,
        model=ScriptedModel(script=obey),
        instruction="shown={app:shown?}",
        tools=[note, gated, FunctionTool(pay, require_confirmation=True)],
        **attributes,
    )
    return App(name=name, root_agent=agent, plugins=plugins or [])


class Speaker(BaseAgent):
    """Asked for "3 1000", it says three texts of a thousand bytes without any model call between."""

    async def _run_async_impl(self, ctx: InvocationContext) -> AsyncGenerator[Event, None]:
        assert ctx.user_content is not None
        assert ctx.user_content.parts is not None
        count, _, size = (ctx.user_content.parts[0].text or "").partition(" ")
        for _ in range(int(count)):
            text = types.Part(text="x" * int(size))
            content = types.Content(role="model", parts=[text])
            yield Event(invocation_id=ctx.invocation_id, author=self.name, branch=ctx.branch, content=content)


released, freed = asyncio.Event(), threading.Event()
"""What `Stubborn` waits for; set by a test that is done with it."""
taken = asyncio.Lock()
"""What `Stubborn` waits for as well; a test holds it."""


class Stubborn(BaseAgent):
    """Says something, and then waits in the requested way, none of which durability knows."""

    async def _run_async_impl(self, ctx: InvocationContext) -> AsyncGenerator[Event, None]:
        text = (ctx.user_content.parts or [types.Part()])[0].text if ctx.user_content else None
        content = types.Content(role="model", parts=[types.Part(text=f"I am asked for {text}")])
        yield Event(invocation_id=ctx.invocation_id, author=self.name, content=content)
        if text == "a lock":
            async with taken:
                pass
        if text == "a thread":
            await asyncio.to_thread(freed.wait, 10)
        if text == "time":
            await asyncio.sleep(3600)
        while text == "deaf ears" and not released.is_set():
            with contextlib.suppress(asyncio.CancelledError):
                await released.wait()


def choir() -> App:
    """An app in which one agent calls a model while another one speaks."""
    singers = [LlmAgent(name="soloist", model=ScriptedModel(script=obey)), Speaker(name="speaker")]
    return App(name="choir", root_agent=ParallelAgent(name="choir", sub_agents=singers))


class ChatClient:
    """One user's Chat, as a client of the ingress sees it; and the app, if there are several."""

    def __init__(self, http: httpx.AsyncClient, user: str, app: str | None = None) -> None:
        self.http = http
        self.user = user
        self.app = app

    async def send(self, handler: str, body: object = None, **headers: str) -> httpx.Response:
        """POST to a handler, about the client's app unless the body names one."""
        body = {} if body is None else body
        if self.app is not None:
            body = {"session_id": body} if isinstance(body, str) and handler == "get_history" else body
            body = {"app_name": self.app, **body} if isinstance(body, dict) else body
        return await self.http.post(f"/Chat/{self.user}/{handler}", json=body, headers=headers)

    async def call(self, handler: str, body: object = None, **headers: str) -> Any:
        """POST to a handler that must succeed."""
        response = await self.send(handler, body, **headers)
        assert response.is_success, response.text
        return response.json() if response.content else None

    async def message(self, session: str, text: str, **more: Any) -> str:
        """Send a message and wait for the reply."""
        answer: str = await self.call("message", {"message": text, "session_id": session, **more})
        return answer

    async def texts(self, session: str) -> list[str]:
        """The texts in a session's history, in order."""
        events = await self.call("get_history", session)
        said = [event["content"]["parts"] for event in events if "content" in event]
        return [part["text"] for parts in said for part in parts if "text" in part]


async def until(condition: Callable[[], Awaitable[object]], seconds: float = 20) -> None:
    """Wait until `condition` returns something true."""
    async with asyncio.timeout(seconds):
        while not await condition():
            await asyncio.sleep(0.02)


def text_of(event: Json) -> str:
    """What an event says."""
    return "".join(part.get("text", "") for part in event.get("content", {}).get("parts", []))
