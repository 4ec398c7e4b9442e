"""An agent for the tests with real clients. Its model waits at `@name` for a file of that name."""

import asyncio
import os
from collections.abc import AsyncGenerator
from pathlib import Path

from google.adk.agents.llm_agent import LlmAgent
from google.adk.apps.app import App
from google.adk.models.llm_request import LlmRequest
from google.adk.models.llm_response import LlmResponse
from google.adk.tools.function_tool import FunctionTool

from tests.support import ScriptedModel, last_text, note, obey, pay, speak

HERE = Path(os.environ.get("AGUI_DIR", "."))


async def gate(name: str) -> None:
    """Wait until the test has created a file of that name."""
    while not (HERE / name).exists():
        await asyncio.sleep(0.01)


class PidModel(ScriptedModel):
    """It says its process's id for `$pid`, so that another process says something else."""

    async def generate_content_async(
        self, llm_request: LlmRequest, stream: bool = False
    ) -> AsyncGenerator[LlmResponse, None]:
        asked = last_text(llm_request)
        if not asked.startswith("stream"):
            async for response in super().generate_content_async(llm_request, stream):
                yield response
            return
        async for response in speak(asked.replace("$pid", str(os.getpid())).split()[1:], stream, gate):
            yield response


app = App(
    name="painter",
    root_agent=LlmAgent(
        name="painter", model=PidModel(script=obey), tools=[note, FunctionTool(pay, require_confirmation=True)]
    ),
)
"""An agent that takes notes, and pays if somebody agrees. Its frontend brings a tool that paints."""
