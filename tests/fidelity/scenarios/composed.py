"""Agents composed at random of what users write around ADK's constructs."""

import asyncio
import os
import time
from collections.abc import AsyncGenerator
from random import Random
from typing import Any

from google.adk.agents.base_agent import BaseAgent
from google.adk.agents.callback_context import CallbackContext
from google.adk.agents.llm_agent import LlmAgent
from google.adk.agents.loop_agent import LoopAgent
from google.adk.agents.parallel_agent import ParallelAgent
from google.adk.agents.sequential_agent import SequentialAgent
from google.adk.models.base_llm import BaseLlm
from google.adk.models.llm_request import LlmRequest
from google.adk.models.llm_response import LlmResponse

from tests.fidelity.scenario import Scenario
from tests.fidelity.scenarios.own_code import (
    Gathering,
    Merging,
    Queueing,
    in_a_thread,
    over_a_network,
)
from tests.fidelity.scenarios.tools import slow
from tests.fidelity.script import call, parts, say

_LOCK, _LIMIT = asyncio.Lock(), asyncio.Semaphore(2)
"""Shared by all agents, of all users."""
_COMPOSITES: list[Any] = [SequentialAgent, ParallelAgent, LoopAgent, Gathering, Queueing, Merging]


async def _locked(callback_context: CallbackContext, llm_request: LlmRequest) -> None:
    await _LOCK.acquire()


def _unlocked(callback_context: CallbackContext, llm_response: LlmResponse) -> None:
    _LOCK.release()


async def _limited(callback_context: CallbackContext, llm_request: LlmRequest) -> None:
    await _LIMIT.acquire()


def _unlimited(callback_context: CallbackContext, llm_response: LlmResponse) -> None:
    _LIMIT.release()


_CALLBACKS = [(None, None), (_locked, _unlocked), (_limited, _unlimited), (in_a_thread, None), (over_a_network, None)]


class Forgetful(BaseLlm):
    """A model that calls its tool once, if it has one, and says "done" after that."""

    tool: str
    seconds: float

    async def generate_content_async(
        self, llm_request: LlmRequest, stream: bool = False
    ) -> AsyncGenerator[LlmResponse, None]:
        """See `BaseLlm`."""
        await asyncio.sleep(self.seconds)
        # Its siblings' events come in between.
        answered = self.model in llm_request.model_dump_json(include={"contents"})
        yield parts(call(self.tool, name=self.model)) if self.tool and not answered else say("done")


def composed(name: str, seed: str) -> Scenario:
    """An agent of a few layers, the same for the same seed."""
    random = Random(seed)
    made = 0

    def agent(depth: int, tools: bool) -> BaseAgent:
        nonlocal made
        made += 1
        title = f"agent{made}"
        if depth == 0 or random.random() < 0.2:
            before, after = random.choice(_CALLBACKS)
            uses_a_tool = tools and random.random() < 0.6
            seconds = random.choice((0, 0, 0.01, 0.03))
            return LlmAgent(
                name=title,
                model=Forgetful(model=f"{name}_{title}", tool="slow" if uses_a_tool else "", seconds=seconds),
                tools=[slow] if uses_a_tool else [],
                before_model_callback=before,
                after_model_callback=after,
            )
        kind = random.choice(_COMPOSITES)
        more = {"max_iterations": 2} if kind is LoopAgent else {}
        # Code that does not wait until events are stored calls the model before it sees the tool's result, under ADK
        # too.
        tools = tools and kind in (SequentialAgent, ParallelAgent, LoopAgent)
        inside = [agent(depth - 1, tools) for _ in range(random.randint(2, depth + 1))]
        composite: BaseAgent = kind(name=title, sub_agents=inside, **more)
        return composite

    return Scenario(name, agent(2, tools=True))


SEED = os.environ.setdefault("SOAK_SEED", str(time.time_ns()))
COMPOSED = [composed(f"composed_{number}", f"{SEED} {number}") for number in range(30)]
