"""Callbacks of agents and plugins, with and without an answer of their own."""

from collections.abc import Callable
from typing import Any

from google.adk.agents.callback_context import CallbackContext
from google.adk.agents.llm_agent import LlmAgent
from google.adk.apps.app import App
from google.adk.models.llm_request import LlmRequest
from google.adk.models.llm_response import LlmResponse
from google.adk.plugins.base_plugin import BasePlugin
from google.adk.tools.base_tool import BaseTool
from google.adk.tools.tool_context import ToolContext
from google.genai import types
from typing_extensions import override

from tests.fidelity.run import called, executed
from tests.fidelity.scenario import Scenario
from tests.fidelity.script import call, parts, say, script


def content(text: str) -> types.Content:
    """What an agent says."""
    return types.Content(role="model", parts=[types.Part(text=text)])


def noting(name: str, answer: Any = None) -> Callable[..., Any]:
    """A callback of any kind that returns `answer`."""

    def callback(*args: Any, **kwargs: Any) -> Any:
        context = next((kwargs[key] for key in ("callback_context", "tool_context") if key in kwargs), None)
        context = context or next((arg for arg in args if isinstance(arg, CallbackContext)), None)
        tool = kwargs.get("tool") or next((arg for arg in args if isinstance(arg, BaseTool)), None)
        called(name, tool.name if tool else None)
        if context is not None:
            key = f"seen {name} {tool.name if tool else ''}"
            context.state[key] = context.state.get(key, 0) + 1
        return answer

    return callback


async def add(a: int, b: int, tool_context: ToolContext) -> dict[str, int]:
    """Add."""
    executed("add", (a, b))
    tool_context.state["sum"] = a + b
    return {"sum": a + b}


async def broken() -> None:
    """Raise."""
    executed("broken")
    raise ValueError("this tool is broken")


KINDS = ("agent", "model", "tool")


def agent(*answers: Any, **attributes: Any) -> LlmAgent:
    """An agent that records all its callbacks."""
    callbacks = {
        f"{when}_{kind}_callback": noting(f"{when} {kind}") for kind in KINDS for when in ("before", "after")
    } | {f"on_{kind}_error_callback": noting(f"on {kind} error") for kind in ("model", "tool")}
    return LlmAgent(name="agent", model=script(*answers), tools=[add, broken], **{**callbacks, **attributes})


class Noting(BasePlugin):
    """A plugin that records all its callbacks, and answers some."""

    def __init__(self, name: str, **answers: Any) -> None:
        super().__init__(name=name)
        self._answers = answers

    def _note(self, what: str) -> Any:
        called(f"{self.name}: {what}")
        return self._answers.get(what)

    @override
    async def on_user_message_callback(self, *, invocation_context: Any, user_message: Any) -> Any:
        return self._note("on_user_message")

    @override
    async def before_run_callback(self, *, invocation_context: Any) -> Any:
        return self._note("before_run")

    @override
    async def on_event_callback(self, *, invocation_context: Any, event: Any) -> Any:
        what = self._note("on_event")
        if what is not None:
            event = event.model_copy(update={"custom_metadata": what})
        return event if what is not None else None

    @override
    async def after_run_callback(self, *, invocation_context: Any) -> None:
        self._note("after_run")

    @override
    async def before_agent_callback(self, *, agent: Any, callback_context: Any) -> Any:
        return self._note("before_agent")

    @override
    async def after_agent_callback(self, *, agent: Any, callback_context: Any) -> Any:
        return self._note("after_agent")

    @override
    async def before_model_callback(self, *, callback_context: Any, llm_request: LlmRequest) -> Any:
        return self._note("before_model")

    @override
    async def after_model_callback(self, *, callback_context: Any, llm_response: LlmResponse) -> Any:
        return self._note("after_model")

    @override
    async def on_model_error_callback(self, *, callback_context: Any, llm_request: Any, error: Exception) -> Any:
        return self._note("on_model_error")

    @override
    async def before_tool_callback(self, *, tool: BaseTool, tool_args: Any, tool_context: Any) -> Any:
        return self._note("before_tool")

    @override
    async def after_tool_callback(self, *, tool: BaseTool, tool_args: Any, tool_context: Any, result: Any) -> Any:
        return self._note("after_tool")

    @override
    async def on_tool_error_callback(self, *, tool: Any, tool_args: Any, tool_context: Any, error: Exception) -> Any:
        return self._note("on_tool_error")


def plugged(name: str, *plugins: BasePlugin, root: LlmAgent | None = None) -> App:
    """An app with plugins."""
    return App(name=name, root_agent=root or agent(adding, "3"), plugins=list(plugins))


adding = parts(call("add", a=1, b=2))
breaking = parts(call("broken"))
error = ValueError("the model is out of order")

SCENARIOS = [
    Scenario("callbacks that give nothing", agent(adding, "3", "more"), ["a", "b"]),
    Scenario("before_agent answers", agent("never", before_agent_callback=noting("before", content("early")))),
    Scenario("after_agent answers", agent("first", after_agent_callback=noting("after", content("late")))),
    Scenario("before_model answers", agent("never", before_model_callback=noting("before", say("guarded")))),
    Scenario("after_model answers", agent("first", after_model_callback=noting("after", say("replaced")))),
    Scenario("several before_model callbacks", agent("x", before_model_callback=[noting("1"), noting("2", say("y"))])),
    Scenario("before_tool answers", agent(adding, "4", before_tool_callback=noting("before", {"sum": 4}))),
    Scenario("after_tool answers", agent(adding, "5", after_tool_callback=noting("after", {"sum": 5}))),
    Scenario("on_model_error gives nothing", agent(error), fails=True),
    Scenario("on_model_error answers", agent(error, on_model_error_callback=noting("on error", say("sorry")))),
    Scenario("on_tool_error gives nothing", agent(breaking, "never"), fails=True),
    Scenario("on_tool_error answers", agent(breaking, "well", on_tool_error_callback=noting("on", {"error": "known"}))),
    Scenario(
        "on_tool_error answers beside another call",
        agent(
            parts(call("broken"), call("add", a=1, b=1)),
            "well",
            on_tool_error_callback=noting("on", {"error": "known"}),
        ),
    ),
    Scenario("several plugins", plugged("several_plugins", Noting("first"), Noting("second"))),
    *(
        Scenario(
            f"a plugin answers {what}",
            plugged(f"a_plugin_answers_{what}", Noting("first", **{what: answer}), Noting("second")),
        )
        for what, answer in {
            "on_user_message": types.Content(role="user", parts=[types.Part(text="instead")]),
            "before_run": content("not today"),
            "on_event": {"seen": True},
            "before_agent": content("early"),
            "after_agent": content("late"),
            "before_model": say("guarded"),
            "after_model": say("replaced"),
            "before_tool": {"sum": 6},
            "after_tool": {"sum": 7},
        }.items()
    ),
    Scenario(
        "a plugin answers on_model_error",
        plugged("p_on_model_error", Noting("first", on_model_error=say("sorry")), Noting("second"), root=agent(error)),
    ),
    Scenario(
        "a plugin answers on_tool_error",
        plugged(
            "p_on_tool_error",
            Noting("first", on_tool_error={"error": "known"}),
            Noting("second"),
            root=agent(breaking, "well"),
        ),
    ),
]
