"""The default assistant: a few small tools that show what the service does. It also works under `adk run`."""

import asyncio
import os
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Any
from zoneinfo import ZoneInfo, available_timezones

from google.adk.agents.llm_agent import LlmAgent
from google.adk.apps.app import App
from google.adk.tools.tool_context import ToolContext
from restate.extensions import current_context

from adk_chat.agents.demo_model import NAME as DEMO
from adk_chat.agents.demo_model import DemoModel
from adk_chat.durable import restate_tool

NOTES = "user:notes"
_GEMINI = "gemini-2.5-flash"
GEMINI_SETTINGS = ("GOOGLE_API_KEY", "GEMINI_API_KEY", "GOOGLE_GENAI_USE_VERTEXAI", "GOOGLE_GENAI_USE_ENTERPRISE")
"""If one of them is set, genai knows where to send requests."""


def current_time(place: str) -> dict[str, str]:
    """Tell the time in a city or a time zone, such as "Tokyo" or "Europe/Berlin"."""
    wanted = place.strip().replace(" ", "_").lower()
    for zone in sorted(available_timezones()):
        if wanted in (zone.lower(), zone.lower().rpartition("/")[2]):
            now = datetime.now(ZoneInfo(zone))
            return {"zone": zone, "time": now.isoformat(timespec="seconds"), "said": f"{now:%H:%M} in {zone}."}
    return {"error": f'There is no time zone "{place}". Give a city such as Tokyo or a zone such as Europe/Berlin.'}


def add_note(text: str, tool_context: ToolContext) -> dict[str, Any]:
    """Remember something about the user, in all of the user's conversations."""
    notes = [*tool_context.state.get(NOTES, []), text]
    tool_context.state[NOTES] = notes
    return {"notes": len(notes), "said": f'I noted "{text}". All your sessions share your {len(notes)} note(s).'}


def list_notes(tool_context: ToolContext) -> dict[str, Any]:
    """List what the user wanted remembered, in any conversation."""
    notes = tool_context.state.get(NOTES, [])
    said = "Your notes: " + "; ".join(notes) + "." if notes else "You have no notes yet."
    return {"notes": notes, "said": said}


@restate_tool
async def slow_job(steps: int = 5) -> dict[str, Any]:
    """Do a job of several slow steps, two seconds each. What is done stays done, even if the process is killed."""
    done = [await _durably(f"job step {number}", _slow_step) for number in range(1, min(steps, 30) + 1)]
    return {"done": done, "said": f"Done, {len(done)} steps, at " + ", ".join(done) + "."}


async def _slow_step() -> str:
    await asyncio.sleep(2)
    return f"{datetime.now(UTC):%H:%M:%S}"


async def _durably(name: str, action: Callable[[], Awaitable[str]]) -> str:
    try:
        context: Any = current_context()
    except LookupError:
        return await action()
    return str(await context.run_typed(name, action))


def assistant(model: str | None = None) -> App:
    """Returns the default app with a model; by default Gemini if there is a key for it, else the demo model."""
    name = model or (_GEMINI if any(map(os.environ.get, GEMINI_SETTINGS)) else DEMO)
    agent = LlmAgent(
        name="assistant",
        model=DemoModel() if name == DEMO else name,
        description="A helpful assistant that remembers.",
        instruction=(
            "You are a helpful assistant. Use your tools to tell the time, to remember and recall what the user wants "
            "noted, and to do a slow job when asked for one."
        ),
        tools=[current_time, add_note, list_notes, slow_job],
    )
    return App(name="assistant", root_agent=agent)
