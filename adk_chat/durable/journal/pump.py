"""One pump awaits for all code of an attempt, and always hears a cancellation and the end of the attempt.

Who waits for whom: code waits for the pump, the pump for the engine, and the engine for nobody. What ends a wait is the
result, a cancellation of the Restate invocation, or the end of the attempt; the last two end every wait at once.
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
"""Rounds of the event loop within which code comes to rest that is told something; tasks that pass something on to each
other take a few."""
_HEARTBEAT_SECONDS = 25.0
"""The engine stops listening to a handler that journals nothing for its inactivity timeout, a minute by default."""
_STOP_SECONDS = 1.0
_LOOK_SECONDS = 0.05
_PATIENCE_SECONDS = {Wait.ENGINE: 0.0, Wait.UNKNOWN: 0.5, Wait.WORK: 5.0}
"""How long code that has not got to where it was told of a cancellation may do nothing that the pump hears of, by what
it waits for, before it is told all the same."""
_LEAST_GRACE = 0.002
_AT_ONCE = 1.0


class BrokenOffError(seams.AttemptOver):
    """The attempt cannot go on: a bug of ours, or a journal that cannot be read on. Its cause says which."""


class ClosedError(Exception):
    """A handler has ended well, and code that it has left behind waits for its journal."""


@dataclass(eq=False)
class _Wait:
    future: seams.UnresolvedFuture
    told: "asyncio.Future[None]" = field(default_factory=lambda: asyncio.get_running_loop().create_future())


class Pump:
    """Polls the state machine of one attempt for all its code.

    Args:
        context: of the handler.
        vm: its state machine.
        entries: the journal with which the attempt began.
        attempt: hears of its end, and of a cancellation if it takes them.
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
        """Whether the Restate invocation is cancelled, and code is still to be told."""
        self._cancel_known = self._cancelled
        self.tells = True
        """Whether code may be told of it now; otherwise later."""
        self._changed_at = 0.0
        self._attempt = attempt
        self.standstill = Standstill.of_loop()
        self.over: BaseException | None = None
        self.actions = 0
        """How many steps are being run."""
        self._id = context.request().id
        self._began = time.monotonic()
        self._never = vm.sys_signal("adk_chat never")
        self._waits: list[_Wait] = []
        self.handed_out = 0
        """How many results code was told of."""
        self._watched: dict[int, Callable[[], None]] = {}
        self._woken: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self._unsent: list[asyncio.Future[None]] = []
        self._stopping = False
        self._incoming: asyncio.Task[Any] | None = None
        self._closed = 0.0  # when the engine has stopped sending, if it has
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
        """Whether code is to be told of a cancellation now."""
        return self._cancelled and self.tells

    @contextlib.contextmanager
    def uncancelled(self) -> Iterator[None]:
        """A part of the handler that does not hear of a cancellation and gets every result that it waits for.

        A call that it waits for is cancelled by the engine all the same, and can be made again.
        """
        self.tells = False
        try:
            yield
        finally:
            self.tells = True
            if self._cancelled:
                self.wake()

    async def wait(self, future: seams.UnresolvedFuture) -> None:
        """Wait until a future of the SDK is completed.

        Raises:
            SdkInternalBaseException: the attempt is over.
            TerminalError: the Restate invocation was cancelled, and the attempt takes no cancellation.
        """
        if self.over is not None:
            raise self.over
        if self._stopping:
            raise ClosedError("The turn has ended, and this code goes on after it.")
        wait = _Wait(future)
        self._waits.append(wait)
        self.wake()
        try:
            await wait.told
        finally:
            if wait in self._waits:
                self._waits.remove(wait)

    async def result(self, handle: int) -> Any:
        """Wait for the result behind a handle, and take it."""
        await self.wait(seams.single(handle))
        return await self._engine.take(handle)

    async def beyond_cancellation(self) -> None:
        """Code is about to do something new; if it was cancelled before that, it is told so, and never comes back."""
        if self._cancelled:
            await self.wait(seams.single(self._never))

    def is_completed(self, handle: int) -> bool:
        """Whether the result behind a handle is here, and may be handed out.

        Invariant: until code is told of a cancellation, a replay hands out what the attempt had that told it first.
        While code is not to be told yet, every result is handed out.
        """
        if self._to_tell and not self.cancel_point.is_before(handle):
            return False
        return bool(self._vm.is_completed(handle))

    async def sent(self) -> None:
        """Wait until what was issued is sent: what a step does before that, no later attempt would know of."""
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
        """Call `then` when the result behind a handle is there. It may not wait for anything."""
        self._watched[handle] = then
        self.wake()

    def unwatch(self, handle: int) -> None:
        """Watch it no more: somebody is going to wait for it."""
        self._watched.pop(handle, None)

    def take_now(self, handle: int) -> Any:
        """Take the result behind a handle that is watched, and is there."""
        return self._engine.take_now(handle)

    def wake(self) -> None:
        """Something has changed: code waits, or has issued a command, or ended a step."""
        if not self._woken.done():
            self._woken.set_result(True)

    def end(self, over: BaseException) -> None:
        """End the attempt: all that waits is told, now."""
        if self.over is not None:
            return
        self.over = over
        self._tell_all(over)
        self._attempt.end(over)
        self.wake()

    def break_off(self, error: BaseException) -> None:
        """End the attempt by an error."""
        over = BrokenOffError(repr(error))
        over.__cause__ = error
        self.end(over)

    async def stop(self) -> None:
        """Stop polling; what was issued is still sent. Code that waits for something goes on without the engine."""
        self._stopping = True
        self._were_sent(self._unsent[:])
        self._tell_all(ClosedError("The turn has ended, and this code goes on after it."))
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
            logger.exception("An attempt at %s breaks off.", self._id)
            self.break_off(error)

    async def _hand_out(self) -> bool:
        """Tell the first of those whose result is there; gives whether there was one.

        Those that became known together are told one by one, in the order of the journal, each when the code that the
        last one has set free has come to rest: so a replay lets code run on in the order in which it did before.
        """
        for handle in [handle for handle in self._watched if self._vm.is_completed(handle)]:
            self._watched.pop(handle)()
        due = self._due()
        if due and self._vm.known_before(seams.rank(due[0].future, self._vm.ranks)):
            await _rest()  # code may be on its way to ask for that
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
        """Those whose result is there, in the order of the journal."""
        due = [wait for wait in self._waits if seams.is_completed(self, wait.future)]
        return sorted(due, key=lambda wait: seams.rank(wait.future, self._vm.ranks))

    async def _progress(self) -> None:
        handles = [self._never, *self._watched]
        for wait in self._waits:
            handles += seams.incomplete(self._vm, wait.future)
        progress = self._engine.progress(handles)
        if progress is seams.Progress.CANCELLED:
            # One that is in the journal is noticed by the state machine as well.
            self._cancelled, self._cancel_known = self._cancelled or not self._cancel_known, False
        elif progress is seams.Progress.WAIT:
            if self._may_give_up_slot():
                self._engine.close()
                self._engine.progress(handles)  # which raises that the attempt is suspended
            await self._external()
        elif isinstance(progress, int):
            self._start(progress)

    def _start(self, handle: int) -> None:
        """Run what code has handed to `ctx.run`; steps of an agent run already."""
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
        """Wait for the engine, or for something to change here."""
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
        """How many seconds nothing may come before that is looked into."""
        if self._to_tell:
            return _LOOK_SECONDS
        if self._closed:
            return None
        if self.actions:
            return _HEARTBEAT_SECONDS
        return self._idle.look_seconds if self._waits else None

    def _may_give_up_slot(self) -> bool:
        """Whether the attempt suspends itself.

        Invariant: only while all its code waits for the engine, as far as can be told.
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
        """Wait until something changes here, for so long; gives whether it has."""
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
        """Tell code of the cancellation."""
        if not self.cancel_point.name:
            self.cancel_point.tell()
        if self._attempt.cancel():
            self._cancelled = False
        else:
            self._cancelled = not self._waits  # then who waits next is told
            self._tell_all(restate.TerminalError("cancelled", 409))

    def tell_at_end(self) -> None:
        """Code has ended. If it was told of a cancellation in an earlier attempt, it is told now at the latest."""
        if self._cancelled and self.cancel_point.was_told and self.over is None:
            self._cancel()

    async def _may_cancel(self) -> bool:
        """Whether code is told of the cancellation: not before it has got to where it was told before.

        If no attempt has noted that it told code, that is where it has asked for all that is recorded. Code may not ask
        for all of it. So it has got there as well when it can do nothing more without the engine; and when it has done
        nothing for long that the pump hears of, since it may wait for what never comes.
        """
        if self.cancel_point.name:
            return bool(self._waits)
        await _rest()  # so what code was given has had its effect, here and in a replay
        if self._due():
            return False
        if not self.cancel_point.is_ahead():
            return True
        if self._woken.done():
            return False
        waits = self._attempt.waits_for({wait.told for wait in self._waits})
        return time.monotonic() - (self._changed_at or self._began) >= _PATIENCE_SECONDS[waits]

    async def _may_suspend(self) -> bool:
        """Whether the attempt may be suspended, as the engine asks: not while its code does work of its own.

        Nobody can tell code that works from code that waits for other code which waits for the engine. So where some
        of it waits for the engine, the rest has as long again as the attempt has taken so far; a moment, where the
        engine asks at once, as it does to test handlers. Each time that nothing new has come of that, it has twice as
        long in the next attempt: whatever takes its time ends.
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
        # All in one go: code that is told later would be cancelled by ADK first, and its error callbacks would run.
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
