"""An agent for tests that kill processes: it waits for files, and records in a file what it did."""

import asyncio
import os
import signal
from pathlib import Path
from typing import Any

from google.adk.agents.callback_context import CallbackContext
from google.adk.agents.llm_agent import LlmAgent
from google.adk.apps.app import App
from google.adk.models.llm_request import LlmRequest
from google.adk.models.llm_response import LlmResponse
from google.adk.tools.base_tool import BaseTool
from google.adk.tools.function_tool import FunctionTool
from google.adk.tools.tool_context import ToolContext

from tests.support import ScriptedModel, function_call, last_text, obey, pay, reply

HERE = Path(os.environ.get("CRASH_DIR", "."))


def log(line: str) -> None:
    """Record a line where a killed process cannot take it back."""
    with (HERE / "log").open("a") as file:
        file.write(line + "\n")


async def gate(name: str) -> None:
    """Wait until the test has created a file of that name."""
    while not (HERE / name).exists():
        await asyncio.sleep(0.01)


async def script(request: LlmRequest) -> list[LlmResponse]:
    """`model X` waits for X in the first model call, `tool X` in the tool, `between X` dies between the two.

    `who` is answered with this process's id. What needs neither is done as by the test app's model.
    """
    asked = last_text(request)
    verb, _, name = asked.partition(" ")
    if verb in ("call", "pay", "paint"):
        return await obey(request)
    log(f"begin model {asked}")
    if verb == "model":
        await gate(name)
    said = str(os.getpid()) if verb == "who" else f"echo {asked}"
    answer = reply(function_call("work", name=asked)) if verb in ("tool", "between") else reply(said)
    log(f"end model {asked}")
    return [answer]


async def work(name: str) -> dict[str, str]:
    """A tool that waits, if the message says so."""
    log(f"begin tool {name}")
    verb, _, file = name.partition(" ")
    if verb == "tool":
        await gate(file)
    log(f"end tool {name}")
    return {"worked": name}


async def die_once(tool: BaseTool, args: dict[str, Any], tool_context: ToolContext) -> None:
    """Kill this process between the model call and the tool call, the first time."""
    name = str(args.get("name"))
    marker = HERE / name.replace(" ", "-")
    if name.startswith("between") and not marker.exists():
        marker.touch()
        os.kill(os.getpid(), signal.SIGKILL)


async def look(callback_context: CallbackContext, llm_request: LlmRequest) -> None:
    """A callback that only the second version has; it needs nobody."""
    callback_context.state["looked"] = True


async def unused() -> None:
    """A tool that only the second version has."""


PAY = FunctionTool(pay, require_confirmation=True)
SECOND = os.environ.get("CRASH_VERSION") == "2"
app = App(
    name="crash",
    root_agent=LlmAgent(
        name="crash",
        model=ScriptedModel(model="newer" if SECOND else "scripted", script=script, gate=gate),
        instruction="Be brief." if SECOND else "",
        tools=[unused, work, PAY] if SECOND else [work, PAY],
        before_model_callback=look if SECOND else None,
        before_tool_callback=die_once,
    ),
)
