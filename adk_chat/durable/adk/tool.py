"""Tool calls, and calls of workflow functions, as journaled steps."""

import asyncio
import contextlib
import copy
import inspect
import time
from collections.abc import Awaitable, Callable
from contextvars import copy_context
from types import CodeType, ModuleType
from typing import Any, TypeVar

from google.adk.agents.context import Context
from google.adk.events.event_actions import EventActions
from google.adk.tools.agent_tool import AgentTool
from google.adk.tools.base_tool import BaseTool
from google.adk.tools.tool_context import ToolContext
from pydantic import BaseModel, Field
from restate.ext import adk as restate_adk
from restate.extensions import current_context

from adk_chat.durable.adk import context_vars, seams, state, values
from adk_chat.durable.adk.call_order import Call, TurnThreads
from adk_chat.durable.adk.errors import ErrorRecord
from adk_chat.durable.adk.run_once import Outcome
from adk_chat.durable.journal.context_vars import changes, give_back
from adk_chat.durable.journal.journal import MAX_BYTES, Journal
from adk_chat.durable.journal.keys import digest

F = TypeVar("F", bound=Callable[..., Any])

_MARK = "__adk_chat_restate_tool__"
_IN_A_NODE = "__adk_chat_in_a_node__"
_ASKS_FOR_CONTEXT = (restate_adk.restate_context, restate_adk.restate_object_context, current_context)


def restate_tool(function: F) -> F:
    """Marks a tool function that needs Restate itself: timers, awakeables, calls, steps of its own.

    It runs outside a journaled step. A replay runs it again, up to the point that its own use of Restate reached.
    `restate.extensions.current_context()` returns its context. A function that calls the helpers of `restate.ext.adk`
    in its own body needs no mark.
    """
    setattr(function, _MARK, True)
    return function


def needs_restate(tool: BaseTool) -> bool:
    """Returns whether `tool` must run outside a journaled step.

    That is so if it is marked, plainly uses the Restate context, or runs an agent or a node, whose calls are the steps.
    """
    return isinstance(tool, AgentTool | seams.NodeTool) or _function_needs_restate(getattr(tool, "func", None))


def _function_needs_restate(function: object) -> bool:
    return (
        inspect.isasyncgenfunction(function)
        or inspect.isgeneratorfunction(function)
        or getattr(function, _MARK, False)
        or _asks_for_context(function)
    )


def _asks_for_context(function: Any) -> bool:
    function = inspect.unwrap(getattr(function, "__func__", function)) if callable(function) else None
    code = getattr(function, "__code__", None)
    if not isinstance(code, CodeType):
        return False
    used, scope = _names(code), getattr(function, "__globals__", {})
    named = [scope[name] for name in used if name in scope]
    # `adk.restate_context()` names the module first and then its attribute.
    named += [getattr(module, name, None) for module in named if isinstance(module, ModuleType) for name in used]
    return any(candidate is helper for candidate in named for helper in _ASKS_FOR_CONTEXT)


def _names(code: CodeType) -> set[str]:
    inner = [constant for constant in code.co_consts if isinstance(constant, CodeType)]
    return set(code.co_names).union(*(_names(constant) for constant in inner))


class ToolCall(BaseModel):
    """A tool call in the journal. `result` and `state_delta` are encoded by `values.encode`."""

    ended: float = Field(default_factory=time.time)
    result: Any = None
    actions: dict[str, Any] = {}
    state_delta: dict[str, Any] = {}
    end_invocation: bool = False
    error: ErrorRecord | None = None
    waited: bool = False
    """Whether it waited for something, so that the response's next call or another branch continued meanwhile."""
    args: Any = None
    """The arguments, if it changed them."""
    session_state: dict[str, Any] = {}
    """What it set in the session's state, bypassing the delta."""
    context_vars: dict[str, Any] = {}
    """The context variables that it set; see `context_vars.dump`."""

    def keep(self, context: Context, before: "_Before") -> None:
        """Keeps what the call did to `context`.

        Raises:
            UnkeepableError: if some of it cannot be kept.
        """
        invocation, delta = context.get_invocation_context(), context.actions.state_delta
        self.state_delta = values.encode_leniently(dict(delta), "state")
        self.actions = context.actions.model_dump(
            mode="json", by_alias=True, exclude_none=True, exclude_defaults=True, exclude={"state_delta"}, fallback=repr
        )
        self.end_invocation = invocation.end_invocation
        if before.args_changed():
            self.args = values.encode_leniently(before.args, "args")
        for key, value in invocation.session.state.items():
            if key not in delta and before.state.get(key, self) is not value:
                with contextlib.suppress(values.UnjournalableError):
                    self.session_state[key] = values.encode(value)

    def apply(self, context: Context, args: dict[str, Any]) -> None:
        """Applies to `context`, and to the arguments, what the call did."""
        actions = EventActions.model_validate(self.actions)
        for name in actions.model_fields_set:
            setattr(context.actions, name, getattr(actions, name))
        with state.known():
            context.get_invocation_context().session.state.update(values.decode(self.session_state))
        state.replay(context.state, values.decode(self.state_delta))
        seams.forward_artifacts(context, actions.artifact_delta)
        if self.end_invocation:
            context.get_invocation_context().end_invocation = True
        if self.args is not None:
            args.clear()
            args.update(values.decode(self.args))


class _Before:
    """What a call shares with ADK, as it was before the call."""

    def __init__(self, context: Context, args: dict[str, Any]) -> None:
        self.args = args
        self._args_then: dict[str, Any] | None = None
        with contextlib.suppress(Exception):  # workflow nodes may pass on any object
            self._args_then = copy.deepcopy(args)
        self.state = dict(context.get_invocation_context().session.state)

    def args_changed(self) -> bool:
        """Returns whether the call changed its arguments."""
        try:
            return self._args_then is not None and bool(self.args != self._args_then)
        except Exception:  # objects that cannot be compared
            return False


async def _once(
    journal: Journal,
    name: str,
    about: object,
    run: Callable[[], Awaitable[object]],
    context: Context | None,
    args: dict[str, Any],
    *,
    in_thread: bool = False,
) -> object:
    """Runs a call as a step. Returns or raises its outcome; a replay also applies what it did to `context`.

    Args:
        journal: the journal of the attempt.
        name: the name of the tool or function.
        about: the id of the call, or its arguments if it has none.
        run: makes the call.
        context: the tool's context; None for a function.
        args: the arguments.
        in_thread: whether it is a plain function in a thread of the turn. Under ADK it would block all others.
    """
    outcome: Outcome[object] = Outcome()
    recorded: list[ToolCall] = []  # made by this attempt, or by an earlier one
    beside = Call.current() or journal.wave().join()

    async def timed() -> object:
        async with asyncio.timeout(journal.step_timeout):
            return await (run() if in_thread else beside.noting(run()))

    async def call() -> bytes:
        before = None if context is None else _Before(context, args)
        began = copy_context()
        made = ToolCall(error=await outcome.of(timed()))  # made, and so ended, after the call
        made.waited = beside.waited
        made.context_vars = context_vars.dump(changes(began, copy_context()))
        try:
            made.result = None if made.error else _kept(outcome.value, of_tool=context is not None)
            if context is not None and before is not None:
                made.keep(context, before)
            data = made.model_dump_json(exclude_defaults=True).encode()
            if len(data) > MAX_BYTES:
                raise ValueError(f"it takes {len(data)} bytes; at most {MAX_BYTES}. Save it as an artifact")
        except ValueError as error:
            failure = ValueError(f"The result of tool {name} cannot be stored: {error}")
            made = ToolCall(error=outcome.fail(failure), waited=made.waited)
            data = made.model_dump_json().encode()
        recorded.append(made)
        return data

    def known(data: bytes) -> None:
        recorded.append(ToolCall.model_validate_json(data))
        if recorded[0].waited:
            beside.wait()

    with beside.in_step():
        data = await journal.step(f"tool {name}", call, digest(about), moved=context is None, known=known)
        await beside.end()
    made = recorded[0] if recorded else ToolCall.model_validate_json(data)
    journal.advance(made.ended)
    if not outcome.ran:
        give_back(context_vars.load(made.context_vars))
        if context is not None:
            made.apply(context, args)
    return outcome.result(made.error, lambda: values.decode(made.result))


def _kept(result: object, *, of_tool: bool) -> Any:
    kept = values.encode_leniently(result, "")
    # As ADK turns a result that is not a dictionary into a response.
    wrap = of_tool and isinstance(kept, dict) and not isinstance(result, dict) and not values.is_typed(kept)
    return {"result": kept} if wrap else kept


def durable_tools(run: seams.ToolRunner) -> seams.ToolRunner:
    """Makes a function that runs a tool, as `_caller._call_tool_async`, run it as a step."""

    async def run_tool(tool: BaseTool, args: dict[str, Any], tool_context: ToolContext) -> object:
        journal = Journal.current()
        if journal is None or needs_restate(tool):
            return await run(tool, args, tool_context)
        about = getattr(tool_context, "function_call_id", None) or args
        in_thread = _is_plain(tool) and _has_turn_threads(tool_context)
        return await _once(
            journal, tool.name, about, lambda: run(tool, args, tool_context), tool_context, args, in_thread=in_thread
        )

    return run_tool


def _is_plain(tool: BaseTool) -> bool:
    function = getattr(tool, "func", None)
    return function is not None and not _is_coroutine_function(function)


def _is_coroutine_function(function: object) -> bool:
    return any(map(inspect.iscoroutinefunction, (function, getattr(function, "__call__", None))))  # noqa: B004


def _has_turn_threads(context: Context | None) -> bool:
    """Returns whether plain functions run in threads of the turn, and not in threads that the user configured."""
    config = None if context is None else context.get_invocation_context().run_config
    return config is not None and isinstance(config.tool_thread_pool_config, TurnThreads)


def durable_tool_nodes(run_node: Any) -> Any:
    """Makes `_ToolNode._run_tool_with_plugin_callbacks` run its tool as a step, as an agent would."""

    async def run_durable_node(self: Any, *, ctx: Context, args: dict[str, Any]) -> Any:
        _make_durable(self.tool)
        return await run_node(self, ctx=ctx, args=args)

    return run_durable_node


def _make_durable(tool: BaseTool) -> None:
    if _IN_A_NODE in vars(tool):
        return
    original = tool.run_async

    async def run(_: BaseTool, args: dict[str, Any], context: ToolContext) -> object:
        return await original(args=args, tool_context=context)

    run_tool = durable_tools(run)

    async def run_async(*, args: dict[str, Any], tool_context: ToolContext) -> object:
        return await run_tool(tool, args, tool_context)

    vars(tool).update({"run_async": run_async, _IN_A_NODE: True})


def durable_function_nodes(invoke: Any) -> Any:
    """Makes `_function_node._invoke_callable` call the function of a workflow's node as a step."""

    async def invoke_durably(target: Callable[..., Any], kwargs: dict[str, Any], *, unwrapped: Any = None) -> Any:
        def run() -> Awaitable[object]:
            invoked: Awaitable[object] = invoke(target, kwargs, unwrapped=unwrapped)
            return invoked

        function = unwrapped or target
        journal = Journal.current()
        # With a context it may run other nodes, whose calls are steps of their own.
        with_context = any(isinstance(argument, Context) for argument in kwargs.values())
        if journal is None or with_context or _function_needs_restate(function):
            return await run()
        name = getattr(function, "__name__", type(function).__name__)
        in_thread = not _is_coroutine_function(function) and _has_turn_threads(seams.calling_context())
        return await _once(journal, name, kwargs, run, None, kwargs, in_thread=in_thread)

    return invoke_durably
