"""The state machine of the Restate SDK, for code that runs with a memory."""

from collections.abc import Callable
from contextvars import Context
from functools import partial
from typing import Any

from adk_chat.durable.journal import seams
from adk_chat.durable.journal.commands import COMPLETION, ECHOES, INVOCATION_COMPLETION, NAME, STRAND_HEADER
from adk_chat.durable.journal.entries import Command, Entries, Kind, Message
from adk_chat.durable.journal.keys import ROOT, Key, current_path
from adk_chat.durable.journal.recorded import Memory, Recorded, run, target
from adk_chat.durable.journal.step_context import outside_journal

_AWAKEABLE = "awakeable"
_VALUE, _FAILURE = 14, 15
_NO_HANDLE = -1


class UnknownCommandError(Exception):
    """A journal has a command that this version does not know."""


class RememberingVm:
    """The state machine of the Restate SDK for code that runs with a memory. It has the methods of the SDK's own."""

    def __init__(self, vm: Any) -> None:
        self._vm = vm
        self.memory = Memory()
        self.ranks: dict[int, int] = {}
        """The places in the journal of the results that are known, by handle."""
        self.numbers: dict[int, int] = {}
        """What stands for each result in every attempt, by handle."""
        self.resumed = False
        """Whether an earlier attempt recorded something."""
        self._commands = 0
        """How many were issued after the marker."""
        self.askers: dict[int, Context] = {}
        """Where `ctx.run` was asked to run something, by handle: that runs as if it were called there."""
        self._awakeables: list[tuple[str, int]] = []
        self._unasked: list[tuple[int, Recorded]] = []
        """The runs whose result is known, by the place of that in the journal, the last first."""

    def __getattr__(self, name: str) -> Any:
        return getattr(self._vm, name)

    # --- The beginning of an attempt ------------------------------------------------------------------------------

    def begin(self, marker: str, entries: Entries, make: Callable[[], bytes]) -> bytes:
        """Issue the marker of a beginning, and all that is recorded after it.

        Until all is issued nothing may be awaited, which is an error, nor proposed, which the engine would ignore.

        Args:
            marker: the name of a run.
            entries: the journal.
            make: gives the value of the marker, if it is not recorded.

        Returns:
            The value of the marker. `resumed` then says whether something is recorded after it.

        Raises:
            UnknownCommandError: one of the commands cannot be issued.
            SdkInternalBaseException: the handler had ended; the engine was told so again.
        """
        names = [command.message.text(NAME) for command in entries.commands]
        after = entries.commands[names.index(marker) + 1 :] if marker in names else []
        self.resumed = bool(after)
        run = self._vm.sys_run(marker)
        self._echo(entries, after)
        if run.replayed:
            return entries.values[entries.commands[names.index(marker)].message.number(COMPLETION)]
        value = make()
        self._vm.propose_run_completion_success(run.handle, value)
        return value

    def _echo(self, entries: Entries, commands: list[Command]) -> None:
        awakeables = 0
        for command in commands:
            message = command.message
            if command.kind == Kind.OUTPUT:
                self._write_output(message)
                raise seams.attempt_over()
            issue = ECHOES.get(command.kind)
            if issue is None:
                raise UnknownCommandError(
                    f"The journal of this turn has a command {command.kind:#06x} that adk_chat does not know. Kill the "
                    "turn, and send its message again."
                )
            what, recorded, *handles = issue(self._vm, message)
            number = message.number(COMPLETION)
            if command.kind == Kind.RUN:
                recorded.known, recorded.value = number in entries.completed, entries.values.get(number)
                if what == run(_AWAKEABLE) and recorded.value is not None:
                    awakeables = max(awakeables, int(recorded.value) + 1)
                if recorded.known:
                    self._unasked.append((entries.completed[number], recorded))
            for handle, completion in zip(handles, (number, message.number(INVOCATION_COMPLETION)), strict=False):
                if completion in entries.completed:
                    self.ranks[handle] = entries.completed[completion]
            recorded.number = self._number(*handles)
            self.memory.keep(what, recorded)
        self._unasked.sort(key=lambda ranked: -ranked[0])
        # They are numbered by the order of their making, and leave no command.
        for _ in range(awakeables):
            self._make_awakeable()

    def _write_output(self, message: Message) -> None:
        if message.has(_FAILURE):
            failure = message.message(_FAILURE)
            self._vm.sys_write_output_failure(seams.failure(failure.number(1), failure.text(2)))
        else:
            self._vm.sys_write_output_success(message.message(_VALUE).data(1))
        self._vm.sys_end()

    def known_before(self, rank: float) -> bool:
        """Whether a run that nobody has asked for yet ended before that place in the journal."""
        while self._unasked and self._unasked[-1][1].taken:
            self._unasked.pop()
        return bool(self._unasked) and self._unasked[-1][0] < rank

    def _number(self, *handles: int) -> int:
        """A command was issued that gives these handles, of its result and of the id of a called invocation."""
        number = self._commands
        for place, handle in enumerate(handles):
            self.numbers[handle] = 2 * number + place
        self._commands += 1
        return number

    # --- Steps ----------------------------------------------------------------------------------------------------

    def find(self, key: Key, *, moved: bool = True) -> Recorded | None:
        """The recorded run of that key, see `Memory.take`."""
        return self.memory.take(run(key.what), key.strand, key.content, moved=moved)

    def issue(self, key: Key) -> Recorded:
        """A new run of that key."""
        handle = self._vm.sys_run(key.name).handle
        self._number(handle)
        return Recorded(key.strand, key.content, handle, taken=True)

    def record(self, key: Key, make: Callable[[], bytes]) -> bytes:
        """A value that is at hand, as it was recorded, or else as `make` gives it.

        The engine takes what a handler sends in order, so whatever is journaled afterwards is not stored without it.
        """
        recorded = self.find(key) or self.issue(key)
        if recorded.value is not None:
            return recorded.value
        value = make()
        self._vm.propose_run_completion_success(recorded.result, value)
        return value

    def recorded(self, what: str) -> list[bytes]:
        """The values that were recorded for that, and for no strand of an agent's code."""
        return [found.value for found in self.memory.take_all(run(what), ROOT) if found.value is not None]

    # --- What code asks of its context ----------------------------------------------------------------------------

    def sys_run(self, name: str) -> Any:
        """See the SDK."""
        key = Key(name, current_path())
        recorded = self.find(key) or self.issue(key)
        if not recorded.known:
            self.askers[recorded.result] = outside_journal()
        return seams.run_of(recorded.result, replayed=recorded.known)

    def sys_sleep(self, millis: int, name: str | None = None) -> Any:
        """See the SDK."""
        key = Key(name or "sleep", current_path())
        return self._issue((Kind.SLEEP, key.what), self._vm.sys_sleep, millis, key.name)

    def sys_call(
        self,
        service: str,
        handler: str,
        parameter: bytes,
        key: str | None = None,
        idempotency_key: str | None = None,
        headers: list[tuple[str, str]] | None = None,
        *scope: str | None,
        **scopes: str | None,
    ) -> Any:
        """See the SDK."""
        headers = [*(headers or []), (STRAND_HEADER, current_path())]
        issue = partial(self._vm.sys_call, service, handler, parameter, key, idempotency_key, headers)
        return self._issue(target(Kind.CALL, service, handler, parameter, key), issue, *scope, **scopes)

    def sys_send(
        self,
        service: str,
        handler: str,
        parameter: bytes,
        key: str | None = None,
        delay: int | None = None,
        idempotency_key: str | None = None,
        headers: list[tuple[str, str]] | None = None,
        *scope: str | None,
        **scopes: str | None,
    ) -> Any:
        """See the SDK."""
        headers = [*(headers or []), (STRAND_HEADER, current_path())]
        issue = partial(self._vm.sys_send, service, handler, parameter, key, delay, idempotency_key, headers)
        return self._issue(target(Kind.SEND, service, handler, parameter, key), issue, *scope, **scopes)

    def sys_awakeable(self) -> tuple[str, int]:
        """See the SDK."""
        number = len(self._awakeables)
        recorded = int(self.record(Key(_AWAKEABLE, current_path()), lambda: str(number).encode()))
        if recorded == number:
            self._make_awakeable()
        return self._awakeables[recorded]

    def sys_get_state(self, name: str, entry_name: str | None = None) -> Any:
        """See the SDK."""
        return self._issue((Kind.GET_LAZY_STATE, name), self._vm.sys_get_state, name, entry_name)

    def sys_get_state_keys(self, entry_name: str | None = None) -> Any:
        """See the SDK."""
        return self._issue((Kind.GET_LAZY_STATE_KEYS,), self._vm.sys_get_state_keys, entry_name)

    def sys_set_state(self, name: str, value: bytes, entry_name: str | None = None) -> None:
        """See the SDK."""
        self._issue((Kind.SET_STATE, name, value), self._vm.sys_set_state, name, value, entry_name)

    def sys_clear_state(self, name: str, entry_name: str | None = None) -> None:
        """See the SDK."""
        self._issue((Kind.CLEAR_STATE, name), self._vm.sys_clear_state, name, entry_name)

    def sys_clear_all_state(self, entry_name: str | None = None) -> None:
        """See the SDK."""
        self._issue((Kind.CLEAR_ALL_STATE,), self._vm.sys_clear_all_state, entry_name)

    def sys_resolve_awakeable(self, name: str, value: bytes) -> None:
        """See the SDK."""
        self._issue((Kind.COMPLETE_AWAKEABLE, name), self._vm.sys_resolve_awakeable, name, value)

    def sys_reject_awakeable(self, name: str, failure: Any) -> None:
        """See the SDK."""
        self._issue((Kind.COMPLETE_AWAKEABLE, name), self._vm.sys_reject_awakeable, name, failure)

    def sys_resolve_signal(self, invocation_id: str, signal_name: str, value: bytes) -> None:
        """See the SDK."""
        what = (Kind.SEND_SIGNAL, invocation_id, signal_name)
        self._issue(what, self._vm.sys_resolve_signal, invocation_id, signal_name, value)

    def sys_reject_signal(self, invocation_id: str, signal_name: str, failure: Any) -> None:
        """See the SDK."""
        what = (Kind.SEND_SIGNAL, invocation_id, signal_name)
        self._issue(what, self._vm.sys_reject_signal, invocation_id, signal_name, failure)

    def sys_cancel(self, invocation_id: str) -> None:
        """See the SDK."""
        self._issue((Kind.SEND_SIGNAL, invocation_id, ""), self._vm.sys_cancel, invocation_id)

    def attach_invocation(self, invocation_id: str) -> Any:
        """See the SDK."""
        return self._issue((Kind.ATTACH, invocation_id), self._vm.attach_invocation, invocation_id)

    def sys_get_promise(self, name: str) -> Any:
        """See the SDK."""
        return self._issue((Kind.GET_PROMISE, name), self._vm.sys_get_promise, name)

    def sys_peek_promise(self, name: str) -> Any:
        """See the SDK."""
        return self._issue((Kind.PEEK_PROMISE, name), self._vm.sys_peek_promise, name)

    def sys_complete_promise_success(self, name: str, value: bytes) -> Any:
        """See the SDK."""
        return self._issue((Kind.COMPLETE_PROMISE, name), self._vm.sys_complete_promise_success, name, value)

    def sys_complete_promise_failure(self, name: str, failure: Any) -> Any:
        """See the SDK."""
        return self._issue((Kind.COMPLETE_PROMISE, name), self._vm.sys_complete_promise_failure, name, failure)

    def _issue(self, what: tuple[Any, ...], issue: Callable[..., Any], *args: Any, **options: Any) -> Any:
        # What says all that it does is the same wherever it is asked for; a timer is its strand's own.
        recorded = self.memory.take(what, current_path(), elsewhere=what[0] != Kind.SLEEP)
        if recorded is not None:
            return recorded.result
        issued = issue(*args, **options)
        if issued is None:
            self._number()
        elif not isinstance(issued, int):
            self._number(issued.result_handle, issued.invocation_id_handle)
        elif what[0] == Kind.SEND:
            self._number(_NO_HANDLE, issued)
        else:
            self._number(issued)
        return issued

    def _make_awakeable(self) -> None:
        awakeable = self._vm.sys_awakeable()
        self._awakeables.append(awakeable)
        self.numbers[awakeable[1]] = -len(self._awakeables)
