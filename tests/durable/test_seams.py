"""Holds what is private upstream against the installed versions, and says what moved."""

import ast
import inspect
import re
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import google.adk
import pytest
from google.adk.flows.llm_flows.base_llm_flow import BaseLlmFlow
from google.adk.flows.llm_flows.tools import _caller
from google.adk.plugins._reflect_retry_utils import ScopedFailureTracker
from google.adk.plugins.reflect_retry_tool_plugin import ReflectAndRetryToolPlugin
from google.adk.runners import Runner
from google.adk.tools import _node_tool
from google.adk.workflow import _function_node
from google.adk.workflow._tool_node import _ToolNode
from restate import server_context, vm

import adk_chat.durable  # noqa: F401  installs the wrappers
from adk_chat.durable import seams

# The rest of what those modules use: these await nothing that another lane brings about.
NOT_CONCURRENT = {
    "google.adk.workflow._parallel_worker": {"gather", "wait_for", "shield"},
}
# These run what journals nothing, or one task that its maker waits for.
ONE_LANE = {
    "agents/context.py",
    "agents/llm_agent.py",
    "flows/llm_flows/extensions/_agent_transfer.py",
    "flows/llm_flows/tools/_agent_tools.py",
    "flows/llm_flows/tools/_live_caller.py",
    "workflow/_dynamic_node_scheduler.py",
    "workflow/_function_node.py",
    "workflow/_node_runner_utils.py",
}


def parameters(function: Callable[..., Any]) -> list[str]:
    return list(inspect.signature(function).parameters)


@pytest.mark.parametrize(
    ("owner", "name", "takes", "used_for"),
    [
        (BaseLlmFlow, "_get_llm", ["self", "invocation_context"], "making model calls durable"),
        (_caller, "_call_tool_async", ["tool", "args", "tool_context"], "making tool calls durable"),
        (Runner, "_get_or_create_session", ["self", "arguments"], "opening the journal before a run"),
        (
            server_context.ServerInvocationContext,
            "create_poll_or_cancel_coroutine",
            ["self", "unresolved_future"],
            "awaiting the journal in lanes",
        ),
        (vm.VMWrapper, "is_completed", ["self", "handle"], "awaiting the journal in lanes"),
        (vm.VMWrapper, "is_replaying", ["self"], "emitting spans once"),
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


@pytest.mark.parametrize("module", seams.CONCURRENT, ids=lambda module: module.__name__)
def test_what_runs_in_parallel_does_so_as_it_did(module: ModuleType) -> None:
    tree = ast.parse(inspect.getsource(module))
    used = {
        node.func.attr
        for node in ast.walk(tree)
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and isinstance(node.func.value, ast.Name)
        and node.func.value.id == "asyncio"
    }
    passed_on = {"create_task"} if "run(asyncio.create_task" in inspect.getsource(module) else set()
    known = seams.CONCURRENT[module] | NOT_CONCURRENT.get(module.__name__, set())
    assert used | passed_on == known, (
        f"{module.__name__} uses {sorted(used)} of asyncio now, not {sorted(known)}; what it runs in parallel may no "
        "longer replay in order (adk_chat/durable/concurrency.py)."
    )


def test_nothing_else_runs_in_parallel() -> None:
    root = Path(inspect.getfile(google.adk)).parent
    found = set()
    for folder in ("agents", "flows", "workflow"):
        for file in (root / folder).rglob("*.py"):
            if re.search(r"asyncio\.(create_task|gather|TaskGroup|ensure_future)\b", file.read_text()):
                found.add(file.relative_to(root).as_posix())
    known = {Path(inspect.getfile(module)).relative_to(root).as_posix() for module in seams.CONCURRENT}
    assert found - known == ONE_LANE, (
        f"ADK runs tasks in other modules now: {sorted((found - known) ^ ONE_LANE)}. Either they journal nothing, or "
        "adk_chat.durable.seams.CONCURRENT has to know them."
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


async def test_failures_are_counted_where_they_are_forgotten() -> None:
    plugin = ReflectAndRetryToolPlugin()
    tracker = getattr(plugin, "_tracker", None)
    assert isinstance(tracker, ScopedFailureTracker), (
        "ReflectAndRetryToolPlugin counts elsewhere than in _tracker now; a replay would count failures twice."
    )
    await tracker.increment("e-1", "tool")
    seams.forget_failures([plugin], "e-1")
    assert await tracker.increment("e-1", "tool") == 1
