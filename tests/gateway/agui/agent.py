"""An agent for the tests with real clients. Its model waits at `@name` for a file of that name."""

import asyncio
import os
from pathlib import Path

from google.adk.agents.llm_agent import LlmAgent
from google.adk.apps.app import App
from google.adk.tools.base_tool import BaseTool
from google.adk.tools.function_tool import FunctionTool
from google.adk.tools.long_running_tool import LongRunningFunctionTool

from tests.support import ScriptedModel, note, obey, pay

HERE = Path(os.environ.get("AGUI_DIR", "."))


async def gate(name: str) -> None:
    """Wait until the test has created a file of that name."""
    while not (HERE / name).exists():
        await asyncio.sleep(0.01)


def painter(*tools: BaseTool) -> LlmAgent:
    """An agent that takes notes and pays, if somebody agrees."""
    return LlmAgent(
        name="painter",
        model=ScriptedModel(script=obey, gate=gate),
        tools=[note, FunctionTool(pay, require_confirmation=True), *tools],
    )


def paint(color: str) -> None:
    """Paints the page."""


app = App(name="painter", root_agent=painter())
"""The agent, whose frontend brings the tool `paint`."""
with_paint = App(name="with_paint", root_agent=painter(LongRunningFunctionTool(paint)))
"""The same with a tool of its own instead, for clients of ADK's API."""
