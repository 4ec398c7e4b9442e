"""What an agent's code asks the session service about its own session."""

from collections.abc import Awaitable, Callable
from typing import Any

from google.adk.agents.callback_context import CallbackContext
from google.adk.agents.invocation_context import InvocationContext
from google.adk.agents.llm_agent import LlmAgent
from google.adk.sessions.base_session_service import GetSessionConfig
from google.adk.sessions.session import Session
from google.adk.tools.tool_context import ToolContext

from tests.fidelity.run import called, executed
from tests.fidelity.scenario import Say, Scenario
from tests.fidelity.script import call, parts, script


def reading(where: str) -> Callable[..., Awaitable[None]]:
    """A callback that writes to the state, and records its session."""

    async def read(callback_context: CallbackContext, **_: Any) -> None:
        callback_context.state[where] = [where]
        await _read(callback_context.get_invocation_context(), where)

    return read


async def reads(tool_context: ToolContext) -> str:
    """The same in a tool."""
    executed("reads")
    tool_context.state["tool"] = 1
    invocation = tool_context.get_invocation_context()
    found = [await _found(invocation, config) for config in (None, GetSessionConfig(num_recent_events=1))]
    found.append(await _found(invocation, GetSessionConfig(num_recent_events=0)))
    return str([(sorted(session.state.items()), [event.author for event in session.events]) for session in found])


async def _read(invocation: InvocationContext, where: str) -> None:
    stored = await _found(invocation)
    stored.state["mine"] = "and nobody else's"
    (listed,) = (
        await invocation.session_service.list_sessions(app_name=invocation.app_name, user_id=invocation.user_id)
    ).sessions
    called(f"{where}: {sorted(stored.state.items())} {sorted(listed.state)} {len(stored.events)} {listed.events}")


async def _found(invocation: InvocationContext, config: GetSessionConfig | None = None) -> Session:
    session = invocation.session
    asked = {"app_name": session.app_name, "user_id": session.user_id, "session_id": session.id}
    found: Session | None = await invocation.session_service.get_session(**asked, config=config)
    assert found is not None
    return found


SCENARIOS = [
    Scenario(
        "a session that is read in its turn",
        LlmAgent(
            name="agent",
            model=script(parts(call("reads")), "done", parts(call("reads")), "again"),
            tools=[reads],
            before_agent_callback=reading("before_agent"),
            before_model_callback=reading("before_model"),
            after_agent_callback=reading("after_agent"),
        ),
        ["a", Say("b", run_config={"get_session_config": {"num_recent_events": 2}})],
    ),
]
