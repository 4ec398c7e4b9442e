"""The private parts of ADK and of the Restate SDK that durability rests on, all of them.

Everything else in this package uses public names. `tests/durable/test_seams.py` holds each entry of this module
against the installed versions and says what moved. A wrapper that is installed here falls straight through to what it
wraps as long as no journal is open (`adk_chat.durable.journal`).
"""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Iterable
from types import ModuleType
from typing import Any, cast

import restate
from google.adk.agents import parallel_agent
from google.adk.agents.context import Context
from google.adk.agents.invocation_context import InvocationContext
from google.adk.flows.llm_flows.base_llm_flow import BaseLlmFlow
from google.adk.flows.llm_flows.tools import _batch_executor, _caller
from google.adk.models.base_llm import BaseLlm
from google.adk.plugins._reflect_retry_utils import ScopedFailureTracker
from google.adk.plugins.base_plugin import BasePlugin
from google.adk.runners import Runner
from google.adk.sessions.session import Session
from google.adk.tools._node_tool import NodeTool
from google.adk.tools.base_tool import BaseTool
from google.adk.tools.tool_context import ToolContext
from google.adk.workflow import _function_node, _node_runner, _parallel_worker, _workflow
from google.adk.workflow._tool_node import _ToolNode
from google.adk.workflow.utils import _replay_sequence_barrier
from restate import server_context, vm
from restate._internal import VMException  # type: ignore[import-not-found]
from restate.exceptions import SdkInternalBaseException, SdkInternalException
from restate.serde import BytesSerde

__all__ = ["NodeTool"]

UnresolvedFuture = vm.UnresolvedFuture
DisconnectedException = server_context.DisconnectedException
JournalError = VMException
"""What the SDK raises where a handler does on a replay what it did not do before."""
AttemptOver = SdkInternalBaseException
"""What the SDK raises in a handler whose attempt is over: suspended, disconnected or failed. Never swallow it."""

Poll = Callable[[UnresolvedFuture], Coroutine[Any, Any, None]]


def attempt_over() -> SdkInternalBaseException:
    """The exception that ends an attempt without being an `Exception`, so that no agent's handler sees it."""
    return SdkInternalException()


# --- Restate: the context of the running handler --------------------------------------------------------------


def running_context() -> restate.Context | None:
    """The context of the Restate handler that runs here, or None outside one and inside a journaled step."""
    context = server_context._restate_context_var.get(None)
    return context if isinstance(context, server_context.ServerInvocationContext) else None


def replace_context(context: object) -> None:
    """Make `restate.extensions.current_context()` answer `context` in the current `contextvars` context."""
    server_context._restate_context_var.set(cast(restate.Context, context))


# --- Restate: journaling a value that is at hand -----------------------------------------------------------------


async def record(context: restate.Context, name: str, make: Callable[[], bytes]) -> bytes:
    """Journal what `make` returns, as `ctx.run` does, without waiting until the engine has confirmed it.

    The engine takes what a handler sends in order, so whatever is journaled after it is not stored without it. For a
    value that feeds a later command that is enough, and saves a round trip.
    """
    server = cast(server_context.ServerInvocationContext, context)
    run = server.vm.sys_run(name)
    server_context.update_restate_context_is_replaying(server.vm)
    if not run.replayed:
        value = make()
        server.vm.propose_run_completion_success(run.handle, value)
        return value
    recorded: bytes = await server.create_future(run.handle, BytesSerde())
    return recorded


def is_replaying(context: restate.Context) -> bool:
    """Whether the handler of `context` is still doing what it did in an earlier attempt."""
    return cast(server_context.ServerInvocationContext, context).vm.is_replaying()


# --- Restate: awaiting ----------------------------------------------------------------------------------------


def route_awaits(context: restate.Context, route: Callable[[Poll], Poll]) -> None:
    """Let `route` decide how the futures of `context` are awaited; it is given the SDK's own way.

    That way may be cancelled and begun again: what it has taken out of the state machine is sent all the same.
    """
    server = cast(Any, context)
    send = server.send
    server.send = lambda event: asyncio.shield(send(event))
    server.create_poll_or_cancel_coroutine = route(server.create_poll_or_cancel_coroutine)


def is_completed(context: restate.Context, future: UnresolvedFuture) -> bool:
    """Whether the engine's answer to `future` is here, without waiting for more."""
    if isinstance(future, vm.SingleUnresolvedFuture):
        return cast(Any, context).vm.is_completed(future.handle) is True
    anyone = any if isinstance(future, vm.FirstCompletedUnresolvedFuture) else all
    return anyone(is_completed(context, child) for child in future.children)


def first_completed(futures: list[UnresolvedFuture]) -> UnresolvedFuture:
    """The future that completes with the first of `futures`, in the order of the journal."""
    return vm.FirstCompletedUnresolvedFuture(futures)


# --- ADK: model calls -----------------------------------------------------------------------------------------


def wrap_models(wrap: Callable[[BaseLlm], BaseLlm]) -> None:
    """Let `wrap` replace each model that an ADK flow is about to call, after every callback has run."""
    original = BaseLlmFlow._get_llm

    async def get_llm(self: BaseLlmFlow, invocation_context: InvocationContext) -> BaseLlm:
        return wrap(await original(self, invocation_context))

    BaseLlmFlow._get_llm = get_llm  # type: ignore[method-assign]


# --- ADK: tool calls ------------------------------------------------------------------------------------------

ToolRunner = Callable[[BaseTool, dict[str, Any], ToolContext], Awaitable[object]]


def wrap_tool_calls(wrap: Callable[[ToolRunner], ToolRunner]) -> None:
    """Let `wrap` replace how ADK runs one tool, between its before-tool and its after-tool callbacks."""
    original: ToolRunner = _caller._call_tool_async
    run = wrap(original)

    async def call_tool(tool: BaseTool, args: dict[str, Any], tool_context: ToolContext) -> object:
        return await run(tool, args, tool_context)

    _caller._call_tool_async = call_tool


def before_tool_node(prepare: Callable[[BaseTool], None]) -> None:
    """Call `prepare` with the tool of each tool node of a workflow that is about to run."""
    original = _ToolNode._run_tool_with_plugin_callbacks

    async def run_tool(self: _ToolNode, *, ctx: Context, args: dict[str, Any]) -> Any:
        prepare(self.tool)
        return await original(self, ctx=ctx, args=args)

    _ToolNode._run_tool_with_plugin_callbacks = run_tool  # type: ignore[method-assign]


FunctionRunner = Callable[[Callable[..., Any], dict[str, Any]], Awaitable[object]]


def wrap_function_nodes(wrap: Callable[[FunctionRunner], FunctionRunner]) -> None:
    """Let `wrap` replace how ADK calls the function of a workflow's node, given it and its arguments by name."""
    original = vars(_function_node)["_invoke_callable"]

    async def invoke(target: Callable[..., Any], kwargs: dict[str, Any], *, unwrapped: Any = None) -> Any:
        async def call(_: Callable[..., Any], arguments: dict[str, Any]) -> object:
            return await original(target, arguments, unwrapped=unwrapped)

        return await wrap(call)(unwrapped or target, kwargs)

    vars(_function_node)["_invoke_callable"] = invoke


# --- ADK: what runs in parallel -------------------------------------------------------------------------------

CONCURRENT: dict[ModuleType, set[str]] = {
    parallel_agent: {"TaskGroup", "Queue", "Event"},
    _workflow: {"create_task", "wait", "gather"},
    _parallel_worker: {"create_task", "wait"},
    _node_runner: {"sleep", "wait_for"},
    _replay_sequence_barrier: {"Event", "wait_for"},
    _batch_executor: {"create_task", "gather"},
}
"""The modules of ADK that run things in parallel, and what of asyncio they do it with."""


class _Asyncio:
    """asyncio, with some of its names replaced."""

    def __init__(self, replaced: dict[str, object]) -> None:
        vars(self).update(replaced)

    def __getattr__(self, name: str) -> object:
        return getattr(asyncio, name)


def replace_asyncio(**replacements: object) -> None:
    """Put `replacements` in the place of what `CONCURRENT` names, in those modules only."""
    for module, names in CONCURRENT.items():
        vars(module)["asyncio"] = _Asyncio({name: replacements[name] for name in names})


# --- ADK: the start of a run ----------------------------------------------------------------------------------


def before_run(prepare: Callable[[Runner], Awaitable[None]]) -> None:
    """Call `prepare` as each run of a Runner begins, before ADK reads the session and makes the invocation's id."""
    original = Runner._get_or_create_session

    async def get_or_create_session(self: Runner, **arguments: Any) -> Session:
        await prepare(self)
        return await original(self, **arguments)

    Runner._get_or_create_session = get_or_create_session  # type: ignore[method-assign]


def forget_failures(plugins: Iterable[BasePlugin], invocation: str) -> None:
    """Let ADK's plugins that count failures forget what an earlier attempt at an invocation has counted.

    Args:
        plugins: those of a Runner; plugins of other kinds are left alone.
        invocation: how the invocation's id begins.
    """
    trackers = [getattr(plugin, "_tracker", None) for plugin in plugins]
    for tracker in trackers:
        if isinstance(tracker, ScopedFailureTracker):
            counters = tracker._scoped_failure_counters
            for scope in [scope for scope in counters if scope.startswith(invocation)]:
                del counters[scope]
