"""One agent without tools."""

from typing import Any

from google.adk.agents.callback_context import CallbackContext
from google.adk.agents.llm_agent import LlmAgent
from google.adk.agents.readonly_context import ReadonlyContext
from google.adk.apps.app import App
from google.adk.planners.built_in_planner import BuiltInPlanner
from google.adk.planners.plan_re_act_planner import PlanReActPlanner
from google.adk.plugins.global_instruction_plugin import GlobalInstructionPlugin
from google.genai import types
from pydantic import BaseModel

from tests.fidelity.run import called
from tests.fidelity.scenario import Say, Scenario
from tests.fidelity.script import parts, say, script


class City(BaseModel):
    """A structured answer."""

    name: str
    people: int


def agent(*answers: Any, **attributes: Any) -> LlmAgent:
    """An agent of one scripted model."""
    return LlmAgent(name="agent", model=script(*answers), **attributes)


async def instruct(context: ReadonlyContext) -> str:
    """An instruction that is made anew for each call."""
    return f"state: {sorted(context.state.to_dict())}" if hasattr(context.state, "to_dict") else "state"


def remember(callback_context: CallbackContext) -> None:
    """Write to every scope."""
    called("remember")
    turns = callback_context.state.get("turns", 0)
    callback_context.state["turns"] = turns + 1
    callback_context.state["user:turns"] = callback_context.state.get("user:turns", 0) + 1
    callback_context.state["app:last"] = "agent"
    callback_context.state["temp:turn"] = "gone"


def thought(text: str) -> types.Part:
    """What a model thinks aloud."""
    return types.Part(text=text, thought=True)


SCENARIOS = [
    Scenario("several turns", agent("one", "two", "three"), ["a", "b", "c"]),
    Scenario(
        "an instruction template from state",
        agent("hi", "again", instruction="Greet {name?} of {user:town?} for {app:firm?}."),
        [Say("hello", state_delta={"name": "Ada", "user:town": "London", "app:firm": "Acme"}), "again"],
    ),
    Scenario("an instruction provider", agent("hi", instruction=instruct), [Say("hello", state_delta={"a": 1})]),
    Scenario(
        "an instruction that is missing a variable",
        agent("never", instruction="Greet {name}."),
        ["hello", "again"],
        fails=True,
    ),
    Scenario("state of all scopes from a callback", agent("one", "two", before_agent_callback=remember), ["a", "b"]),
    Scenario("output_key", agent("kept", output_key="answer"), ["a"]),
    Scenario("output_key of the temp scope", agent("kept", output_key="temp:answer"), ["a"]),
    Scenario(
        "output_schema",
        agent('{"name": "Rome", "people": 3}', output_schema=City, output_key="city"),
        ["a"],
        fails=True,
    ),
    Scenario(
        "output_schema that the answer does not fit",
        agent('{"name": 1}', output_schema=City, output_key="city"),
        fails=True,
    ),
    Scenario("include_contents none", agent("one", "two", include_contents="none"), ["a", "b"]),
    Scenario(
        "generate_content_config",
        agent("one", generate_content_config=types.GenerateContentConfig(temperature=0.1, max_output_tokens=7)),
    ),
    Scenario(
        "a global instruction",
        App(
            name="a_global_instruction",
            root_agent=agent("one", instruction="Be kind."),
            plugins=[GlobalInstructionPlugin("Be brief.")],
        ),
    ),
    Scenario("a planner of plans", agent("/*PLANNING*/ a plan /*FINAL_ANSWER*/ done", planner=PlanReActPlanner())),
    Scenario(
        "a planner of thoughts",
        agent(
            parts(thought("well"), "done"),
            planner=BuiltInPlanner(thinking_config=types.ThinkingConfig(include_thoughts=True)),
        ),
        ["a", "b"],
    ),
    Scenario("thoughts", agent(parts(thought("hm"), "said"), say("more")), ["a", "b"]),
]
