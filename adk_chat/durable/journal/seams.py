"""The private parts of the Restate SDK and of asyncio that the journal uses.

`tests/durable/journal/test_seams.py` checks each of them against the installed versions. What is replaced, rather than
used, is in `adk_chat.durable.patches`.
"""

import asyncio
import gc
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine
from datetime import timedelta
from enum import Enum
from math import inf
from types import AsyncGeneratorType, CodeType, CoroutineType, FrameType, GeneratorType
from typing import Any, cast

import restate
from restate import server_context, vm
from restate.exceptions import RetryableError, SdkInternalBaseException, SdkInternalException, SuspendedException

from adk_chat.durable.journal.entries import Entries, Message

UnresolvedFuture = vm.UnresolvedFuture
DisconnectedException = server_context.DisconnectedException
AttemptOver = SdkInternalBaseException
"""What the SDK raises in a handler whose attempt is over: suspended, disconnected or failed. Never swallow it."""


def attempt_over() -> SdkInternalBaseException:
    """Returns an exception that ends an attempt. It is not an `Exception`, so no handler of an agent catches it."""
    return SdkInternalException()


# --- Restate: the context of the running handler --------------------------------------------------------------


def running_context() -> restate.Context | None:
    """Returns the context of the running Restate handler; None outside of one and inside a journaled step."""
    context = server_context._restate_context_var.get(None)
    return context if isinstance(context, server_context.ServerInvocationContext) else None


def replace_context(context: object) -> None:
    """Makes `restate.extensions.current_context()` return `context` in the current `contextvars` context."""
    server_context._restate_context_var.set(cast(restate.Context, context))


# --- Restate: what the engine has sent ------------------------------------------------------------------------

_RECEIVED, _BEFORE = "adk_chat_received", "adk_chat_before"


def keeping_input(notify: Any) -> Any:
    """Makes `VMWrapper.notify_input` keep the bytes that arrive before the handler runs: the recorded journal."""

    def notify_input(self: vm.VMWrapper, input_buf: bytes) -> None:
        kept = vars(self)
        if _BEFORE not in kept:
            kept.setdefault(_RECEIVED, []).append(bytes(input_buf))
        notify(self, input_buf)

    return notify_input


def ending_input(begin: Any) -> Any:
    """Makes `VMWrapper.sys_input`, the first call of each handler, note that the recorded journal is complete."""

    def sys_input(self: vm.VMWrapper) -> vm.Invocation:
        vars(self)[_BEFORE] = vars(self).pop(_RECEIVED, None)
        begun: vm.Invocation = begin(self)
        return begun

    return sys_input


def entries(context: restate.Context) -> Entries:
    """Returns the recorded journal of an attempt. It can be read once.

    Raises:
        RetryableError: if the attempt began before `install`, in a handler that created a `RestatePlugin`.
    """
    machine = cast(server_context.ServerInvocationContext, context).vm
    received: list[bytes] | None = vars(machine).get(_BEFORE)
    vars(machine)[_BEFORE] = None
    if received is None and machine.is_replaying():
        raise RetryableError("The journal was not recorded, but is from now on.", retry_after=timedelta(milliseconds=1))
    found = Entries()
    for data in received or ():
        found.feed(data)
    return found


# --- Restate: the state machine -------------------------------------------------------------------------------


def state_machine(context: restate.Context) -> Any:
    """Returns the state machine of an attempt."""
    return cast(server_context.ServerInvocationContext, context).vm


def set_state_machine(context: restate.Context, machine: Any) -> None:
    """Replaces the state machine behind a context."""
    cast(server_context.ServerInvocationContext, context).vm = machine


def run_of(handle: int, *, replayed: bool) -> vm.Run:
    """Returns the state machine's answer to a request for a run."""
    return vm.Run(replayed=replayed, handle=handle)


def failure(code: int, message: str) -> vm.Failure:
    """Returns a failure, for the state machine."""
    return vm.Failure(code=code, message=message)


def recorded_failure(recorded: Message) -> vm.Failure:
    """Returns a recorded failure, for the state machine."""
    metadata = {entry.text(1): entry.text(2) for entry in recorded.messages(3)}
    return vm.Failure(code=recorded.number(1), message=recorded.text(2), metadata=metadata or None)


def when_handler_ends(context: restate.Context, close: Callable[[], Awaitable[None]]) -> None:
    """Awaits `close` when the handler of `context` has ended, in whatever way."""
    server_context.set_extension_data(context, "adk_chat", _Closing(close))


class _Closing:
    def __init__(self, close: Callable[[], Awaitable[None]]) -> None:
        self.__close__ = close


# --- Restate: awaiting ----------------------------------------------------------------------------------------


class Progress(Enum):
    """The answer of the state machine when it is polled."""

    MADE = "made"
    WAIT = "wait"
    CANCELLED = "cancelled"


class Engine:
    """The connection of an attempt to Restate, for code that waits in the place of the SDK."""

    def __init__(self, context: restate.Context) -> None:
        self._server: Any = context

    def let_go(self) -> None:
        """Drops the reference to the context, because the handler has ended."""
        self._server = None

    async def send_output(self) -> None:
        """Sends what was issued."""
        await self._server.take_and_send_output()

    async def receive(self) -> Any:
        """Returns what Restate sends next."""
        return await self._server.receive()

    def notify(self, received: Any) -> bool:
        """Passes what was received to the state machine. Returns whether it was the last.

        Raises:
            DisconnectedException: if the connection is closed.
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
        """Closes the input: the attempt is suspended if it waits for something."""
        self._server.vm.notify_input_closed()

    def progress(self, handles: list[int]) -> Progress | int:
        """Polls for any of the results behind `handles`. A number is the handle of a run that must be executed.

        Raises:
            SdkInternalBaseException: if the attempt is suspended or broken.
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
        """Returns the action of `ctx.run` behind a handle."""
        found: Callable[[], Awaitable[None]] | None = self._server.run_coros_to_execute.pop(handle, None)
        return found

    def keep(self, task: "asyncio.Future[Any]") -> None:
        """Makes the SDK end a task when the attempt ends."""
        self._server.tasks.add(task)

    async def take(self, handle: int) -> Any:
        """Returns a result that is there."""
        return await self._server.must_take_notification(handle)

    def take_now(self, handle: int) -> Any:
        """The same without sending what may have gone wrong."""
        result = self._server.vm.take_notification(handle)
        if isinstance(result, vm.Failure):
            raise restate.TerminalError(result.message, result.code)
        return result


def route_awaits(context: restate.Context, wait: Callable[[UnresolvedFuture], Coroutine[Any, Any, None]]) -> None:
    """Makes `wait` await everything that code awaits of `context`."""
    cast(Any, context).create_poll_or_cancel_coroutine = wait


def is_completed(machine: Any, future: UnresolvedFuture) -> bool:
    """Returns whether the result of `future` is there."""
    if isinstance(future, vm.SingleUnresolvedFuture):
        return machine.is_completed(future.handle) is True
    anyone = any if isinstance(future, vm.FirstCompletedUnresolvedFuture) else all
    return anyone(is_completed(machine, child) for child in future.children)


def incomplete(machine: Any, future: UnresolvedFuture) -> list[int]:
    """Returns the handles that `future` still waits for."""
    if isinstance(future, vm.SingleUnresolvedFuture):
        return [] if machine.is_completed(future.handle) else [future.handle]
    return [handle for child in future.children for handle in incomplete(machine, child)]


def handles(future: UnresolvedFuture) -> set[int]:
    """Returns all handles of `future`."""
    if isinstance(future, vm.SingleUnresolvedFuture):
        return {future.handle}
    return {handle for child in future.children for handle in handles(child)}


def rank(future: UnresolvedFuture, ranks: dict[int, int]) -> float:
    """Returns the place in the journal of what completed `future`, given those of the handles."""
    if isinstance(future, vm.SingleUnresolvedFuture):
        return ranks.get(future.handle, inf)
    last = min if isinstance(future, vm.FirstCompletedUnresolvedFuture) else max
    return last((rank(child, ranks) for child in future.children), default=inf)


def single(handle: int) -> UnresolvedFuture:
    """Returns the future of one handle."""
    return vm.SingleUnresolvedFuture(handle)


def first_completed(futures: list[UnresolvedFuture]) -> UnresolvedFuture:
    """Returns the future that completes with the first of `futures`."""
    return vm.FirstCompletedUnresolvedFuture(futures)


# --- asyncio: tasks and timers --------------------------------------------------------------------------------


def follow_timers(loop: asyncio.AbstractEventLoop, was_set: Callable[[asyncio.TimerHandle], None]) -> None:
    """Calls `was_set` with each timer that code sets on `loop`."""

    def follow(original: Callable[..., asyncio.TimerHandle]) -> Callable[..., asyncio.TimerHandle]:
        def followed(*args: Any, **options: Any) -> asyncio.TimerHandle:
            timer = original(*args, **options)
            was_set(timer)
            return timer

        return followed

    # uvloop's call_later and call_at are independent. asyncio's call_later calls call_at.
    for name in ("call_later", "call_at"):
        setattr(loop, name, follow(getattr(loop, name)))


def awaited_by(task: "asyncio.Task[Any]") -> "asyncio.Future[Any] | None":
    """Returns the future that a task waits for; None if it is about to run."""
    return getattr(task, "_fut_waiter", None)


def gathered(future: "asyncio.Future[Any]") -> "list[asyncio.Future[Any]]":
    """Returns what a future of `asyncio.gather` still waits for, or the future itself."""
    children: list[asyncio.Future[Any]] | None = getattr(future, "_children", None)
    if children is None:
        return [future]
    return [one for child in children if not child.done() for one in gathered(child)]


_driven: dict[CodeType, str] = {}


def drives(function: Callable[..., Any], variable: str) -> None:
    """Registers a generator that drives a coroutine itself, which it has in `variable`. `frames` looks there."""
    _driven[function.__code__] = variable


def frames(task: "asyncio.Task[Any]") -> list[FrameType]:
    """Returns the frames of what a task runs, down to the one that waits, as far as they can be seen."""
    found = []
    running: Any = task.get_coro()
    while running is not None:
        kind = next((kind for kind in ("cr", "ag", "gi") if hasattr(running, f"{kind}_frame")), None)
        if kind is None:
            # Only the garbage collector knows what `async for` and the like await.
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
"""The types of what is awaited instead of an async generator or a coroutine."""
_coroutine.close()
