"""A program written for `restate.ext.adk`, with only the import changed."""

from typing import Any

import restate
from google.adk import Runner
from google.adk.agents._streaming_mode import StreamingMode
from google.adk.agents.live_request_queue import LiveRequestQueue
from google.adk.agents.llm_agent import LlmAgent
from google.adk.agents.run_config import RunConfig
from google.adk.apps import App
from google.adk.tools.tool_context import ToolContext
from google.genai.types import Content, Part
from restate.ext.adk import restate_object_context

from adk_chat import RestatePlugin, RestateSessionService
from tests.support import ScriptedModel, calls, obey


async def note(text: str, tool_context: ToolContext) -> dict[str, Any]:
    """Write something down in a step of its own."""

    async def write() -> str:
        calls[f"tool: {text}"] += 1
        return text

    noted = await restate_object_context().run_typed("write", write)
    tool_context.state[f"note {text}"] = True
    return {"noted": noted}


agent = LlmAgent(name="program", model=ScriptedModel(script=obey), tools=[note])
app = App(name="program", root_agent=agent, plugins=[RestatePlugin()])
runner = Runner(app=app, session_service=RestateSessionService())

program = restate.VirtualObject("Program")


@program.handler()
async def run(ctx: restate.ObjectContext, message: str) -> str | None:
    """Send a message to the agent. The first one creates the session."""
    final_response = None
    async for event in runner.run_async(
        user_id=ctx.key(), session_id="session", new_message=Content(role="user", parts=[Part.from_text(text=message)])
    ):
        if event.is_final_response() and event.content and event.content.parts and event.content.parts[0].text:
            final_response = event.content.parts[0].text
    return final_response


@program.handler()
async def stream(ctx: restate.ObjectContext, message: str) -> list[dict[str, Any]]:
    """Send a message with streaming. Returns all events."""
    events = runner.run_async(
        user_id=ctx.key(),
        session_id="session",
        new_message=Content(role="user", parts=[Part.from_text(text=message)]),
        run_config=RunConfig(streaming_mode=StreamingMode.SSE),
    )
    return [event.model_dump(mode="json", by_alias=True, exclude_none=True) async for event in events]


@program.handler()
async def talk(ctx: restate.ObjectContext, message: str) -> None:
    """Begin a live conversation."""
    async for _ in runner.run_live(user_id=ctx.key(), session_id="session", live_request_queue=LiveRequestQueue()):
        pass


programs: list[restate.VirtualObject] = [program]
