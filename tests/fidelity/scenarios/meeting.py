"""Code that runs three times at once: nothing ends before all of it has started."""

import asyncio
from collections.abc import AsyncGenerator
from weakref import WeakKeyDictionary

from google.adk.agents.llm_agent import LlmAgent
from google.adk.agents.parallel_agent import ParallelAgent
from google.adk.models.llm_request import LlmRequest
from google.adk.models.llm_response import LlmResponse
from google.adk.workflow import START, JoinNode, Workflow

from tests.fidelity import run
from tests.fidelity.scenario import Scenario
from tests.fidelity.script import Script, call, parts, script

_met: WeakKeyDictionary[run.Attempt, asyncio.Barrier] = WeakKeyDictionary()


async def wait() -> None:
    """Wait for the others of the attempt; in an attempt that breaks off, for ever."""
    attempt = run.current.get()
    breaks_off = attempt.run.breaks is not None and attempt is attempt.run.turns[attempt.turn][0]
    await _met.setdefault(attempt, asyncio.Barrier(4 if breaks_off else 3)).wait()


async def meet(name: str) -> dict[str, str]:
    """Be there at the same time as the others."""
    await wait()
    run.executed("meet", name)
    return {"name": name}


class Meeting(Script):
    """A model that answers once the others are called as well."""

    async def generate_content_async(
        self, llm_request: LlmRequest, stream: bool = False
    ) -> AsyncGenerator[LlmResponse, None]:
        """See `BaseLlm`."""
        await wait()
        async for response in super().generate_content_async(llm_request, stream):
            yield response


def branch(name: str) -> LlmAgent:
    """An agent with such a model."""
    return LlmAgent(name=name, model=Meeting(model=f"model_of_{name}", answers=["done"]))


MEETINGS = [
    Scenario("three branches", ParallelAgent(name="parallel", sub_agents=[branch(name) for name in "abc"])),
    Scenario(
        "three tools",
        LlmAgent(name="agent", model=script(parts(*(call("meet", name=name) for name in "abc")), "done"), tools=[meet]),
    ),
    Scenario(
        "three nodes",
        Workflow(name="flow", edges=[(START, (branch("a"), branch("b"), branch("c")), JoinNode(name="join"))]),
    ),
]
