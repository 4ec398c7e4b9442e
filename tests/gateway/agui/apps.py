"""Apps that ask their user, for the tests of interrupts."""

from typing import Any

from google.adk.agents.context import Context
from google.adk.agents.llm_agent import LlmAgent
from google.adk.apps.app import App
from google.adk.events.request_input import RequestInput
from google.adk.workflow import START, Workflow
from google.genai import types
from pydantic import BaseModel

from tests.support import ScriptedModel, calls, obey


class Order(BaseModel):
    """What the workflow behind the tool takes."""

    item: str


async def look(node_input: Any) -> str:
    """Look whether it is there. It must not be done twice for one order."""
    if isinstance(node_input, types.Content):
        node_input = {"item": (node_input.parts or [types.Part()])[0].text}
    item = Order.model_validate(node_input).item
    calls[f"looked for {item}"] += 1
    return item


async def ask(ctx: Context, node_input: str) -> Any:
    """Ask the user in the middle."""
    schema = {"type": "integer"}
    yield RequestInput(
        interrupt_id="how_many", message=f"How many {node_input}?", payload={"item": node_input}, response_schema=schema
    )


async def told(node_input: Any) -> str:
    """Continue with what the user said."""
    return f"told {node_input}"


def asking() -> App:
    """A workflow that asks."""
    return App(name="asking", root_agent=Workflow(name="asking", edges=[(START, look, ask, told)]))


def flowing() -> App:
    """A workflow of agents."""
    first = LlmAgent(name="first", model=ScriptedModel(script=obey))
    second = LlmAgent(name="second", model=ScriptedModel(script=obey))
    return App(name="flowing", root_agent=Workflow(name="flowing", edges=[(START, first, second)]))


def behind() -> App:
    """An agent with a tool that is such a workflow."""
    survey = Workflow(name="survey", description="Asks.", input_schema=Order, edges=[(START, look, ask, told)])
    return App(name="behind", root_agent=LlmAgent(name="behind", model=ScriptedModel(script=obey), tools=[survey]))
