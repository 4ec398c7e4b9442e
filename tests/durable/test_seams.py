"""Holds what is private upstream against the installed versions, and says what moved."""

import inspect
from collections.abc import Callable
from typing import Any

import pytest
from google.adk.events import _abort_events
from google.adk.flows.llm_flows.base_llm_flow import BaseLlmFlow
from google.adk.flows.llm_flows.extensions import _code_execution
from google.adk.flows.llm_flows.tools import _batch_executor, _caller
from google.adk.plugins._reflect_retry_utils import ScopedFailureTracker
from google.adk.plugins.reflect_retry_tool_plugin import ReflectAndRetryToolPlugin
from google.adk.runners import Runner
from google.adk.telemetry import tracing
from google.adk.tools import _forwarding_artifact_service, _node_tool
from google.adk.utils import _sync_runner
from google.adk.workflow import _function_node
from google.adk.workflow._tool_node import _ToolNode
from opentelemetry._logs import _internal
from restate import server_context, vm

from adk_chat.durable import install, seams
from adk_chat.durable.machine import RememberingVm

# These leave no command, or end the handler.
NOT_LOOKED_FOR = {"sys_input", "sys_signal", "sys_end", "sys_write_output_success", "sys_write_output_failure"}


install()


def parameters(function: Callable[..., Any]) -> list[str]:
    return list(inspect.signature(function).parameters)


@pytest.mark.parametrize(
    ("owner", "name", "takes", "used_for"),
    [
        (BaseLlmFlow, "_get_llm", ["self", "invocation_context"], "making model calls durable"),
        (_caller, "_call_tool_async", ["tool", "args", "tool_context"], "making tool calls durable"),
        (_sync_runner, "_make_executor_sync_callable_runner", ["executor"], "giving back what a thread has set"),
        (
            Runner,
            "_get_or_create_session",
            ["self", "user_id", "session_id", "get_session_config"],
            "opening the journal before a run",
        ),
        (
            server_context.ServerInvocationContext,
            "create_poll_or_cancel_coroutine",
            ["self", "unresolved_future"],
            "awaiting the journal in one place",
        ),
        (server_context.ServerInvocationContext, "take_and_send_output", ["self"], "sending what was issued"),
        (server_context.ServerInvocationContext, "must_take_notification", ["self", "handle"], "taking results"),
        (vm.VMWrapper, "notify_input", ["self", "input_buf"], "keeping the journal of an attempt"),
        (vm.VMWrapper, "do_progress", ["self", "unresolved_future"], "awaiting the journal in one place"),
        (vm.VMWrapper, "is_completed", ["self", "handle"], "awaiting the journal in one place"),
        (vm.VMWrapper, "is_replaying", ["self"], "noticing that the journal of an attempt was not kept"),
        (vm.VMWrapper, "take_notification", ["self", "handle"], "taking results"),
        (vm.VMWrapper, "sys_run", ["self", "name"], "issuing recorded steps again"),
        (vm.VMWrapper, "sys_signal", ["self", "signal_name"], "hearing a cancellation while nothing is awaited"),
        (vm.VMWrapper, "propose_run_completion_success", ["self", "handle", "output"], "journaling steps"),
        (
            _abort_events,
            "_build_abort_events",
            ["events", "invocation_id", "root_agent_name", "branch"],
            "ending a turn whose agent does not heed a cancellation",
        ),
        (_ToolNode, "_run_tool_with_plugin_callbacks", ["self", "ctx", "args"], "making tools of nodes durable"),
        (_function_node, "_invoke_callable", ["target", "kwargs", "unwrapped"], "making functions of nodes durable"),
    ],
)
def test_a_function_is_where_it_was(owner: Any, name: str, takes: list[str], used_for: str) -> None:
    where = f"{getattr(owner, '__name__', owner)}.{name}"
    assert hasattr(owner, name), f"{where} is gone; adk_chat needs it for {used_for}."
    found = parameters(getattr(owner, name))
    assert found == takes, f"{where} takes {found} now, not {takes}; adk_chat needs it for {used_for}."


def test_calls_are_looked_up_where_they_are_replaced() -> None:
    source = inspect.getsource(_caller)
    assert "tool_runner=lambda: _call_tool_async(" in source, (
        "ADK runs tools by another way than _caller._call_tool_async; tool calls would not be journaled."
    )


async def test_calls_of_one_response_are_run_where_their_order_is_kept() -> None:
    source = inspect.getsource(_batch_executor._execute_prepared_function_calls_async)
    assert "await _execute_prepared_function_calls(" in source, (
        "ADK runs the calls of a response elsewhere than in _execute_prepared_function_calls; their order is lost."
    )


def test_requests_are_described_where_that_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    source = inspect.getsource(tracing._use_native_generate_content_span)
    assert "set_operation_details_attributes_from_request(\n" in source, (
        "ADK describes a model's request by another way than set_operation_details_attributes_from_request; that would "
        "cost each call a look at the whole session again."
    )
    monkeypatch.delenv("OTEL_PYTHON_LOGGER_PROVIDER", raising=False)
    monkeypatch.setattr(_internal, "_LOGGER_PROVIDER", None)
    assert not seams.logs_are_recorded(), "OpenTelemetry's provider of logs is another where nobody has set one."


def test_code_that_models_wrote_is_run_where_it_is_followed() -> None:
    source = inspect.getsource(_code_execution)
    assert source.count("asyncio.to_thread(\n") == source.count("code_executor.execute_code,\n") == 2, (
        "ADK runs blocks of code by another way than asyncio.to_thread; they would run again on a replay."
    )


def test_whatever_issues_a_command_looks_for_a_recorded_one() -> None:
    issuing = {name for name in vars(vm.VMWrapper) if name.startswith("sys_")} | {"attach_invocation"}
    known = {name for name in vars(RememberingVm) if not name.startswith("_")}
    assert issuing - known == NOT_LOOKED_FOR, (
        f"The SDK issues other commands now: {sorted((issuing - known) ^ NOT_LOOKED_FOR)}. On a replay "
        "adk_chat.durable.machine.RememberingVm has to find those that are recorded."
    )


@pytest.mark.parametrize(
    ("owner", "name"),
    [
        (server_context, "_restate_context_var"),
        (_sync_runner, "_SYNC_CALLABLE_CONTEXT"),
        (server_context, "DisconnectedException"),
        (vm, "DoProgressWaitExternalProgress"),
        (vm, "DoProgressCancelSignalReceived"),
        (vm, "DoProgressExecuteRun"),
        (vm, "Suspended"),
        (vm, "SingleUnresolvedFuture"),
        (vm, "FirstCompletedUnresolvedFuture"),
        (vm, "AllCompletedUnresolvedFuture"),
        (_node_tool, "NodeTool"),
        (_forwarding_artifact_service, "ForwardingArtifactService"),
    ],
)
def test_a_name_is_where_it_was(owner: Any, name: str) -> None:
    assert hasattr(owner, name), (
        f"{owner.__name__}.{name} is gone; see adk_chat/durable/seams.py for what it was used for."
    )


async def test_failures_are_counted_where_they_are_forgotten() -> None:
    plugin = ReflectAndRetryToolPlugin()
    tracker = getattr(plugin, "_tracker", None)
    assert isinstance(tracker, ScopedFailureTracker), (
        "ReflectAndRetryToolPlugin counts elsewhere than in _tracker now; a replay would count failures twice."
    )
    await tracker.increment("e-1", "tool")
    seams.forget_failures([plugin], "e-1")
    assert await tracker.increment("e-1", "tool") == 1
