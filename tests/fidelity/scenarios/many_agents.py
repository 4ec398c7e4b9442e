"""Several agents, in sequence, in parallel and nested."""

import warnings
from collections.abc import AsyncGenerator
from typing import Any

from google.adk.agents.base_agent import BaseAgent
from google.adk.agents.invocation_context import InvocationContext
from google.adk.agents.llm_agent import LlmAgent
from google.adk.agents.loop_agent import LoopAgent
from google.adk.agents.parallel_agent import ParallelAgent
from google.adk.agents.sequential_agent import SequentialAgent
from google.adk.events.event import Event
from google.adk.events.event_actions import EventActions
from google.adk.tools.agent_tool import AgentTool
from google.adk.tools.exit_loop_tool import exit_loop
from google.genai import types
from pydantic import BaseModel
from typing_extensions import override

from tests.fidelity.run import called
from tests.fidelity.scenario import Scenario
from tests.fidelity.scenarios.tools import slow
from tests.fidelity.script import call, parts, script

warnings.filterwarnings("ignore", category=DeprecationWarning)


class Question(BaseModel):
    """What an agent that is a tool is asked."""

    text: str


class Counting(BaseAgent):
    """A custom agent: it asks its sub-agents in turn until one says stop, and records how many it took."""

    @override
    async def _run_async_impl(self, ctx: InvocationContext) -> AsyncGenerator[Event, None]:
        called("counting")
        asked = 0
        for agent in self.sub_agents:
            asked += 1
            async for event in agent.run_async(ctx):
                yield event
            if ctx.session.state.get("verdict") == "stop":
                break
        yield Event(
            author=self.name,
            invocation_id=ctx.invocation_id,
            branch=ctx.branch,
            content=types.Content(role="model", parts=[types.Part(text=f"asked {asked}")]),
            actions=EventActions(state_delta={"asked": asked}),
        )


class Broken(BaseAgent):
    """An agent that raises in the middle."""

    @override
    async def _run_async_impl(self, ctx: InvocationContext) -> AsyncGenerator[Event, None]:
        yield Event(author=self.name, invocation_id=ctx.invocation_id, content=types.ModelContent("so far"))
        raise RuntimeError("this agent is broken")


def agent(name: str, *answers: Any, **attributes: Any) -> LlmAgent:
    """An agent with a model of its own."""
    noted = {"before_agent_callback": lambda callback_context: called("before", name)}
    return LlmAgent(
        name=name, description=f"Knows {name}.", model=script(*answers, name=f"model_of_{name}"), **noted, **attributes
    )


def late(name: str) -> LlmAgent:
    """An agent that is cancelled before its model answers."""
    model = script("never", name=f"model_of_{name}", seconds=1).model_copy(update={"counted": False})
    return LlmAgent(name=name, model=model)


def transfer(name: str) -> Any:
    """A transfer to another agent."""
    return parts(call("transfer_to_agent", agent_name=name))


def ask(name: str, text: str) -> types.Part:
    """A call of an agent that is a tool."""
    return call(name, request=text)


def branches(*names: str, seconds: float = 0) -> list[BaseAgent]:
    """Agents to run in parallel, each with a tool."""
    return [
        LlmAgent(
            name=name,
            model=script(parts(call("slow", name=name)), f"{name} is done", name=f"model_of_{name}", seconds=seconds),
            tools=[slow],
            output_key=f"{name}_said",
        )
        for name in names
    ]


inheriting = LlmAgent(name="heir", description="Inherits.", instruction="You are the heir.")

SCENARIOS = [
    Scenario(
        "transfer down",
        agent("root", transfer("child"), sub_agents=[agent("child", "child here", "still me")]),
        ["a", "b"],
    ),
    Scenario(
        "transfer up",
        agent("root", transfer("child"), "root here", sub_agents=[agent("child", transfer("root"))]),
        ["a", "b"],
    ),
    Scenario(
        "transfer sideways",
        agent("root", transfer("one"), sub_agents=[agent("one", transfer("two")), agent("two", "two here", "again")]),
        ["a", "b"],
    ),
    Scenario(
        "transfer that is not allowed back",
        agent(
            "root",
            transfer("child"),
            "root again",
            sub_agents=[agent("child", "mine", disallow_transfer_to_parent=True, disallow_transfer_to_peers=True)],
        ),
        ["a", "b"],
    ),
    Scenario(
        "transfer to nobody",
        agent("root", transfer("ghost"), "sorry", sub_agents=[agent("child", "never")]),
        fails=True,
    ),
    Scenario(
        "a sub-agent that inherits its model",
        agent("root", transfer("heir"), "the heir speaks", sub_agents=[inheriting]),
        ["a", "b"],
    ),
    Scenario(
        "a single_turn sub-agent",
        agent(
            "root",
            parts(call("helper", request="help")),
            "thanks",
            sub_agents=[agent("helper", "helped", mode="single_turn")],
        ),
        ["a", "b"],
    ),
    Scenario(
        "two single_turn sub-agents at once",
        agent(
            "root",
            parts(call("one", request="x"), call("two", request="y")),
            "thanks",
            sub_agents=[agent("one", "first", mode="single_turn"), agent("two", "second", mode="single_turn")],
        ),
        parallel=True,
    ),
    Scenario(
        "a task sub-agent",
        agent(
            "root",
            parts(call("worker", request="work")),
            "well done",
            sub_agents=[agent("worker", "how much?", parts(call("finish_task", result="all")), mode="task")],
        ),
        ["a", "five"],
    ),
    Scenario("AgentTool", agent("root", parts(ask("expert", "why?")), "so", tools=[AgentTool(agent("expert", "42"))])),
    Scenario(
        "AgentTool with a schema, state and tools of its own",
        agent(
            "root",
            parts(call("expert", text="why?")),
            "so",
            tools=[
                AgentTool(
                    agent(
                        "expert",
                        parts(call("slow", name="deep")),
                        "42",
                        tools=[slow],
                        input_schema=Question,
                        output_key="found",
                    )
                )
            ],
        ),
    ),
    Scenario(
        "two AgentTools at once",
        agent(
            "root",
            parts(ask("one", "x"), ask("two", "y")),
            "both",
            tools=[
                AgentTool(agent("one", parts(call("slow", name="in one")), "first", tools=[slow])),
                AgentTool(agent("two", parts(call("slow", name="in two")), "second", tools=[slow])),
            ],
        ),
    ),
    Scenario(
        "an AgentTool whose agent fails",
        agent("root", parts(ask("expert", "why?")), "so", tools=[AgentTool(agent("expert", ValueError("no idea")))]),
        fails=True,
    ),
    Scenario(
        "Sequential",
        SequentialAgent(name="sequence", sub_agents=[agent("one", "first", output_key="one"), agent("two", "second")]),
        ["a", "b"],
    ),
    Scenario(
        "Loop with max_iterations",
        LoopAgent(name="loop", max_iterations=2, sub_agents=[agent("one", "1", "3", "5"), agent("two", "2", "4", "6")]),
    ),
    Scenario(
        "Loop with exit_loop",
        LoopAgent(
            name="loop",
            max_iterations=5,
            sub_agents=[
                agent("writer", "draft", "better"),
                agent("critic", "no", parts(call("exit_loop")), parts(call("exit_loop")), tools=[exit_loop]),
            ],
        ),
    ),
    Scenario(
        "Parallel",
        ParallelAgent(name="parallel", sub_agents=branches("one", "two", "three")),
        ["a", "b"],
        parallel=True,
    ),
    Scenario(
        "Parallel with a branch that fails",
        ParallelAgent(name="parallel", sub_agents=[late("one"), agent("two", ValueError("no"))]),
        parallel=True,
        fails=True,
    ),
    Scenario(
        "Parallel inside Sequential, and a summary",
        SequentialAgent(
            name="sequence",
            sub_agents=[
                agent("plan", "a plan"),
                ParallelAgent(name="parallel", sub_agents=branches("one", "two")),
                agent("summary", "summed up", instruction="Sum up {one_said} and {two_said}.", include_contents="none"),
            ],
        ),
        parallel=True,
    ),
    Scenario(
        "Sequences and loops inside Parallel",
        ParallelAgent(
            name="parallel",
            sub_agents=[
                SequentialAgent(name="left", sub_agents=branches("l1", "l2")),
                LoopAgent(name="right", max_iterations=2, sub_agents=[agent("r1", "1", "2", "3", "4")]),
                ParallelAgent(name="deep", sub_agents=branches("d1", "d2")),
            ],
        ),
        parallel=True,
    ),
    Scenario(
        "a BaseAgent of one's own",
        Counting(
            name="counting",
            sub_agents=[
                agent("one", "go", output_key="verdict"),
                agent("two", "stop", output_key="verdict"),
                agent("three", "never"),
            ],
        ),
    ),
    Scenario("a BaseAgent that raises", Broken(name="broken"), fails=True),
]
