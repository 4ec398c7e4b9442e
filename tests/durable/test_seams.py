"""Holds what is private upstream against the installed versions, and says what moved."""

import inspect
from collections.abc import Callable
from typing import Any

import pytest
from google.adk.flows.llm_flows.base_llm_flow import BaseLlmFlow
from google.adk.flows.llm_flows.tools import _batch_executor, _caller
from google.adk.runners import Runner
from google.adk.tools import _node_tool
from restate import server_context, vm

import adk_chat.durable  # noqa: F401  installs the wrappers


def parameters(function: Callable[..., Any]) -> list[str]:
    return list(inspect.signature(function).parameters)


@pytest.mark.parametrize(
    ("owner", "name", "takes", "used_for"),
    [
        (BaseLlmFlow, "_get_llm", ["self", "invocation_context"], "making model calls durable"),
        (_caller, "_call_tool_async", ["tool", "args", "tool_context"], "making tool calls durable"),
        (
            _caller,
            "_execute_single_prepared_call_async",
            ["invocation_context", "prepared_call", "agent"],
            "running the function calls of a response in an order that replays",
        ),
        (
            _batch_executor,
            "_execute_prepared_function_calls_async",
            ["invocation_context", "prepared_calls", "agent"],
            "running the function calls of a response in an order that replays",
        ),
        (
            _batch_executor,
            "_execute_prepared_function_calls",
            ["invocation_context", "prepared_calls", "call_executor", "live_session_id"],
            "running the function calls of a response in an order that replays",
        ),
        (Runner, "_get_or_create_session", ["self", "arguments"], "opening the journal before a run"),
        (
            server_context.ServerInvocationContext,
            "create_poll_or_cancel_coroutine",
            ["self", "unresolved_future"],
            "awaiting the journal in lanes",
        ),
        (vm.VMWrapper, "is_completed", ["self", "handle"], "awaiting the journal in lanes"),
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
    source = inspect.getsource(_batch_executor.handle_function_call_list_async)
    assert "await _execute_prepared_function_calls_async(" in source, (
        "ADK runs batches of function calls by another way; they would not replay in order."
    )


@pytest.mark.parametrize(
    ("owner", "name"),
    [
        (server_context, "_restate_context_var"),
        (server_context, "DisconnectedException"),
        (vm, "SingleUnresolvedFuture"),
        (vm, "FirstCompletedUnresolvedFuture"),
        (vm, "AllCompletedUnresolvedFuture"),
        (_node_tool, "NodeTool"),
    ],
)
def test_a_name_is_where_it_was(owner: Any, name: str) -> None:
    assert hasattr(owner, name), (
        f"{owner.__name__}.{name} is gone; see adk_chat/durable/seams.py for what it was used for."
    )
