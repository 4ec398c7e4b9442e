"""One pump waits for all code of an attempt. It always hears a cancellation and the end of the attempt.

Who waits for whom: code waits for the pump, the pump for Restate, and Restate for nobody. A wait ends with the result,
with a cancellation of the Restate invocation, or with the end of the attempt. The last two end all waits at once.
"""

import asyncio
import contextlib
import contextvars
import logging
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import restate

from adk_chat.durable.journal import seams
from adk_chat.durable.journal.attempt import Attempt
from adk_chat.durable.journal.cancel_point import CancelPoint
from adk_chat.durable.journal.entries import Entries
from adk_chat.durable.journal.idle import Idle
from adk_chat.durable.journal.recorded import HEARTBEAT
from adk_chat.durable.journal.standstill import Standstill
from adk_chat.durable.journal.state_machine import RememberingVm
from adk_chat.durable.journal.work import Wait

logger = logging.getLogger(__name__)

_SETTLE = 50
"""Rounds of the event loop after which code that was woken has come to rest. Tasks that pass something on to each other
take a few."""
_HEARTBEAT_SECONDS = 25.0
"""Restate stops listening to a handler that journals nothing for its inactivity timeout, a minute by default."""
_STOP_SECONDS = 1.0
_LOOK_SECONDS = 0.05
_PATIENCE_SECONDS = {Wait.ENGINE: 0.0, Wait.UNKNOWN: 0.5, Wait.WORK: 5.0}
"""How long code that has not yet reached the point of its cancellation may do nothing that the pump notices, by what it
waits for. Then it is told anyway."""
_LEAST_GRACE = 0.002
_AT_ONCE = 1.0


class BrokenOffError(seams.AttemptOver):
    """The attempt cannot continue: a bug of ours, or a journal that cannot be read. Its cause says which."""


class ClosedError(Exception):
    """A handler has ended well, and code that it left behind waits for its journal."""


@dataclass(eq=False)
class _Wait:
    future: seams.UnresolvedFuture
    told: "asyncio.Future[None]" = field(default_factory=lambda: asyncio.get_running_loop().create_future())


class Pump:
    """Polls the state machine of one attempt for all its code.

    Args:
        context: the handler's context.
        vm: its state machine.
        entries: the recorded journal.
        attempt: told of its end, and of a cancellation if it takes one.
    """

    def __init__(
        self,
        context: restate.Context,
        vm: RememberingVm,
        entries: Entries,
        attempt: Attempt,
    ) -> None:
        self._engine = seams.Engine(context)
        self._vm = vm
        self.cancel_point = CancelPoint(vm)
        self._cancelled = entries.cancelled is not None
        """Whether the Restate invocation is cancelled and code has not been told yet."""
        self._cancel_known = self._cancelled
        self.tells = True
        """Whether code may be told now."""
        self._changed_at = 0.0
        self._attempt = attempt
        self.standstill = Standstill.of_loop()
        self.over: BaseException | None = None
        self.actions = 0
        """How many steps are running."""
        self._id = context.request().id
        self._began = time.monotonic()
        self._never = vm.sys_signal("adk_chat never")
        self._waits: list[_Wait] = []
        self.handed_out = 0
        """How many results were handed out."""
        self._watched: dict[int, Callable[[], None]] = {}
        self._woken: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self._unsent: list[asyncio.Future[None]] = []
        self._stopping = False
        self._incoming: asyncio.Task[Any] | None = None
        self._closed = 0.0  # when Restate stopped sending, if it has
        self._idle = Idle(self._id, len(entries.commands))
        self._task: asyncio.Task[None] | None = None

    def start(self, context: restate.Context, outside: contextvars.Context) -> None:
        """Starts polling, for everything that code awaits of the context.

        Args:
            context: the handler's context.
            outside: a context of contextvars without anything of the attempt, since servers make tasks in `send`.
        """
        self._task = asyncio.get_running_loop().create_task(self._run(), context=outside)
        seams.route_awaits(context, self.wait)

    @property
    def _to_tell(self) -> bool:
        """Whether code should be told of a cancellation now."""
        return self._cancelled and self.tells

    @contextlib.contextmanager
    def uncancelled(self) -> Iterator[None]:
        """Within this context, code does not hear of a cancellation and gets every result it waits for.

        Restate cancels calls anyway; they can be made again.
        """
        self.tells = False
        try:
            yield
        finally:
            self.tells = True
            if self._cancelled:
                self.wake()

    async def wait(self, future: seams.UnresolvedFuture) -> None:
        """Waits until a future of the SDK is completed.

        Raises:
            SdkInternalBaseException: if the attempt is over.
            TerminalError: if the Restate invocation was cancelled, and the attempt takes no cancellation.
        """
        if self.over is not None:
            raise self.over
        if self._stopping:
            raise ClosedError("The turn has ended, and this code is still running.")
        wait = _Wait(future)
        self._waits.append(wait)
        self.wake()
        try:
            await wait.told
        finally:
            if wait in self._waits:
                self._waits.remove(wait)

    async def result(self, handle: int) -> Any:
        """Waits for the result behind a handle, and returns it."""
        await self.wait(seams.single(handle))
        return await self._engine.take(handle)

    async def beyond_cancellation(self) -> None:
        """Called before code does something new. Code that was cancelled before that never continues."""
        if self._cancelled:
            await self.wait(seams.single(self._never))

    def is_completed(self, handle: int) -> bool:
        """Returns whether the result behind a handle is there and may be handed out.

        Invariant: until code is told of a cancellation, a replay hands out what the first attempt that told it had
        handed out. While code must not be told yet, every result is handed out.
        """
        if self._to_tell and not self.cancel_point.is_before(handle):
            return False
        return bool(self._vm.is_completed(handle))

    async def sent(self) -> None:
        """Waits until everything that was issued is sent. No later attempt would know what a step did before that."""
        if not self._stopping:
            sent = asyncio.get_running_loop().create_future()
            self._unsent.append(sent)
            self.wake()
            await sent

    def _were_sent(self, sent: "list[asyncio.Future[None]]") -> None:
        self._unsent = [one for one in self._unsent if one not in sent]
        for one in sent:
            if not one.done():
                one.set_result(None)

    def watch(self, handle: int, then: Callable[[], None]) -> None:
        """Calls `then` when the result behind a handle is there. `then` must not wait."""
        self._watched[handle] = then
        self.wake()

    def unwatch(self, handle: int) -> None:
        """Stops watching a handle, because somebody will wait for it."""
        self._watched.pop(handle, None)

    def take_now(self, handle: int) -> Any:
        """Returns the result behind a watched handle, which is there."""
        return self._engine.take_now(handle)

    def wake(self) -> None:
        """Wakes the pump: code waits, issued a command, or finished a step."""
        if not self._woken.done():
            self._woken.set_result(True)

    def end(self, over: BaseException) -> None:
        """Ends the attempt. Everything that waits is told at once."""
        if self.over is not None:
            return
        self.over = over
        self._tell_all(over)
        self._attempt.end(over)
        self.wake()

    def break_off(self, error: BaseException) -> None:
        """Ends the attempt with an error."""
        over = BrokenOffError(repr(error))
        over.__cause__ = error
        self.end(over)

    async def stop(self) -> None:
        """Stops polling. What was issued is still sent. Code that waits continues without Restate."""
        self._stopping = True
        self._were_sent(self._unsent[:])
        self._tell_all(ClosedError("The turn has ended, and this code is still running."))
        self.wake()
        if self._task is not None:
            await asyncio.wait([self._task], timeout=_STOP_SECONDS)
            self._task.cancel()  # nobody reads what it sends
        if self._incoming is not None:
            self._incoming.cancel()
        # Invariant: an attempt that has ended is in no reference cycle, so it is freed with its last task.
        self._engine.let_go()
        self._task, self._incoming, self._watched = None, None, {}
        self.cancel_point.expects = lambda: False
        self.over = None if self.over is None else seams.attempt_over()

    async def _run(self) -> None:
        try:
            while self.over is None and not self._stopping:
                unsent = self._unsent[:]
                await self._engine.send_output()
                self._were_sent(unsent)
                if await self._hand_out():
                    continue
                if self._to_tell and await self._may_cancel():
                    self._cancel()
                    continue
                if self._closed and not await self._may_suspend():
                    continue
                await self._progress()
        except (seams.DisconnectedException, seams.AttemptOver) as over:
            self.end(over if isinstance(over, seams.AttemptOver) else seams.attempt_over())
        except Exception as error:
            logger.exception("An attempt at %s was ended by an internal error.", self._id)
            self.break_off(error)

    async def _hand_out(self) -> bool:
        """Hands out the first result that is there. Returns whether there was one.

        Results that arrive together are handed out one by one, in the order of the journal, each after the code that
        the last one woke has come to rest. So code runs in the same order on a replay.
        """
        for handle in [handle for handle in self._watched if self._vm.is_completed(handle)]:
            self._watched.pop(handle)()
        due = self._due()
        if due and self._vm.known_before(seams.rank(due[0].future, self._vm.ranks)):
            await _rest()  # code may be about to ask for that run
            due = self._due()
        if not due:
            return False
        first = due[0]
        self._waits.remove(first)
        self.cancel_point.give(filter(self.is_completed, seams.handles(first.future)))
        self._changed_at = time.monotonic()
        self.handed_out += 1
        if not first.told.done():
            first.told.set_result(None)
        if len(due) > 1:
            await _rest()
        return True

    def _due(self) -> list[_Wait]:
        """Returns the waits whose result is there, in the order of the journal."""
        due = [wait for wait in self._waits if seams.is_completed(self, wait.future)]
        return sorted(due, key=lambda wait: seams.rank(wait.future, self._vm.ranks))

    async def _progress(self) -> None:
        handles = [self._never, *self._watched]
        for wait in self._waits:
            handles += seams.incomplete(self._vm, wait.future)
        progress = self._engine.progress(handles)
        if progress is seams.Progress.CANCELLED:
            # The state machine also reports a cancellation that is in the journal.
            self._cancelled, self._cancel_known = self._cancelled or not self._cancel_known, False
        elif progress is seams.Progress.WAIT:
            if self._may_give_up_slot():
                self._engine.close()
                self._engine.progress(handles)  # this raises that the attempt is suspended
            await self._external()
        elif isinstance(progress, int):
            self._start(progress)

    def _start(self, handle: int) -> None:
        """Runs an action of `ctx.run`. The steps of an agent run already."""
        run = self._engine.action(handle)
        if run is None:
            return

        async def action() -> None:
            try:
                await self.standstill.over()
                await run()
            finally:
                self.actions -= 1
                self.wake()

        self.actions += 1
        self._engine.keep(asyncio.get_running_loop().create_task(action(), context=self._vm.askers.pop(handle)))

    async def _external(self) -> None:
        """Waits for Restate, or for a change here."""
        if self._incoming is None:
            self._incoming = asyncio.ensure_future(self._engine.receive())
            self._incoming.add_done_callback(lambda _: self.wake())
        seconds = self._patience()
        if not self._incoming.done() and not await self._change(seconds):
            if self._to_tell:
                pass
            elif self.actions:
                self._vm.sys_sleep(int(_HEARTBEAT_SECONDS * 1000), HEARTBEAT)
            else:
                self._idle.go_on(seconds or 0)
        if self._incoming.done():
            incoming, self._incoming = self._incoming, None
            if self._engine.notify(incoming.result()):
                self._closed = self._closed or time.monotonic()

    def _patience(self) -> float | None:
        """Returns for how many seconds nothing may happen before the pump checks why."""
        if self._to_tell:
            return _LOOK_SECONDS
        if self._closed:
            return None
        if self.actions:
            return _HEARTBEAT_SECONDS
        return self._idle.look_seconds if self._waits else None

    def _may_give_up_slot(self) -> bool:
        """Returns whether the attempt suspends itself.

        Invariant: only while all its code waits for Restate, as far as can be known.
        """
        if self.actions or not self._waits or self._to_tell or self._closed or not self._idle.long_enough():
            return False
        waits = self._attempt.waits_for({wait.told for wait in self._waits})
        if waits is Wait.WORK:
            self._idle.put_off()
            return False
        if waits is Wait.UNKNOWN:
            if not self._idle.long_enough_to_cut():
                return False
            self._idle.note_cut()
        return True

    async def _change(self, seconds: float | None) -> bool:
        """Waits for a change, for at most that long. Returns whether there was one."""
        loop = asyncio.get_running_loop()
        if self._woken.done() or seconds == 0:
            changed = self._woken.done()
        else:
            timer = None if seconds is None else loop.call_later(seconds, _let_go, self._woken)
            changed = await self._woken
            if timer is not None:
                timer.cancel()
        if self._woken.done():
            self._woken = loop.create_future()
        if changed:
            self._changed_at = time.monotonic()
            self._idle.end()
        return changed

    def _cancel(self) -> None:
        """Tells code of the cancellation."""
        if not self.cancel_point.name:
            self.cancel_point.tell()
        if self._attempt.cancel():
            self._cancelled = False
        else:
            self._cancelled = not self._waits  # then the next code that waits is told
            self._tell_all(restate.TerminalError("cancelled", 409))

    def tell_at_end(self) -> None:
        """Called when code has ended. If an earlier attempt told it of a cancellation, it is told now at the latest."""
        if self._cancelled and self.cancel_point.was_told and self.over is None:
            self._cancel()

    async def _may_cancel(self) -> bool:
        """Returns whether to tell code of the cancellation: not before it reaches the point where it was told before.

        If no attempt has recorded that, the point is reached when code has asked for everything that is recorded. Code
        may never ask for all of it. So the point is also reached when it can do nothing more without Restate, and when
        it has done nothing for long that the pump notices, since it may wait for something that never comes.
        """
        if self.cancel_point.name:
            return bool(self._waits)
        await _rest()  # so that what code received has had its effect, now and on a replay
        if self._due():
            return False
        if not self.cancel_point.is_ahead():
            return True
        if self._woken.done():
            return False
        waits = self._attempt.waits_for({wait.told for wait in self._waits})
        return time.monotonic() - (self._changed_at or self._began) >= _PATIENCE_SECONDS[waits]

    async def _may_suspend(self) -> bool:
        """Returns whether the attempt may be suspended, as Restate asks: not while its code is working.

        Code that works cannot be told from code that waits for other code. So if some of it waits for Restate, the rest
        has as long again as the attempt has taken so far. If Restate asks at once, as it does to test handlers, the
        rest has only a moment. Each time nothing new has come of it, the next attempt has twice as long. So anything
        that takes long ends at last.
        """
        if self.actions or not self._waits or self._to_tell:
            await self._external()
            return False
        await _rest()
        if await self._change(0):
            return False
        at_once = self._closed - self._began < _AT_ONCE
        grace = _LEAST_GRACE if at_once else time.monotonic() - self._began
        if await self._change(grace * self._idle.patience):
            return False
        self._idle.note_cut()
        return True

    def _tell_all(self, error: BaseException) -> None:
        # All at once: ADK would cancel code that is told later, and its error callbacks would run.
        waits, self._waits = self._waits, []
        for wait in waits:
            if not wait.told.done():
                wait.told.set_exception(error)


def _let_go(woken: "asyncio.Future[bool]") -> None:
    if not woken.done():
        woken.set_result(False)


async def _rest() -> None:
    for _ in range(_SETTLE):
        await asyncio.sleep(0)
