"""What takes a second, three times at once."""

import asyncio

from google.adk.agents.llm_agent import LlmAgent
from google.adk.agents.parallel_agent import ParallelAgent
from google.adk.workflow import START, JoinNode, Workflow

from tests.fidelity.run import executed
from tests.fidelity.scenario import Scenario
from tests.fidelity.script import call, parts, script


async def second(name: str) -> dict[str, str]:
    """Take a second."""
    await asyncio.sleep(1)
    executed("second", name)
    return {"name": name}


def branch(name: str) -> LlmAgent:
    """An agent whose model takes a second."""
    return LlmAgent(name=name, model=script("done", name=f"model_of_{name}", seconds=1))


SLOW = [
    Scenario("three slow branches", ParallelAgent(name="parallel", sub_agents=[branch(name) for name in "abc"])),
    Scenario(
        "three slow tools",
        LlmAgent(
            name="agent", model=script(parts(*(call("second", name=name) for name in "abc")), "done"), tools=[second]
        ),
    ),
    Scenario(
        "three slow nodes",
        Workflow(name="flow", edges=[(START, (branch("a"), branch("b"), branch("c")), JoinNode(name="join"))]),
    ),
]
