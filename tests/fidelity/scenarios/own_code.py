"""Users' own code around ADK's constructs: their own asyncio, between branches, in callbacks and in agents."""

import asyncio
import socketserver
import threading
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextvars import ContextVar
from pathlib import Path
from typing import Any

from google.adk.agents.base_agent import BaseAgent
from google.adk.agents.callback_context import CallbackContext
from google.adk.agents.invocation_context import InvocationContext
from google.adk.agents.llm_agent import LlmAgent
from google.adk.agents.parallel_agent import ParallelAgent
from google.adk.agents.sequential_agent import SequentialAgent
from google.adk.events.event import Event
from google.adk.models.llm_request import LlmRequest
from google.adk.models.llm_response import LlmResponse
from google.adk.tools.base_tool import BaseTool
from google.adk.tools.tool_context import ToolContext
from google.genai import types
from typing_extensions import override

from tests.fidelity.run import executed
from tests.fidelity.scenario import Scenario
from tests.fidelity.scenarios.tools import with_timer
from tests.fidelity.script import call, parts, script

_shared: dict[str, Any] = {}
"""What branches share, by invocation. Like globals of an agent it outlives an attempt."""


def shared(context: CallbackContext, make: Callable[[], Any]) -> Any:
    """The object that the branches of an invocation share."""
    return _shared.setdefault(context.invocation_id, make())


Callback = Callable[[CallbackContext, LlmRequest], Awaitable[None]]


def branches(before: Callback, after: Any = None, names: tuple[str, ...] = ("left", "right")) -> ParallelAgent:
    """Parallel agents with these callbacks around their models."""
    return ParallelAgent(
        name="parallel",
        sub_agents=[
            LlmAgent(
                name=name,
                model=script("done", "again", name=f"model_of_{name}", seconds=0.01),
                before_model_callback=before,
                after_model_callback=after,
            )
            for name in names
        ],
    )


def released(context: CallbackContext, _: LlmResponse) -> None:
    """Release what was taken before the model call."""
    _shared[context.invocation_id].release()


async def locked(callback_context: CallbackContext, llm_request: LlmRequest) -> None:
    """Take a lock that is held during the model call."""
    await shared(callback_context, asyncio.Lock).acquire()


async def limited(callback_context: CallbackContext, llm_request: LlmRequest) -> None:
    """Let two call at a time."""
    await shared(callback_context, lambda: asyncio.Semaphore(2)).acquire()


async def told(callback_context: CallbackContext, llm_request: LlmRequest) -> None:
    """Wait for the branch that starts last."""
    event = shared(callback_context, asyncio.Event)
    if callback_context.agent_name == "right":
        event.set()
    await event.wait()


async def handed(callback_context: CallbackContext, llm_request: LlmRequest) -> None:
    """Receive something from another branch."""
    queue = shared(callback_context, asyncio.Queue)
    if callback_context.agent_name == "right":
        queue.put_nowait("hello")
    if callback_context.agent_name == "left":
        callback_context.state["heard"] = await queue.get()


async def notified(callback_context: CallbackContext, llm_request: LlmRequest) -> None:
    """Wait for a condition."""
    condition = shared(callback_context, asyncio.Condition)
    async with condition:
        condition.right = getattr(condition, "right", False) or callback_context.agent_name == "right"
        condition.notify_all()
        await condition.wait_for(lambda: condition.right)


async def awaited(callback_context: CallbackContext, llm_request: LlmRequest) -> None:
    """Wait for a future."""
    future = shared(callback_context, lambda: asyncio.get_running_loop().create_future())
    if callback_context.agent_name == "right" and not future.done():
        future.set_result("right was here")
    callback_context.state[callback_context.agent_name] = await asyncio.shield(future)


async def in_a_thread(callback_context: CallbackContext, llm_request: LlmRequest) -> None:
    """Read a file without blocking others."""
    text = await asyncio.to_thread(Path(__file__).read_text)
    callback_context.state[callback_context.agent_name] = text.partition("\n")[0]


class _Echo(socketserver.StreamRequestHandler):
    @override
    def handle(self) -> None:
        self.wfile.write(b"echo " + self.rfile.readline())


def _server() -> int:
    server = socketserver.ThreadingTCPServer(("127.0.0.1", 0), _Echo)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return int(server.server_address[1])


_PORT = _server()


async def over_a_network(callback_context: CallbackContext, llm_request: LlmRequest) -> None:
    """Ask another program."""
    reader, writer = await asyncio.open_connection("127.0.0.1", _PORT)
    writer.write(callback_context.agent_name.encode() + b"\n")
    callback_context.state[callback_context.agent_name] = (await reader.readline()).decode().strip()
    writer.close()


async def _events(agent: BaseAgent, ctx: InvocationContext) -> list[Event]:
    return [event async for event in agent.run_async(ctx)]


class Gathering(BaseAgent):
    """Runs its sub-agents at once, and yields their events in their order."""

    @override
    async def _run_async_impl(self, ctx: InvocationContext) -> AsyncGenerator[Event, None]:
        for events in await asyncio.gather(*(_events(agent, ctx) for agent in self.sub_agents)):
            for event in events:
                yield event


class Queueing(BaseAgent):
    """Runs its sub-agents at once, each in a task that puts its events into a queue."""

    @override
    async def _run_async_impl(self, ctx: InvocationContext) -> AsyncGenerator[Event, None]:
        queue: asyncio.Queue[Event | None] = asyncio.Queue()

        async def put(agent: BaseAgent) -> None:
            try:
                async for event in agent.run_async(ctx):
                    await queue.put(event)
            finally:
                await queue.put(None)

        tasks = [asyncio.create_task(put(agent)) for agent in self.sub_agents]
        left = len(tasks)
        while left:
            event = await queue.get()
            if event is None:
                left -= 1
            else:
                yield event
        await asyncio.gather(*tasks)


class Merging(BaseAgent):
    """Runs its sub-agents at once, with a new task for each event."""

    @override
    async def _run_async_impl(self, ctx: InvocationContext) -> AsyncGenerator[Event, None]:
        streams = {agent.run_async(ctx): agent for agent in self.sub_agents}
        tasks = {asyncio.ensure_future(anext(stream)): stream for stream in streams}
        while tasks:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                stream = tasks.pop(task)
                try:
                    yield task.result()
                except StopAsyncIteration:
                    continue
                tasks[asyncio.ensure_future(anext(stream))] = stream


class Hurrying(BaseAgent):
    """Gives its first sub-agent little time, and then asks the second."""

    by_wait_for: bool = False

    @override
    async def _run_async_impl(self, ctx: InvocationContext) -> AsyncGenerator[Event, None]:
        first, second = self.sub_agents
        try:
            if self.by_wait_for:
                events = await asyncio.wait_for(_events(first, ctx), 0.1)
            else:
                async with asyncio.timeout(0.1):
                    events = await _events(first, ctx)
        except TimeoutError:
            events = await _events(second, ctx)
        for event in events:
            yield event


class Working(BaseAgent):
    """Does work that takes a while and that nobody knows of."""

    @override
    async def _run_async_impl(self, ctx: InvocationContext) -> AsyncGenerator[Event, None]:
        await asyncio.sleep(0.15)
        content = types.ModelContent("done")
        yield Event(author=self.name, invocation_id=ctx.invocation_id, branch=ctx.branch, content=content)


def hurrying(name: str, **how: bool) -> Hurrying:
    """One whose first agent takes too long."""
    never = script("never", "never", name="model_of_slow", seconds=60)
    never.counted = False
    slow = LlmAgent(name="slow", model=never)
    return Hurrying(name=name, sub_agents=[slow, singer("quick", 0)], **how)


def singer(name: str, seconds: float) -> LlmAgent:
    """An agent whose model takes so long."""
    return LlmAgent(name=name, model=script("la", "lala", name=f"model_of_{name}", seconds=seconds))


def singers() -> list[BaseAgent]:
    """Three agents that end in the opposite order."""
    return [singer("tenor", 0.06), singer("alto", 0.03), singer("bass", 0)]


async def found(callback_context: CallbackContext) -> types.Content | None:
    """Answer with what was made before, if anything."""
    part = await callback_context.load_artifact("report.txt")
    return None if part is None else types.Content(role="model", parts=[types.Part(text="the report")])


async def kept(callback_context: CallbackContext) -> None:
    """Keep what was made."""
    await callback_context.save_artifact("report.txt", types.Part(text="the report"))


async def left(callback_context: CallbackContext) -> None:
    """Save several files at once."""
    saved = (callback_context.save_artifact(f"{name}.txt", types.Part(text=name)) for name in ("one", "two", "three"))
    callback_context.state["saved"] = len(await asyncio.gather(*saved))


cost: ContextVar[int] = ContextVar("cost", default=0)
"""What tools record, as tracing and cost libraries do."""


def priced(price: int) -> dict[str, int]:
    """Cost something, in a plain function."""
    executed("priced", str(price))
    cost.set(cost.get() + price)
    return {"paid": price}


async def dear(price: int) -> dict[str, int]:
    """Cost something, after a while."""
    await asyncio.sleep(0.01)
    executed("dear", str(price))
    cost.set(cost.get() + price)
    return {"paid": price}


async def shop() -> None:
    """Cost something, and fail."""
    executed("shop")
    cost.set(100)
    raise ValueError("sold out")


def with_cost(tool: BaseTool, args: dict[str, Any], tool_context: ToolContext, tool_response: Any) -> Any:
    """The cost of the call so far."""
    return {**tool_response, "cost": cost.get()}


def with_cost_of_failure(tool: BaseTool, args: dict[str, Any], tool_context: ToolContext, error: Exception) -> Any:
    """The cost of the call, although it failed."""
    return {"error": str(error), "cost": cost.get()}


def priced_agent(*answers: Any) -> LlmAgent:
    """An agent of which everything costs something."""
    return LlmAgent(
        name="agent",
        model=script(*answers),
        tools=[priced, dear, shop],
        after_tool_callback=with_cost,
        on_tool_error_callback=with_cost_of_failure,
    )


SCENARIOS = [
    Scenario(
        "context variables that tools set",
        priced_agent(
            parts(call("priced", price=5)),
            parts(call("priced", price=1), call("dear", price=2), call("shop")),
            "done",
        ),
    ),
    Scenario("a lock that is held while a model is asked", branches(locked, released), parallel=True),
    Scenario("a limit on calls at once", branches(limited, released, ("left", "middle", "right")), parallel=True),
    Scenario("an event that another branch sets", branches(told), parallel=True),
    Scenario("a queue between branches", branches(handed), parallel=True),
    Scenario("a condition", branches(notified), parallel=True),
    Scenario("a future", branches(awaited), parallel=True),
    Scenario("a thread in a callback", branches(in_a_thread), parallel=True),
    Scenario("a network in a callback", branches(over_a_network), parallel=True),
    Scenario(
        "work of its own beside a timer of Restate",
        ParallelAgent(
            name="parallel",
            sub_agents=[
                Working(name="working"),
                LlmAgent(name="timed", model=script(parts(call("with_timer", name="x")), "done"), tools=[with_timer]),
            ],
        ),
        parallel=True,
    ),
    Scenario("sub-agents that are gathered", Gathering(name="gathering", sub_agents=singers()), parallel=True),
    Scenario(
        "sub-agents that fill a queue", Queueing(name="queueing", sub_agents=singers()), parallel=True, one_branch=True
    ),
    Scenario(
        "sub-agents that are merged as they speak",
        Merging(name="merging", sub_agents=singers()),
        parallel=True,
        one_branch=True,
    ),
    Scenario("a sub-agent within asyncio.timeout", hurrying("hurrying")),
    Scenario("a sub-agent within asyncio.wait_for", hurrying("hurrying", by_wait_for=True)),
    Scenario(
        "artifacts that are looked for before they are made",
        SequentialAgent(
            name="sequence",
            sub_agents=[
                LlmAgent(
                    name="first",
                    model=script("the report", "the report"),
                    before_agent_callback=found,
                    after_agent_callback=kept,
                ),
                LlmAgent(name="second", model=script("read", "read", name="model_of_second")),
            ],
        ),
    ),
    Scenario(
        "artifacts that are saved at once",
        LlmAgent(name="saver", model=script("done"), after_agent_callback=left),
    ),
]
