"""ADK 2's workflow graphs."""

import asyncio
from collections.abc import AsyncGenerator
from typing import Any

from google.adk.agents.context import Context
from google.adk.agents.llm_agent import LlmAgent
from google.adk.apps.app import App, ResumabilityConfig
from google.adk.events.event import Event
from google.adk.events.request_input import RequestInput
from google.adk.tools.function_tool import FunctionTool
from google.adk.workflow import START, JoinNode, RetryConfig, Workflow, node
from google.genai import types
from pydantic import BaseModel

from tests.fidelity.run import called, current, executed
from tests.fidelity.scenario import Say, Scenario
from tests.fidelity.scenarios.tools import answering, slow
from tests.fidelity.script import call, parts, script


class Order(BaseModel):
    """What functions pass on to each other."""

    item: str
    amount: int = 1


def agent(name: str, *answers: Any, **attributes: Any) -> LlmAgent:
    """An agent with a model of its own."""
    return LlmAgent(name=name, model=script(*answers, name=f"model_of_{name}"), **attributes)


async def parse(node_input: str) -> Order:
    """Make an order from a text."""
    executed("parse")
    return Order(item=node_input, amount=2)


def price(node_input: Order) -> dict[str, int]:
    """Price an order, in a plain function."""
    executed("price")
    return {"price": node_input.amount * 3}


async def tag(item: str, amount: int) -> dict[str, str]:
    """Write a tag."""
    executed("tag", item)
    return {"tag": f"{amount} {item}"}


async def remember(ctx: Context, node_input: Any) -> str:
    """Write into the state."""
    called("remember")
    ctx.state["remembered"] = str(node_input)
    return f"remembered {node_input}"


async def left(node_input: str) -> str:
    """One of two that run in parallel."""
    await asyncio.sleep(0.02)
    executed("left")
    return f"left of {node_input}"


async def right(node_input: str) -> str:
    """The other."""
    executed("right")
    return f"right of {node_input}"


async def together(node_input: dict[str, str]) -> str:
    """The results of both."""
    executed("together")
    return " and ".join(f"{key}: {value}" for key, value in sorted(node_input.items()))


async def route(ctx: Context, node_input: str) -> str:
    """Choose the way."""
    called("route")
    ctx.route = "long" if "long" in node_input else "short"
    return node_input


async def flaky(node_input: str) -> str:
    """Fail the first time."""
    executed("flaky")
    if current.get().run.kept("flaky") == 1:
        raise ConnectionError("not yet")
    return f"{node_input} at last"


async def hopeless(node_input: str) -> str:
    """Fail always."""
    executed("hopeless")
    raise ValueError("never")


async def ask(ctx: Context, node_input: str) -> Any:
    """Ask the user in the middle."""
    called("ask")
    yield RequestInput(interrupt_id="how_many", message="How many?")


async def told(node_input: Any) -> str:
    """Continue with what the user said."""
    executed("told")
    return f"told {node_input}"


async def count(node_input: str) -> Any:
    """Yield several events."""
    yield Event(message=f"counting {node_input}")
    yield "counted"


async def split(node_input: str) -> list[str]:
    """Make work for many."""
    executed("split")
    return [f"{node_input} {number}" for number in range(3)]


async def work(node_input: str) -> str:
    """Do a piece of work."""
    executed("work", node_input)
    return f"done {node_input}"


async def gathered(node_input: Any) -> str:
    """The results."""
    executed("gathered")
    return str(node_input)


async def conduct(ctx: Context, node_input: str) -> str:
    """Run nodes one after the other, as code says."""
    called("conduct")
    first = await ctx.run_node(agents_in_code[0], node_input)
    second = await ctx.run_node(agents_in_code[1], first)
    return f"{first} then {second}"


async def conduct_at_once(ctx: Context, node_input: str) -> str:
    """Run nodes at once, as code says."""
    called("conduct at once")
    both = await asyncio.gather(*(ctx.run_node(function, node_input) for function in (left, right)))
    return " | ".join(both)


agents_in_code = [agent("first", "one"), agent("second", "two")]


def flow(*edges: Any, **attributes: Any) -> Workflow:
    """A workflow."""
    return Workflow(name="flow", edges=list(edges), **attributes)


async def marked(node_input: str) -> str:
    """A coroutine that waits for nothing."""
    return f"{node_input}!"


def longer(node_input: str) -> int:
    """A plain function."""
    return len(node_input)


def price_of(node_input: str) -> str:
    """Another one."""
    return f"{node_input} costs 5"


async def triggered(node_input: Any) -> AsyncGenerator[Event, None]:
    """Say what it was triggered by."""
    yield Event(content=types.Content(role="model", parts=[types.Part(text=f"by {node_input}")]))


retried = RetryConfig(max_attempts=3, initial_delay=0.01)

SCENARIOS = [
    Scenario("functions in a row", flow((START, parse, price, remember)), ["shoes", "hats"]),
    Scenario("agents in a row", flow((START, agent("writer", "a draft"), agent("editor", "an edit"))), ["a", "b"]),
    Scenario(
        "a function between agents",
        flow((START, agent("writer", "a draft"), remember, agent("editor", "an edit"))),
    ),
    Scenario(
        "functions in parallel, and a join",
        flow((START, (left, right), JoinNode(name="join"), together)),
        ["a", "b"],
        parallel=True,
    ),
    Scenario(
        "agents in parallel, and a join",
        flow(
            (
                START,
                (
                    agent("one", parts(call("slow", name="one")), "first", tools=[slow]),
                    agent("two", "second"),
                ),
                JoinNode(name="join"),
                together,
            )
        ),
        parallel=True,
    ),
    Scenario(
        "routes",
        flow((START, route), (route, {"long": agent("long", "a long story"), "short": right})),
        ["a long one", "brief"],
    ),
    Scenario("a function that is retried", flow((START, node(flaky, retry_config=retried), told))),
    Scenario("a function that fails", flow((START, hopeless)), fails=True),
    Scenario("a function that fails for good", flow((START, node(hopeless, retry_config=retried))), fails=True),
    Scenario("branches that begin at once", flow((START, (marked, longer, price_of), triggered))),
    Scenario("a function that yields", flow((START, count, told))),
    Scenario("a tool as a node", flow((START, parse, FunctionTool(tag)))),
    Scenario("many workers", flow((START, split, node(work, parallel_worker=True), gathered)), parallel=True),
    Scenario("a workflow inside a workflow", flow((START, Workflow(name="inner", edges=[(START, left, right)]), told))),
    Scenario("nodes that code runs", flow((START, node(conduct, rerun_on_resume=True))), ["a", "b"]),
    Scenario("nodes that code runs at once", flow((START, node(conduct_at_once, rerun_on_resume=True))), parallel=True),
    Scenario(
        "a question to the user",
        App(
            name="a_question_to_the_user",
            root_agent=flow((START, ask, told)),
            resumability_config=ResumabilityConfig(is_resumable=True),
        ),
        ["go", Say(parts=answering("adk_request_input", result="five"), resume=True)],
    ),
    Scenario(
        "a confirmation of a node",
        flow((START, node(left, require_confirmation=True), told)),
        ["go", Say(parts=answering("adk_request_input", confirmed=True))],
    ),
]
