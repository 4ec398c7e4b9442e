"""Tools of every kind."""

import asyncio
import time
from datetime import timedelta
from typing import Any

from google.adk.agents.llm_agent import LlmAgent
from google.adk.agents.sequential_agent import SequentialAgent
from google.adk.events.event import Event
from google.adk.tools.base_tool import BaseTool
from google.adk.tools.exit_loop_tool import exit_loop
from google.adk.tools.function_tool import FunctionTool
from google.adk.tools.load_artifacts_tool import load_artifacts_tool
from google.adk.tools.long_running_tool import LongRunningFunctionTool
from google.adk.tools.tool_context import ToolContext
from google.genai import types
from restate.ext.adk import restate_context
from typing_extensions import override

from adk_chat import restate_tool
from tests.fidelity.run import executed
from tests.fidelity.scenario import Say, Scenario
from tests.fidelity.script import call, parts, script


async def slow(name: str) -> dict[str, str]:
    """Take a while."""
    await asyncio.sleep(0.05)
    executed("slow", name)
    return {"name": name}


async def nap() -> None:
    """Take a while, and be cancelled on the way."""
    await asyncio.sleep(0.05)


def blocking(name: str) -> dict[str, str]:
    """Take a while, in a plain function."""
    time.sleep(0.05)
    executed("blocking", name)
    return {"name": name}


async def broken() -> None:
    """Raise."""
    executed("broken")
    raise ValueError("this tool is broken")


async def text() -> str:
    """Return something that is not a dict."""
    executed("text")
    return "plain text"


async def nothing() -> None:
    """Return nothing."""
    executed("nothing")


async def write(key: str, value: str, tool_context: ToolContext) -> dict[str, Any]:
    """Write into the state."""
    executed("write", key)
    before = tool_context.state.get(key)
    tool_context.state[key] = value
    tool_context.state[f"user:{key}"] = value
    tool_context.state[f"app:{key}"] = value
    tool_context.state[f"temp:{key}"] = value
    return {"before": before}


async def save(name: str, tool_context: ToolContext) -> dict[str, Any]:
    """Save an artifact."""
    executed("save", name)
    version = await tool_context.save_artifact(name, types.Part(text=f"content of {name}"))
    return {"version": version, "all": await tool_context.list_artifacts()}


async def load(name: str, tool_context: ToolContext) -> dict[str, Any]:
    """Load an artifact."""
    executed("load", name)
    part = await tool_context.load_artifact(name)
    return {"text": part.text if part else None}


async def silent(tool_context: ToolContext) -> dict[str, str]:
    """Be the last word."""
    executed("silent")
    tool_context.actions.skip_summarization = True
    return {"said": "all"}


async def escalate(tool_context: ToolContext) -> dict[str, str]:
    """End the surrounding loop."""
    executed("escalate")
    tool_context.actions.escalate = True
    return {"escalated": "yes"}


async def begin(job: str) -> dict[str, str]:
    """Begin a job that takes days."""
    executed("begin", job)
    return {"status": "pending", "job": job}


async def begin_silently(job: str) -> None:
    """Begin a job and say nothing yet."""
    executed("begin_silently", job)


async def spend(amount: int) -> dict[str, int]:
    """Spend money."""
    executed("spend", amount)
    return {"spent": amount}


async def ask(amount: int, tool_context: ToolContext) -> dict[str, Any]:
    """Spend money, if it is much only once the user agrees."""
    executed("ask", amount)
    confirmation = tool_context.tool_confirmation
    if confirmation is None:
        tool_context.request_confirmation(hint="So much?", payload={"amount": amount})
        tool_context.actions.skip_summarization = True
        return {"status": "waiting"}
    return {"spent": amount if confirmation.confirmed else 0, "payload": confirmation.payload}


@restate_tool
async def with_timer(name: str) -> dict[str, str]:
    """Use Restate if it is there."""
    try:
        context = restate_context()
    except LookupError:
        executed("own step", name)
        return {"name": name}

    async def step() -> str:
        executed("own step", name)
        return name

    await context.sleep(timedelta(milliseconds=10))
    found = await context.run_typed("tool own step", step)
    return {"name": found}


class Lookup(BaseTool):
    """A tool that is a class of its own."""

    def __init__(self) -> None:
        super().__init__(name="lookup", description="Look something up.")

    @override
    def _get_declaration(self) -> types.FunctionDeclaration:
        schema = {"type": "object", "properties": {"key": {"type": "string"}}}
        return types.FunctionDeclaration(name=self.name, description=self.description, parameters_json_schema=schema)

    @override
    async def run_async(self, *, args: dict[str, Any], tool_context: ToolContext) -> Any:
        executed("lookup", args["key"])
        return {"found": args["key"]}


def agent(*answers: Any, tools: list[Any], **attributes: Any) -> LlmAgent:
    """An agent with tools."""
    return LlmAgent(name="agent", model=script(*answers), tools=tools, **attributes)


def last_call(name: str, events: list[Event]) -> types.FunctionCall:
    """The last call of a function."""
    calls = (call for event in reversed(events) for call in event.get_function_calls() if call.name == name)
    return next(calls)


def answering(name: str, **response: Any) -> Any:
    """An answer of the user to the last call of a function."""

    def made(events: list[Event]) -> list[types.Part]:
        asked = last_call(name, events)
        answer = types.FunctionResponse(id=asked.id, name=name, response=response)
        return [types.Part(function_response=answer)]

    return made


def confirm(confirmed: bool, **payload: Any) -> Say:
    """The user's answer to a request for confirmation."""
    response: dict[str, Any] = {"confirmed": confirmed, **({"payload": payload} if payload else {})}
    return Say(parts=answering("adk_request_confirmation", **response))


three = parts(call("slow", name="a"), call("slow", name="b"), call("slow", name="c"))
spending = parts(call("spend", amount=5))
confirmed_tool = [FunctionTool(spend, require_confirmation=True)]
much = FunctionTool(spend, require_confirmation=lambda amount: amount > 3)

SCENARIOS = [
    Scenario("three calls in one response", agent(three, "done", tools=[slow]), ["go", "again"]),
    Scenario(
        "plain functions",
        agent(parts(call("blocking", name="a"), call("blocking", name="b")), "done", tools=[blocking]),
    ),
    Scenario("calls in a row", agent(*(parts(call("slow", name=n)) for n in "ab"), "done", tools=[slow])),
    Scenario("text beside a call", agent(parts("let me see", call("slow", name="a")), "done", tools=[slow])),
    Scenario("a tool that raises", agent(parts(call("broken")), "never", tools=[broken]), ["go", "on"], fails=True),
    Scenario(
        "a tool that raises beside another",
        agent(parts(call("nap"), call("broken")), "never", tools=[nap, broken]),
        fails=True,
    ),
    Scenario("results that are no dict", agent(parts(call("text"), call("nothing")), "done", tools=[text, nothing])),
    Scenario("a name that the model made up", agent(parts(call("unheard")), "sorry", tools=[slow])),
    Scenario(
        "a made-up name beside a real one",
        agent(parts(call("unheard"), call("slow", name="a")), "sorry", tools=[slow]),
    ),
    Scenario("a call without its arguments", agent(parts(call("slow")), "sorry", tools=[slow])),
    Scenario(
        "state of all scopes",
        agent(parts(call("write", key="k", value="1")), parts(call("write", key="k", value="2")), "ok", tools=[write]),
        ["go", "again"],
    ),
    Scenario(
        "state from parallel calls",
        agent(parts(*(call("write", key=key, value=key) for key in "ab")), "done", tools=[write]),
    ),
    Scenario(
        "artifacts",
        agent(parts(call("save", name="a.txt")), parts(call("load", name="a.txt")), "done", tools=[save, load]),
    ),
    Scenario(
        "artifacts for the model",
        agent(
            parts(call("save", name="a.txt")),
            parts(call("load_artifacts", artifact_names=["a.txt"])),
            "done",
            tools=[save, load_artifacts_tool],
        ),
    ),
    Scenario("skip_summarization", agent(parts(call("silent")), "never", tools=[silent]), ["go", "again"]),
    Scenario("escalate without a loop", agent(parts(call("escalate")), "after", tools=[escalate])),
    Scenario("exit_loop without a loop", agent(parts(call("exit_loop")), "after", tools=[exit_loop])),
    Scenario("a tool of a class of its own", agent(parts(call("lookup", key="k")), "done", tools=[Lookup()])),
    Scenario("a tool that uses Restate itself", agent(parts(call("with_timer", name="t")), "done", tools=[with_timer])),
    Scenario(
        "tools that use Restate in parallel",
        agent(
            parts(call("with_timer", name="t"), call("slow", name="a"), call("with_timer", name="u")),
            "done",
            tools=[with_timer, slow],
        ),
    ),
    Scenario(
        "a long-running tool",
        agent(parts(call("begin", job="j")), "begun", "finished", tools=[LongRunningFunctionTool(begin)]),
        ["go", Say(parts=answering("begin", status="done"))],
    ),
    Scenario(
        "a long-running tool that says nothing yet",
        agent(parts(call("begin_silently", job="j")), "finished", tools=[LongRunningFunctionTool(begin_silently)]),
        ["go", Say(parts=answering("begin_silently", status="done"))],
    ),
    Scenario("a confirmation, approved", agent(spending, "done", tools=confirmed_tool), ["go", confirm(True)]),
    Scenario("a confirmation, refused", agent(spending, "pity", tools=confirmed_tool), ["go", confirm(False)]),
    Scenario("a confirmation that depends, needed", agent(spending, "done", tools=[much]), ["go", confirm(True)]),
    Scenario("a confirmation that depends, not needed", agent(parts(call("spend", amount=1)), "done", tools=[much])),
    Scenario(
        "a confirmation that the tool asks for",
        agent(parts(call("ask", amount=9)), "done", tools=[ask]),
        ["go", confirm(True, amount=4)],
    ),
    Scenario(
        "two confirmations at once",
        agent(parts(call("spend", amount=1), call("spend", amount=2)), "done", tools=confirmed_tool),
        ["go", confirm(True)],
    ),
    Scenario(
        "an escalating tool ends a sequence",
        SequentialAgent(
            name="sequence",
            sub_agents=[
                LlmAgent(name="one", model=script(parts(call("escalate")), "one", name="m1"), tools=[escalate]),
                LlmAgent(name="two", model=script("two", name="m2")),
            ],
        ),
    ),
]
