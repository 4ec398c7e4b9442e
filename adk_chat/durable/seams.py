"""The private parts of ADK and of the Restate SDK that durability rests on, all of them.

Everything else in this package uses public names. `tests/durable/test_seams.py` holds each entry of this module
against the installed versions and says what moved. A wrapper that is installed here falls straight through to what it
wraps as long as no journal is open (`adk_chat.durable.journal`), and says by `functools.wraps` what that takes.
"""

import asyncio
import gc
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine, Iterable, MutableMapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from enum import Enum
from functools import wraps
from math import inf
from types import AsyncGeneratorType, CodeType, CoroutineType, FrameType, GeneratorType
from typing import Any, cast

import restate
from google.adk.agents.context import Context
from google.adk.agents.invocation_context import InvocationContext
from google.adk.events import _abort_events
from google.adk.events.event import Event
from google.adk.flows.llm_flows.base_llm_flow import BaseLlmFlow
from google.adk.flows.llm_flows.extensions import _code_execution
from google.adk.flows.llm_flows.tools import _batch_executor, _caller
from google.adk.models.base_llm import BaseLlm
from google.adk.models.llm_request import LlmRequest
from google.adk.plugins._reflect_retry_utils import ScopedFailureTracker
from google.adk.plugins.base_plugin import BasePlugin
from google.adk.runners import Runner
from google.adk.sessions.session import Session
from google.adk.telemetry import tracing
from google.adk.tools._forwarding_artifact_service import ForwardingArtifactService
from google.adk.tools._node_tool import NodeTool
from google.adk.tools.base_tool import BaseTool
from google.adk.tools.tool_context import ToolContext
from google.adk.utils import _sync_runner
from google.adk.workflow import _function_node
from google.adk.workflow._tool_node import _ToolNode
from opentelemetry import _logs
from opentelemetry._logs import _internal
from restate import server_context, vm
from restate.exceptions import RetryableError, SdkInternalBaseException, SdkInternalException, SuspendedException

from adk_chat.durable.entries import Entries

__all__ = ["ForwardingArtifactService", "NodeTool"]

UnresolvedFuture = vm.UnresolvedFuture
DisconnectedException = server_context.DisconnectedException
AttemptOver = SdkInternalBaseException
"""What the SDK raises in a handler whose attempt is over: suspended, disconnected or failed. Never swallow it."""


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


# --- Restate: what the engine has sent ------------------------------------------------------------------------

_RECEIVED, _BEFORE = "adk_chat_received", "adk_chat_before"


def keep_entries() -> None:
    """Make each state machine of the SDK keep the bytes it receives before its handler runs, which are the journal."""
    notify, begin = vm.VMWrapper.notify_input, vm.VMWrapper.sys_input

    @wraps(notify)
    def notify_input(self: vm.VMWrapper, input_buf: bytes) -> None:
        kept = vars(self)
        if _BEFORE not in kept:
            kept.setdefault(_RECEIVED, []).append(bytes(input_buf))
        notify(self, input_buf)

    def sys_input(self: vm.VMWrapper) -> vm.Invocation:
        vars(self)[_BEFORE] = vars(self).pop(_RECEIVED, None)
        return begin(self)

    vm.VMWrapper.notify_input = notify_input  # type: ignore[method-assign]
    vm.VMWrapper.sys_input = sys_input  # type: ignore[method-assign]


def entries(context: restate.Context) -> Entries:
    """The journal with which the attempt of `context` began; it can be had once.

    Raises:
        RetryableError: the attempt began before `keep_entries`, in a handler that made a `RestatePlugin`.
    """
    machine = cast(server_context.ServerInvocationContext, context).vm
    received: list[bytes] | None = vars(machine).get(_BEFORE)
    vars(machine)[_BEFORE] = None
    if received is None and machine.is_replaying():
        raise RetryableError("The journal was not kept, but is from now on.", retry_after=timedelta(milliseconds=1))
    found = Entries()
    for data in received or ():
        found.feed(data)
    return found


# --- Restate: the state machine -------------------------------------------------------------------------------


def state_machine(context: restate.Context) -> Any:
    """The state machine of an attempt."""
    return cast(server_context.ServerInvocationContext, context).vm


def set_state_machine(context: restate.Context, machine: Any) -> None:
    """Let all that code does by `context` go to `machine`."""
    cast(server_context.ServerInvocationContext, context).vm = machine


def run_of(handle: int, *, replayed: bool) -> vm.Run:
    """What the state machine answers to who asks for a run."""
    return vm.Run(replayed=replayed, handle=handle)


def failure(code: int, message: str) -> vm.Failure:
    """A failure, for the state machine."""
    return vm.Failure(code=code, message=message)


def when_handler_ends(context: restate.Context, close: Callable[[], Awaitable[None]]) -> None:
    """Await `close` when the handler of `context` has ended, in whatever way."""
    server_context.set_extension_data(context, "adk_chat", _Closing(close))


class _Closing:
    def __init__(self, close: Callable[[], Awaitable[None]]) -> None:
        self.__close__ = close


# --- Restate: awaiting ----------------------------------------------------------------------------------------


class Progress(Enum):
    """What the state machine says when it is polled."""

    MADE = "made"
    WAIT = "wait"
    CANCELLED = "cancelled"


class Engine:
    """The connection of an attempt to the engine, for who awaits in the place of the SDK."""

    def __init__(self, context: restate.Context) -> None:
        self._server: Any = context

    def let_go(self) -> None:
        """Drop the reference to the context. The handler has ended."""
        self._server = None

    async def send_output(self) -> None:
        """Send what was issued."""
        await self._server.take_and_send_output()

    async def receive(self) -> Any:
        """What the engine sends next."""
        return await self._server.receive()

    def notify(self, received: Any) -> bool:
        """Tell the state machine what was received; gives whether it was the last.

        Raises:
            DisconnectedException: there is no connection any more.
        """
        if received["type"] == "http.disconnect":
            raise DisconnectedException
        if received["type"] != "http.request":
            return False
        if received.get("body"):
            self._server.vm.notify_input(received["body"])
        if received.get("more_body", False):
            return False
        self.close()
        return True

    def close(self) -> None:
        """Let nothing more come from the engine: the attempt is suspended where it waits for something."""
        self._server.vm.notify_input_closed()

    def progress(self, handles: list[int]) -> Progress | int:
        """Poll for any of the results behind `handles`; a number is the handle of a run that is to be executed.

        Raises:
            SdkInternalBaseException: the attempt is suspended, or broken.
        """
        answer = self._server.vm.do_progress(first_completed([single(handle) for handle in handles]))
        if isinstance(answer, Exception):
            raise answer
        if isinstance(answer, vm.Suspended):
            raise SuspendedException
        if isinstance(answer, vm.DoProgressExecuteRun):
            return answer.handle
        if isinstance(answer, vm.DoProgressCancelSignalReceived):
            return Progress.CANCELLED
        return Progress.WAIT if isinstance(answer, vm.DoProgressWaitExternalProgress) else Progress.MADE

    def action(self, handle: int) -> Callable[[], Awaitable[None]] | None:
        """What code has handed to `ctx.run` behind a handle."""
        found: Callable[[], Awaitable[None]] | None = self._server.run_coros_to_execute.pop(handle, None)
        return found

    def keep(self, task: "asyncio.Future[Any]") -> None:
        """Let the SDK end a task when the attempt ends."""
        self._server.tasks.add(task)

    async def take(self, handle: int) -> Any:
        """Take a result that is there."""
        return await self._server.must_take_notification(handle)

    def take_now(self, handle: int) -> Any:
        """The same, for who cannot wait until what has gone wrong is sent."""
        result = self._server.vm.take_notification(handle)
        if isinstance(result, vm.Failure):
            raise restate.TerminalError(result.message, result.code)
        return result


def route_awaits(context: restate.Context, wait: Callable[[UnresolvedFuture], Coroutine[Any, Any, None]]) -> None:
    """Let all that code awaits of `context` be awaited by `wait`."""
    cast(Any, context).create_poll_or_cancel_coroutine = wait


def is_completed(machine: Any, future: UnresolvedFuture) -> bool:
    """Whether the engine's answer to `future` is here, without waiting for more."""
    if isinstance(future, vm.SingleUnresolvedFuture):
        return machine.is_completed(future.handle) is True
    anyone = any if isinstance(future, vm.FirstCompletedUnresolvedFuture) else all
    return anyone(is_completed(machine, child) for child in future.children)


def incomplete(machine: Any, future: UnresolvedFuture) -> list[int]:
    """The handles of all that `future` waits for still."""
    if isinstance(future, vm.SingleUnresolvedFuture):
        return [] if machine.is_completed(future.handle) else [future.handle]
    return [handle for child in future.children for handle in incomplete(machine, child)]


def handles(future: UnresolvedFuture) -> set[int]:
    """The handles of all that `future` consists of."""
    if isinstance(future, vm.SingleUnresolvedFuture):
        return {future.handle}
    return {handle for child in future.children for handle in handles(child)}


def rank(future: UnresolvedFuture, ranks: dict[int, int]) -> float:
    """When `future` was completed: the place in the journal of what completed it, given those of the handles."""
    if isinstance(future, vm.SingleUnresolvedFuture):
        return ranks.get(future.handle, inf)
    last = min if isinstance(future, vm.FirstCompletedUnresolvedFuture) else max
    return last((rank(child, ranks) for child in future.children), default=inf)


def single(handle: int) -> UnresolvedFuture:
    """The future of one handle."""
    return vm.SingleUnresolvedFuture(handle)


def first_completed(futures: list[UnresolvedFuture]) -> UnresolvedFuture:
    """The future that completes with the first of `futures`."""
    return vm.FirstCompletedUnresolvedFuture(futures)


# --- asyncio: locks -------------------------------------------------------------------------------------------


def follow_locks(acquired: Callable[[Any], None], released: Callable[[Any], None]) -> None:
    """Have it said when a lock or a semaphore of asyncio was acquired, and when it was released."""

    def follow(kind: Any) -> None:
        acquire, release = kind.acquire, kind.release

        async def followed_acquire(self: Any) -> Any:
            got = await acquire(self)
            acquired(self)
            return got

        def followed_release(self: Any) -> None:
            release(self)
            released(self)

        kind.acquire, kind.release = followed_acquire, followed_release

    follow(asyncio.Lock)
    follow(asyncio.Semaphore)


# --- asyncio: tasks and timers --------------------------------------------------------------------------------


def follow_timers(loop: asyncio.AbstractEventLoop, was_set: Callable[[asyncio.TimerHandle], None]) -> None:
    """Have it said of each timer that is set on `loop`, by the code that sets it."""

    def follow(original: Callable[..., asyncio.TimerHandle]) -> Callable[..., asyncio.TimerHandle]:
        def followed(*args: Any, **options: Any) -> asyncio.TimerHandle:
            timer = original(*args, **options)
            was_set(timer)
            return timer

        return followed

    # uvloop's call_later and call_at know nothing of each other; asyncio's own calls the one by the other.
    for name in ("call_later", "call_at"):
        setattr(loop, name, follow(getattr(loop, name)))


def awaited_by(task: "asyncio.Task[Any]") -> "asyncio.Future[Any] | None":
    """The future that a task waits for; None if it is about to run."""
    return getattr(task, "_fut_waiter", None)


def gathered(future: "asyncio.Future[Any]") -> "list[asyncio.Future[Any]]":
    """What a future of `asyncio.gather` waits for still; any other is itself what is waited for."""
    children: list[asyncio.Future[Any]] | None = getattr(future, "_children", None)
    if children is None:
        return [future]
    return [one for child in children if not child.done() for one in gathered(child)]


_driven: dict[CodeType, str] = {}


def drives(function: Callable[..., Any], variable: str) -> None:
    """Let it be known that a generator runs a coroutine by itself, which it has in `variable`; `frames` looks there."""
    _driven[function.__code__] = variable


def frames(task: "asyncio.Task[Any]") -> list[FrameType]:
    """The frames of what a task runs, down to the one that waits, as far as they can be seen."""
    found = []
    running: Any = task.get_coro()
    while running is not None:
        kind = next((kind for kind in ("cr", "ag", "gi") if hasattr(running, f"{kind}_frame")), None)
        if kind is None:
            # What `async for` awaits, and the like, tells what it runs to the garbage collector alone.
            running = next(filter(_runs, gc.get_referents(running)), None)
            continue
        frame: FrameType | None = getattr(running, f"{kind}_frame")
        if frame is None:
            break
        found.append(frame)
        running = getattr(running, "gi_yieldfrom" if kind == "gi" else f"{kind}_await")
        if running is None and frame.f_code in _driven:
            running = frame.f_locals.get(_driven[frame.f_code])
    return found


def _runs(found: object) -> bool:
    return isinstance(found, (CoroutineType, AsyncGeneratorType, GeneratorType)) or type(found) in _RUNS


async def _some() -> AsyncGenerator[None, None]:
    yield


async def _none() -> None: ...


_coroutine = _none()
_RUNS = (type(anext(_some())), type(anext(_some(), None)), type(_some().aclose()), type(_coroutine.__await__()))
"""What is awaited in the place of an async generator, or of a coroutine."""
_coroutine.close()


# --- ADK: model calls -----------------------------------------------------------------------------------------


def wrap_models(wrap: Callable[[BaseLlm, InvocationContext], BaseLlm]) -> None:
    """Let `wrap` replace each model that an ADK flow is about to call, after every callback has run."""
    original = BaseLlmFlow._get_llm

    @wraps(original)
    async def get_llm(self: BaseLlmFlow, invocation_context: InvocationContext) -> BaseLlm:
        return wrap(await original(self, invocation_context), invocation_context)

    BaseLlmFlow._get_llm = get_llm  # type: ignore[method-assign]


def describe_requests_if(somebody_records: Callable[[], bool]) -> None:
    """Let ADK describe a model's request for spans and logs only if somebody records them, as OpenTelemetry means it.

    By itself it describes all of the session's events for each call, and then looks whether that is of use.
    """
    original = vars(tracing)["set_operation_details_attributes_from_request"]

    def set_attributes(attributes: MutableMapping[str, Any], request: LlmRequest) -> None:
        if somebody_records():
            original(attributes, request)

    vars(tracing)["set_operation_details_attributes_from_request"] = set_attributes


def logs_are_recorded() -> bool:
    """Whether somebody has set up where OpenTelemetry's logs go."""
    provider = _logs.get_logger_provider()
    return not isinstance(provider, (_logs.NoOpLoggerProvider, _internal.ProxyLoggerProvider))


# --- ADK: tool calls ------------------------------------------------------------------------------------------

ToolRunner = Callable[[BaseTool, dict[str, Any], ToolContext], Awaitable[object]]


def wrap_tool_calls(wrap: Callable[[ToolRunner], ToolRunner]) -> None:
    """Let `wrap` replace how ADK runs one tool, between its before-tool and its after-tool callbacks."""
    original: ToolRunner = _caller._call_tool_async
    run = wrap(original)

    @wraps(original)
    async def call_tool(tool: BaseTool, args: dict[str, Any], tool_context: ToolContext) -> object:
        return await run(tool, args, tool_context)

    _caller._call_tool_async = call_tool


def forward_artifacts(context: Context, saved: dict[str, int]) -> None:
    """Note with the caller of an agent as a tool which artifacts were saved in `context`, as saving them does."""
    service = context._invocation_context.artifact_service
    if saved and isinstance(service, ForwardingArtifactService):
        service.tool_context.actions.artifact_delta.update(saved)
        forward_artifacts(service.tool_context, saved)


BatchRunner = Callable[[int, Coroutine[Any, Any, Any]], Coroutine[Any, Any, Any]]


def wrap_batches(runner: Callable[[int], BatchRunner | None]) -> None:
    """Let what `runner` gives for a number of calls run those that ADK makes for one response, each in a task.

    It is given the number of a call and what ADK would run in its place.
    """
    original = vars(_batch_executor)["_execute_prepared_function_calls"]

    async def execute(context: InvocationContext, prepared: list[Any], *, call_executor: Any, **more: Any) -> Any:
        run = runner(len(prepared))
        numbers = {id(call): number for number, call in enumerate(prepared)}

        def executor(call: Any) -> Any:
            made = call_executor(call)
            return made if run is None else run(numbers[id(call)], made)

        return await original(context, prepared, call_executor=executor, **more)

    vars(_batch_executor)["_execute_prepared_function_calls"] = execute


def before_tool_node(prepare: Callable[[BaseTool], None]) -> None:
    """Call `prepare` with the tool of each tool node of a workflow that is about to run."""
    original = _ToolNode._run_tool_with_plugin_callbacks

    @wraps(original)
    async def run_tool(self: _ToolNode, *, ctx: Context, args: dict[str, Any]) -> Any:
        prepare(self.tool)
        return await original(self, ctx=ctx, args=args)

    _ToolNode._run_tool_with_plugin_callbacks = run_tool  # type: ignore[method-assign]


FunctionRunner = Callable[[Callable[..., Any], dict[str, Any]], Awaitable[object]]


def wrap_function_nodes(wrap: Callable[[FunctionRunner], FunctionRunner]) -> None:
    """Let `wrap` replace how ADK calls the function of a workflow's node, given it and its arguments by name."""
    original = vars(_function_node)["_invoke_callable"]

    @wraps(original)
    async def invoke(target: Callable[..., Any], kwargs: dict[str, Any], *, unwrapped: Any = None) -> Any:
        async def call(_: Callable[..., Any], arguments: dict[str, Any]) -> object:
            return await original(target, arguments, unwrapped=unwrapped)

        return await wrap(call)(unwrapped or target, kwargs)

    vars(_function_node)["_invoke_callable"] = invoke


def calling_context() -> Context | None:
    """The context of the node, or the tool, that calls a function here; None where ADK says none."""
    return _sync_runner._SYNC_CALLABLE_CONTEXT.get()


def wrap_threads(wrap: Callable[[FunctionRunner], FunctionRunner]) -> None:
    """Let `wrap` replace how ADK runs a function in a thread, given it and its arguments by name."""
    make = _sync_runner._make_executor_sync_callable_runner

    @wraps(make)
    def made(executor: ThreadPoolExecutor) -> FunctionRunner:
        return wrap(make(executor))

    vars(_sync_runner)["_make_executor_sync_callable_runner"] = made


# --- ADK: code that models wrote -------------------------------------------------------------------------------

CodeRunner = Callable[[Callable[[], Awaitable[Any]], Any], Awaitable[Any]]


def wrap_code(run: CodeRunner) -> None:
    """Let `run` run each block of code, given what ADK would await for that, and the executor's input."""

    class Asyncio:
        """The module, for that of ADK which runs code in threads, and runs nothing else there."""

        def __getattr__(self, name: str) -> Any:
            return getattr(asyncio, name)

        async def to_thread(self, execute: Callable[..., Any], *given: Any) -> Any:
            return await run(lambda: asyncio.to_thread(execute, *given), given[-1])

    vars(_code_execution)["asyncio"] = Asyncio()


# --- ADK: the start of a run ----------------------------------------------------------------------------------


def before_run(prepare: Callable[[Runner], Awaitable[None]]) -> None:
    """Call `prepare` as each run of a Runner begins, before ADK reads the session and makes the invocation's id."""
    original = Runner._get_or_create_session

    @wraps(original)
    async def get_or_create_session(self: Runner, **arguments: Any) -> Session:
        await prepare(self)
        return await original(self, **arguments)

    Runner._get_or_create_session = get_or_create_session  # type: ignore[method-assign]


ABORTED = _abort_events._INVOCATION_ABORTED
"""The error code of what ADK appends to a session whose invocation was aborted."""


def abort_events(events: Sequence[Event], invocation_id: str, author: str) -> list[Event]:
    """What ADK appends to a session with these events if an invocation is aborted: answers to the open calls."""
    return _abort_events._build_abort_events(
        [*events], invocation_id=invocation_id, root_agent_name=author, branch=None
    )


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
