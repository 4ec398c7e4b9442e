"""Values that are not plain JSON: errors, results, and what services hold."""

import asyncio
import collections
import dataclasses
import enum
import subprocess
import uuid
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import httpx
import pydantic
from google.adk.agents.callback_context import CallbackContext
from google.adk.agents.invocation_context import InvocationContext
from google.adk.agents.llm_agent import LlmAgent
from google.adk.apps.app import App
from google.adk.code_executors.base_code_executor import BaseCodeExecutor
from google.adk.code_executors.code_execution_utils import CodeExecutionInput, CodeExecutionResult, File
from google.adk.events.event import Event
from google.adk.events.event_actions import EventActions
from google.adk.models.llm_request import LlmRequest
from google.adk.models.llm_response import LlmResponse
from google.adk.plugins.base_plugin import BasePlugin
from google.adk.tools.agent_tool import AgentTool
from google.adk.tools.base_tool import BaseTool
from google.adk.tools.tool_context import ToolContext
from google.genai import types
from typing_extensions import override

from tests.fidelity.run import called, executed
from tests.fidelity.scenario import Scenario
from tests.fidelity.scenarios.tools import load, save
from tests.fidelity.script import call, parts, say, script


class SlottedError(Exception):
    """Keeps its code in a slot, and its arguments are not its text."""

    __slots__ = ("number",)

    def __init__(self, number: int) -> None:
        super().__init__(f"slotted {number}")
        self.number = number


async def broken(how: str) -> None:
    """Raise."""
    executed("broken", how)
    if how == "file":
        await asyncio.to_thread(Path("/nowhere/at/all").read_bytes)
    if how == "status":
        httpx.Response(503, request=httpx.Request("GET", "http://x/")).raise_for_status()
    if how == "group":
        raise ExceptionGroup("two", [ValueError("one"), KeyError("two")])
    if how == "text":
        b"\xff".decode()
    if how == "timeout":
        raise subprocess.TimeoutExpired(["sleep"], 3)
    if how == "cause":
        raise RuntimeError("wrapped") from ValueError("the cause")
    raise SlottedError(7)


def looked_at(tool: BaseTool, args: dict[str, Any], tool_context: ToolContext, error: Exception) -> dict[str, Any]:
    """Report what can be seen of an error."""
    seen: dict[str, Any] = {"is": type(error).__name__, "says": str(error), "cause": repr(error.__cause__)}
    if isinstance(error, OSError):
        seen |= {"errno": error.errno, "file": error.filename}
    if isinstance(error, httpx.HTTPStatusError):
        seen |= {"status": error.response.status_code, "asked": str(error.request.url)}
    if isinstance(error, ExceptionGroup):
        seen |= {"of": [repr(one) for one in error.exceptions]}
    if isinstance(error, UnicodeDecodeError):
        seen |= {"at": error.start, "in": error.encoding}
    if isinstance(error, subprocess.TimeoutExpired):
        seen |= {"after": error.timeout}
    if isinstance(error, SlottedError):
        seen |= {"number": error.number}
    return seen


def _put(line: str, tool_context: ToolContext) -> list[str]:
    executed(TOOLS[line], line)
    tool_context.state["lines"] = [*tool_context.state.get("lines", []), line]
    return list(tool_context.state["lines"])


def put(line: str, tool_context: ToolContext) -> list[str]:
    """Add a line, in a plain function."""
    return _put(line, tool_context)


async def hand(line: str, tool_context: ToolContext) -> list[str]:
    """The same in an async function that waits for nothing."""
    return _put(line, tool_context)


async def post(line: str, tool_context: ToolContext) -> list[str]:
    """The same in one that waits."""
    await asyncio.sleep(0.1 if line == "e" else 0.02)
    return _put(line, tool_context)


def change(lines: list[str], tool_context: ToolContext) -> str:
    """Change what callbacks share."""
    executed("change")
    lines.append("changed")
    tool_context.session.state["past the delta"] = "set"
    return "done"


def seen(tool: BaseTool, args: dict[str, Any], tool_context: ToolContext, **more: Any) -> None:
    """Record what a callback around a tool sees."""
    when = "after" if more else "before"
    state = {key: tool_context.state.get(key) for key in ("lines", "past the delta")}
    called(f"{when} {tool.name} {args} {state}")


class Level(enum.IntEnum):
    """An integer enum."""

    HIGH = 3


class Row(pydantic.BaseModel):
    """A model with an untyped field."""

    value: Any = None


Place = collections.namedtuple("Place", "x y")


async def odd(kind: str) -> Any:
    """Return something."""
    executed("odd", kind)

    class Local(pydantic.BaseModel):
        x: int = 5

    class Text(str):
        __slots__ = ()

    return {
        "collections": {"many": collections.Counter("hello"), "of": collections.defaultdict(list, a=[1])},
        "place": Place(1, Level.HIGH),
        "local": Local(),
        "made": pydantic.create_model("Made", x=(int, 1))(x=2),
        "any": {"row": Row(value=date(2026, 1, 2)), "in": Row(value=Row(value={1, 2}))},
        "text": {"text": Text("sub"), "number": 1 + 2j, "bytes": bytearray(b"x")},
    }[kind]


@dataclasses.dataclass
class Cost:
    """An object that a model adds to its answer."""

    cents: int


class Priced(LlmResponse):
    """A custom response class."""

    price: Any = None


def answer(text: str) -> types.Content:
    """An answer of text."""
    return types.Content(role="model", parts=[types.Part(text=text)])


def noted(callback_context: CallbackContext, llm_response: LlmResponse) -> None:
    """Record what is beside the answer."""
    if llm_response.custom_metadata:
        cost, took = llm_response.custom_metadata["cost"], llm_response.custom_metadata["took"]
        callback_context.state["cost"] = f"{cost.cents} {took.total_seconds()}"
        llm_response.custom_metadata = None
    if isinstance(llm_response, Priced):
        callback_context.state["price"] = llm_response.price.cents


_ids: dict[str, set[tuple[str, ...]]] = {}
"""The ids seen of an invocation, in any attempt."""


def identified(callback_context: CallbackContext) -> None:
    """Generate an id."""
    callback_context.state["request"] = str(uuid.uuid4())


class Tracing(BasePlugin):
    """Generates an id where only the invocation's context exists."""

    @override
    async def before_run_callback(self, *, invocation_context: InvocationContext) -> None:
        invocation_context.session.state["trace"] = str(uuid.uuid4())


def timed(callback_context: CallbackContext, llm_request: LlmRequest) -> None:
    """Take the time, once."""
    if not callback_context.state.get("at"):
        callback_context.state.update({"at": str(uuid.uuid4())})


def look(tool_context: ToolContext) -> str:
    """Return them."""
    executed("look")
    state = tool_context.state
    _ids.setdefault(tool_context.invocation_id, set()).add((state["request"], state["at"], state["trace"]))
    return "seen"


def told_apart(callback_context: CallbackContext) -> None:
    """Report how many different ones were seen."""
    state = callback_context.state
    seen = _ids[callback_context.invocation_id]
    state["different"] = len(seen | {(state["request"], state["at"], state["trace"])})
    state["request"] = state["at"] = None


class Interpreter(BaseCodeExecutor):
    """Runs nothing, and counts."""

    @override
    def execute_code(
        self, invocation_context: InvocationContext, code_execution_input: CodeExecutionInput
    ) -> CodeExecutionResult:
        executed("code", code_execution_input.code)
        file = File(name="plot.txt", content=b"\xff", mime_type="image/png")
        return CodeExecutionResult(stdout="done", output_files=[file])


async def note(text: str, tool_context: ToolContext) -> str:
    """Append an event to the session."""
    executed("note", text)
    await _append(tool_context.get_invocation_context(), text)
    return str(tool_context.state["note"])


async def noting(callback_context: CallbackContext) -> None:
    """The same in a callback."""
    await _append(callback_context.get_invocation_context(), "of a callback")


async def _append(invocation: InvocationContext, text: str) -> None:
    actions = EventActions(state_delta={"note": text})
    event = Event(invocation_id=invocation.invocation_id, author="notes", actions=actions)
    await invocation.session_service.append_event(invocation.session, event)


async def counted(callback_context: CallbackContext) -> None:
    """Record which artifacts exist, and what is refused."""
    names = await callback_context.list_artifacts()
    found = [name for name in names if await callback_context.load_artifact(name) is not None]
    memories = await callback_context.search_memory("umbrella")
    callback_context.state["before"] = [*found, len(memories.memories)]
    try:
        await callback_context.save_artifact("nothing.bin", types.Part())
    except ValueError as error:
        callback_context.state["refused"] = type(error).__name__


async def kept(callback_context: CallbackContext) -> None:
    """Keep the session in memory, and an artifact."""
    await callback_context.add_session_to_memory()
    await callback_context.save_artifact("signature.txt", types.Part(text="me"))


painter = LlmAgent(
    name="painter",
    model=script(parts(call("save", name="picture.txt")), "painted", name="model_of_painter"),
    tools=[save],
    after_agent_callback=kept,
)
TOOLS = {"a": "put", "b": "hand", "c": "put", "d": "hand", "e": "post", "f": "post"}
ODD = ("collections", "place", "local", "made", "any", "text")
BROKEN = ("file", "status", "group", "text", "timeout", "cause", "slots")

SCENARIOS = [
    Scenario(
        "errors that a callback looks at",
        LlmAgent(
            name="agent",
            model=script(parts(*(call("broken", how=how) for how in BROKEN)), "done"),
            tools=[broken],
            on_tool_error_callback=looked_at,
        ),
    ),
    Scenario(
        "calls that depend on their order",
        LlmAgent(
            name="agent",
            model=script(parts(*(call(name, line=line) for line, name in TOOLS.items())), "done"),
            tools=[put, hand, post],
            before_tool_callback=seen,
            after_tool_callback=seen,
        ),
    ),
    Scenario(
        "ids that callbacks and plugins make up",
        App(
            name="ids_that_callbacks_and_plugins_make_up",
            root_agent=LlmAgent(
                name="agent",
                model=script(parts(call("look")), parts(call("look")), "done", parts(call("look")), "done"),
                instruction="The request is {request}, of {trace}.",
                tools=[look],
                before_agent_callback=identified,
                before_model_callback=timed,
                after_agent_callback=told_apart,
            ),
            plugins=[Tracing(name="tracing")],
        ),
    ),
    Scenario(
        "events that code appends by itself",
        LlmAgent(
            name="agent",
            model=script(parts(call("note", text="one")), parts(call("note", text="two")), "done"),
            instruction="The note is {note}.",
            tools=[note],
            before_agent_callback=noting,
        ),
    ),
    Scenario(
        "code that a code executor runs",
        LlmAgent(
            name="agent",
            model=script("```python\n1 + 1\n```", "```python\n1 + 2\n```", "done"),
            code_executor=Interpreter(),
        ),
    ),
    Scenario(
        "what a tool changes in place",
        LlmAgent(
            name="agent",
            model=script(parts(call("change", lines=["a"])), parts(call("change", lines=["b"])), "done"),
            instruction="{past the delta?}",
            tools=[change],
            before_tool_callback=seen,
            after_tool_callback=seen,
        ),
    ),
    Scenario(
        "results that JSON does not hold",
        LlmAgent(name="agent", model=script(parts(*(call("odd", kind=kind) for kind in ODD)), "done"), tools=[odd]),
    ),
    Scenario(
        "what a model puts beside its answer",
        LlmAgent(
            name="agent",
            model=script(
                LlmResponse(content=answer("dear"), custom_metadata={"cost": Cost(7), "took": timedelta(seconds=2)}),
                Priced(content=answer("dearer"), price=Cost(9)),
                say("plain", custom_metadata={"cost": Cost(1), "took": timedelta(seconds=1)}),
            ),
            after_model_callback=noted,
        ),
        ["one", "two"],
    ),
    Scenario(
        "what services hold before a tool changes it",
        LlmAgent(
            name="agent",
            model=script(parts(call("save", name="a.txt")), parts(call("load", name="a.txt")), "my umbrella is red"),
            tools=[save, load],
            before_agent_callback=counted,
            after_agent_callback=kept,
        ),
        ["go", "again"],
    ),
    Scenario(
        "artifacts of an agent as a tool",
        LlmAgent(
            name="agent",
            model=script(parts(call("painter", request="paint")), "here"),
            tools=[AgentTool(painter)],
        ),
    ),
]
