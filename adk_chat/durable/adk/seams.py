"""The private parts of ADK and of OpenTelemetry that durability uses.

`tests/durable/adk/test_seams.py` checks each of them against the installed versions. What is replaced is in
`adk_chat.durable.patches`.
"""

from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Any

from google.adk.agents.context import Context
from google.adk.events import _abort_events
from google.adk.events.event import Event
from google.adk.plugins._reflect_retry_utils import ScopedFailureTracker
from google.adk.plugins.base_plugin import BasePlugin
from google.adk.tools._forwarding_artifact_service import ForwardingArtifactService
from google.adk.tools._node_tool import NodeTool
from google.adk.tools.base_tool import BaseTool
from google.adk.tools.tool_context import ToolContext
from google.adk.utils import _sync_runner
from opentelemetry import _logs
from opentelemetry._logs import _internal

__all__ = ["ForwardingArtifactService", "NodeTool"]

ToolRunner = Callable[[BaseTool, dict[str, Any], ToolContext], Awaitable[object]]
"""Runs a tool with its arguments."""
FunctionRunner = Callable[[Callable[..., Any], dict[str, Any]], Awaitable[object]]
"""Runs a function with its arguments by name."""

ABORTED = _abort_events._INVOCATION_ABORTED
"""The error code of the event that ADK appends if an invocation is aborted."""


def abort_events(events: Sequence[Event], invocation_id: str, author: str) -> list[Event]:
    """Returns the events that ADK appends if an invocation is aborted: responses to its open function calls."""
    return _abort_events._build_abort_events(
        [*events], invocation_id=invocation_id, root_agent_name=author, branch=None
    )


def forget_failures(plugins: Iterable[BasePlugin], invocation: str) -> None:
    """Resets ADK's plugins that count failures for an invocation, whose earlier attempt may have counted some.

    Args:
        plugins: the plugins of a Runner. Those of other kinds are left alone.
        invocation: the beginning of the invocation's id.
    """
    trackers = [getattr(plugin, "_tracker", None) for plugin in plugins]
    for tracker in trackers:
        if isinstance(tracker, ScopedFailureTracker):
            counters = tracker._scoped_failure_counters
            for scope in [scope for scope in counters if scope.startswith(invocation)]:
                del counters[scope]


def forward_artifacts(context: Context, saved: dict[str, int]) -> None:
    """Reports artifacts that an agent run as a tool has saved to the context of its caller, as ADK does."""
    service = context._invocation_context.artifact_service
    if saved and isinstance(service, ForwardingArtifactService):
        service.tool_context.actions.artifact_delta.update(saved)
        forward_artifacts(service.tool_context, saved)


def calling_context() -> Context | None:
    """Returns the context of the node or tool that is calling a function; None if ADK sets none."""
    return _sync_runner._SYNC_CALLABLE_CONTEXT.get()


def logs_are_recorded() -> bool:
    """Returns whether OpenTelemetry's logs are exported anywhere."""
    provider = _logs.get_logger_provider()
    return not isinstance(provider, (_logs.NoOpLoggerProvider, _internal.ProxyLoggerProvider))
