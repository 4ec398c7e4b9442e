"""Agents whose messages are plans: "TAG say 5; work 0.5; both 1; count; fail", one step per model call.

The start and end of each call are lines in `$CHAOS_DIR/effects`, which survive the process.
"""

import asyncio
import json
import os
import time
import uuid
from collections.abc import AsyncGenerator
from pathlib import Path

from google.adk.agents.llm_agent import LlmAgent
from google.adk.agents.parallel_agent import ParallelAgent
from google.adk.apps.app import App
from google.adk.models.base_llm import BaseLlm
from google.adk.models.llm_request import LlmRequest
from google.adk.models.llm_response import LlmResponse
from google.adk.tools.tool_context import ToolContext
from google.genai import types

from tests.support import Json, function_call, reply

WORD_SECONDS = 0.05
TAG = "tag-"


def note(what: str, key: str, nonce: str) -> None:
    """Note that a call starts or ends."""
    line = json.dumps({"time": time.time(), "what": what, "key": key, "nonce": nonce, "process": os.getpid()})
    with Path(os.environ["CHAOS_DIR"], "effects").open("a") as file:
        file.write(line + "\n")


class Planned(BaseLlm):
    """A model that does what the last message of the user says."""

    model: str = "planned"
    agent: str

    async def generate_content_async(
        self, llm_request: LlmRequest, stream: bool = False
    ) -> AsyncGenerator[LlmResponse, None]:
        """See `BaseLlm`."""
        tag, steps, done = _asked(llm_request)
        kind, _, rest = (steps[done] if done < len(steps) else "say 1").partition(" ")
        key = f"{tag}/{self.agent}/{done}"
        if kind == "fail":
            raise ValueError(f"{tag} fails")
        if kind == "say":
            words = [f"{tag} by {self.agent} ", *(f"{number} " for number in range(int(rest)))]
            for word in words:
                await asyncio.sleep(WORD_SECONDS)
                if stream:
                    part = types.Part(text=word)
                    yield LlmResponse(content=types.Content(role="model", parts=[part]), partial=True)
            yield reply("".join(words))
        elif kind == "count":
            yield reply(function_call("count", key=key))
        else:
            calls = 2 if kind == "both" else 1
            yield reply(*(function_call("work", key=f"{key}/{n}", seconds=float(rest) / (n + 1)) for n in range(calls)))


def _asked(request: LlmRequest) -> tuple[str, list[str], int]:
    """The tag and the steps of the last message, and how many steps are done."""
    said, done = "", 0
    for content in request.contents:
        for part in content.parts or []:
            if part.text and part.text.startswith(TAG) and content.role == "user":
                said, done = part.text, 0
        done += any(part.function_response for part in content.parts or [])
    tag, _, plan = said.partition(" ")
    return tag, [step.strip() for step in plan.split(";")], done


async def work(key: str, seconds: float) -> Json:
    """Take some time."""
    nonce = uuid.uuid4().hex
    note("begin", key, nonce)
    await asyncio.sleep(seconds)
    note("end", key, nonce)
    return {"nonce": nonce}


async def count(key: str, tool_context: ToolContext) -> Json:
    """Count the calls in this session."""
    nonce = uuid.uuid4().hex
    note("begin", key, nonce)
    tool_context.state["n"] = (tool_context.state.get("n") or 0) + 1
    note("end", key, nonce)
    return {"nonce": nonce, "n": tool_context.state["n"]}


def agent(name: str) -> LlmAgent:
    """An agent that does what it is told."""
    return LlmAgent(name=name, model=Planned(agent=name), tools=[work, count])


chaos = App(name="chaos", root_agent=agent("solo"))
duo = App(name="duo", root_agent=ParallelAgent(name="duo", sub_agents=[agent("alto"), agent("tenor")]))
