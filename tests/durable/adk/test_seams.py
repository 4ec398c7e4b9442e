"""Checks the private parts of ADK and OpenTelemetry that we use, and says which moved."""

import inspect
from typing import Any

import pytest
from google.adk.events import _abort_events
from google.adk.flows.llm_flows.extensions import _code_execution
from google.adk.flows.llm_flows.tools import _batch_executor, _caller
from google.adk.plugins._reflect_retry_utils import ScopedFailureTracker
from google.adk.plugins.reflect_retry_tool_plugin import ReflectAndRetryToolPlugin
from google.adk.telemetry import tracing
from google.adk.tools import _forwarding_artifact_service, _node_tool
from google.adk.utils import _sync_runner
from opentelemetry._logs import _internal

from adk_chat.durable.adk import seams


def test_abort_events_are_made_as_before() -> None:
    found = list(inspect.signature(_abort_events._build_abort_events).parameters)
    assert found == ["events", "invocation_id", "root_agent_name", "branch"], (
        f"_build_abort_events takes {found} now; adk_chat ends turns with it whose agent ignores a cancellation."
    )


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


@pytest.mark.parametrize(
    ("owner", "name"),
    [
        (_sync_runner, "_SYNC_CALLABLE_CONTEXT"),
        (_node_tool, "NodeTool"),
        (_forwarding_artifact_service, "ForwardingArtifactService"),
    ],
)
def test_a_name_is_where_it_was(owner: Any, name: str) -> None:
    assert hasattr(owner, name), f"{owner.__name__}.{name} is gone; adk_chat/durable/adk/seams.py says what for."


async def test_failures_are_counted_where_they_are_forgotten() -> None:
    plugin = ReflectAndRetryToolPlugin()
    tracker = getattr(plugin, "_tracker", None)
    assert isinstance(tracker, ScopedFailureTracker), (
        "ReflectAndRetryToolPlugin counts elsewhere than in _tracker now; a replay would count failures twice."
    )
    await tracker.increment("e-1", "tool")
    seams.forget_failures([plugin], "e-1")
    assert await tracker.increment("e-1", "tool") == 1
