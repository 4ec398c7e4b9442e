"""Every part of ADK, the Restate SDK, OpenTelemetry and asyncio that is replaced in a process that runs durable turns.

Importing this package changes nothing; `install` does. A replacement calls the original where no journal is open.
`tests/durable/test_patches.py` checks each row against the installed versions.
"""

import asyncio
from collections.abc import Callable
from functools import cache, update_wrapper
from inspect import isroutine
from typing import Any, NamedTuple

from google.adk.auth.exchanger.oauth2_credential_exchanger import OAuth2CredentialExchanger
from google.adk.auth.refresher.oauth2_credential_refresher import OAuth2CredentialRefresher
from google.adk.flows.llm_flows.base_llm_flow import BaseLlmFlow
from google.adk.flows.llm_flows.extensions import _code_execution
from google.adk.flows.llm_flows.tools import _batch_executor, _caller
from google.adk.runners import Runner
from google.adk.sessions.state import State
from google.adk.telemetry import tracing
from google.adk.tools.base_toolset import BaseToolset
from google.adk.utils import _sync_runner
from google.adk.workflow import _function_node
from google.adk.workflow._tool_node import _ToolNode
from opentelemetry.sdk.trace import Tracer
from restate.vm import VMWrapper

from adk_chat.durable.adk import call_order, code, context_vars, credentials, model, run, spans, state, tool, toolsets
from adk_chat.durable.journal import locks, seams
from adk_chat.durable.journal.wave import noting


class Patch(NamedTuple):
    """One attribute that is replaced."""

    owner: Any
    attribute: str
    takes: tuple[str, ...] | None
    """The parameters of the original, on which the replacement relies."""
    wrap: Callable[[Any], Any]
    """Takes the original and returns its replacement."""
    why: str
    public: str = "none"
    """The public way that upstream has by now, and why it is not taken."""

    def __str__(self) -> str:
        return f"{self.owner.__name__}.{self.attribute}"


PATCHES = (
    Patch(
        VMWrapper,
        "notify_input",
        ("self", "input_buf"),
        seams.keeping_input,
        "Keeps the recorded journal, which the SDK does not hand out.",
    ),
    Patch(VMWrapper, "sys_input", ("self",), seams.ending_input, "Notes where the recorded journal ends."),
    Patch(
        BaseLlmFlow,
        "_get_llm",
        ("self", "invocation_context"),
        model.durable_models,
        "Makes each model call a step, after every callback has run.",
        "Plugins: if a before_model_callback answers, ADK skips all later callbacks and limits.",
    ),
    Patch(
        _caller,
        "_call_tool_async",
        ("tool", "args", "tool_context"),
        tool.durable_tools,
        "Makes each tool call a step, between ADK's callbacks.",
        "Plugins: as for models.",
    ),
    Patch(
        _ToolNode,
        "_run_tool_with_plugin_callbacks",
        ("self", "ctx", "args"),
        tool.durable_tool_nodes,
        "Makes the tool call of a workflow's tool node a step.",
    ),
    Patch(
        _function_node,
        "_invoke_callable",
        ("target", "kwargs", "unwrapped"),
        tool.durable_function_nodes,
        "Makes the call of a workflow's function node a step.",
    ),
    Patch(
        _batch_executor,
        "_execute_prepared_function_calls",
        ("invocation_context", "prepared_calls", "call_executor", "live_session_id"),
        call_order.ordered_batches,
        "Starts the calls of one response in their order, although each waits for the journal.",
    ),
    Patch(
        _sync_runner,
        "_make_executor_sync_callable_runner",
        ("executor",),
        context_vars.keeping_context_vars,
        "Returns the context variables that a function sets in one of ADK's threads.",
    ),
    Patch(_code_execution, "asyncio", None, code.durable_code, "Makes each run of a model's code a step."),
    Patch(
        Runner,
        "_get_or_create_session",
        ("self", "user_id", "session_id", "get_session_config"),
        run.prepared_runs,
        "Prepares a run before ADK reads the session and makes the invocation's id.",
        "A before_run_callback comes after both.",
    ),
    Patch(
        OAuth2CredentialExchanger,
        "exchange",
        ("self", "auth_credential", "auth_scheme"),
        credentials.exchange_once,
        "Redeems an authorization code once.",
    ),
    Patch(
        OAuth2CredentialRefresher,
        "refresh",
        ("self", "auth_credential", "auth_scheme"),
        credentials.refresh_once,
        "Refreshes a token once.",
    ),
    Patch(
        BaseToolset,
        "get_tools_with_prefix",
        ("self", "readonly_context"),
        toolsets.listed_as_before,
        "Records which tools a toolset lists, so that a replay does not depend on an MCP server.",
    ),
    Patch(
        State,
        "__setitem__",
        ("self", "key", "value"),
        state.recorded_items,
        "Records what callbacks write into the state.",
    ),
    Patch(State, "update", ("self", "delta"), state.recorded_updates, "Records what callbacks write into the state."),
    Patch(
        Tracer,
        "start_span",
        None,
        spans.replayed_spans,
        "Gives spans the same ids on a replay, and emits each once.",
        "A TracerProvider of ours: a process has one, and it is the user's (Langfuse, Phoenix, or ADK's own).",
    ),
    Patch(
        tracing,
        "set_operation_details_attributes_from_request",
        ("operation_details_attributes", "llm_request"),
        spans.described_if_recorded,
        "ADK describes the whole history for each call, even if nobody records it.",
    ),
    *(
        Patch(kind, name, ("self",), wrap, "Knows which locks an attempt holds, and releases them at its end.")
        for kind in (asyncio.Lock, asyncio.Semaphore)
        for name, wrap in (("acquire", locks.followed_acquire), ("release", locks.followed_release))
    ),
)


@cache
def install() -> None:
    """Replaces everything in `PATCHES`, once in a process. `ChatService` and `RestatePlugin` call it."""
    for patch in PATCHES:
        original = getattr(patch.owner, patch.attribute)
        replacement = patch.wrap(original)
        if isroutine(original):
            update_wrapper(replacement, original)
        setattr(patch.owner, patch.attribute, replacement)
    seams.drives(noting, "code")
