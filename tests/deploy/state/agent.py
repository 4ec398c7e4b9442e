"""The agent of the state directory: what users say is what it does. It imports nothing of the tests."""

import os
import time
from collections.abc import AsyncGenerator
from pathlib import Path

from google.adk.agents.llm_agent import LlmAgent
from google.adk.models.base_llm import BaseLlm
from google.adk.models.llm_request import LlmRequest
from google.adk.models.llm_response import LlmResponse
from google.adk.tools.tool_context import ToolContext
from google.genai import types

HERE = Path(os.environ.get("STATE_DIR", "."))


def step(number: int, tool_context: ToolContext) -> str:
    """Work; the second step waits for the file `go`."""
    while number == 2 and not (HERE / "go").exists():
        time.sleep(0.05)
    with (HERE / "steps").open("a") as steps:
        steps.write(f"{tool_context.session.id} {number}\n")
    tool_context.state[f"step-{number}"] = "done"
    return f"done {number}"


class Model(BaseLlm):
    """Two steps for `work`, an error for `fail`, and otherwise how many messages it has seen."""

    model: str = "obedient"

    async def generate_content_async(
        self, llm_request: LlmRequest, stream: bool = False
    ) -> AsyncGenerator[LlmResponse, None]:
        """Answer."""
        parts = [part for content in llm_request.contents for part in content.parts or []]
        said = [part.text for part in parts if part.text]
        done = 0 if parts[-1].text else int(str((parts[-1].function_response or types.FunctionResponse()).response)[-3])
        if said[-1] == "fail":
            raise ValueError("as asked")
        if said[-1] == "work" and done < 2:
            call = types.FunctionCall(name="step", args={"number": done + 1})
            part = types.Part(function_call=call)
        else:
            messages = [c for c in llm_request.contents if c.role == "user" and c.parts and c.parts[0].text]
            part = types.Part(text=f"{said[-1]}: message {len(messages)}")
        yield LlmResponse(content=types.Content(role="model", parts=[part]))


root_agent = LlmAgent(name="state", model=Model(), tools=[step])
