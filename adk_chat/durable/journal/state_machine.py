"""The state machine of the Restate SDK, for code that runs with a memory."""

from collections.abc import Callable, Hashable
from contextvars import Context
from functools import partial
from typing import Any

from adk_chat.durable.journal import commands, seams
from adk_chat.durable.journal.commands import COMMANDS, COMPLETION, INVOCATION_COMPLETION, NAME, STRAND_HEADER, Request
from adk_chat.durable.journal.entries import Command, Entries, Kind, Message
from adk_chat.durable.journal.keys import ROOT, Key, current_path
from adk_chat.durable.journal.recorded import Memory, Recorded
from adk_chat.durable.journal.step_context import outside_journal

_AWAKEABLE = "awakeable"
_VALUE, _FAILURE = 14, 15
_NO_HANDLE = -1


class UnknownCommandError(Exception):
    """A journal has a command that this version does not know."""


class RememberingVm:
    """The state machine of the Restate SDK with a memory. It has all methods of the SDK's own.

    A method that issues a command first looks for a recorded one; see `adk_chat.durable.journal.recorded`.
    """

    def __init__(self, vm: Any) -> None:
        self._vm = vm
        self.memory = Memory()
        self.resumed = False
        """Whether an earlier attempt recorded something."""
        self.ranks: dict[int, int] = {}
        """The places in the journal of the results that were recorded, by handle."""
        self.numbers: dict[int, int] = {}
        """A number for each result that is the same in every attempt, by handle."""
        self.askers: dict[int, Context] = {}
        """The contexts in which `ctx.run` was called, by handle: its action runs as if it were called there."""
        self._issued = 0
        """How many commands were issued after the marker."""
        self._awakeables: list[tuple[str, int]] = []
        self._unasked: list[tuple[int, Recorded]] = []
        """The runs whose result was recorded, by its place in the journal, the last one first."""

    def __getattr__(self, name: str) -> Any:
        command = COMMANDS.get(name)
        return getattr(self._vm, name) if command is None else partial(self._command, name, command)

    # --- The start of an attempt ----------------------------------------------------------------------------------

    def begin(self, marker: str, entries: Entries, make: Callable[[], bytes]) -> bytes:
        """Issues the marker of the beginning, and everything that is recorded after it.

        Invariant: until everything is issued, nothing is awaited (that is an error) or proposed (Restate ignores it).

        Args:
            marker: the name of a run.
            entries: the recorded journal.
            make: returns the value of the marker if it is not recorded.

        Returns:
            The value of the marker. `resumed` then says whether something is recorded after it.

        Raises:
            UnknownCommandError: if one of the commands cannot be issued.
            SdkInternalBaseException: if the handler had ended. Restate was told so again.
        """
        names = [command.message.text(NAME) for command in entries.commands]
        after = entries.commands[names.index(marker) + 1 :] if marker in names else []
        self.resumed = bool(after)
        run = self._vm.sys_run(marker)
        self._issue_again(entries, after)
        if run.replayed:
            return entries.values[entries.commands[names.index(marker)].message.number(COMPLETION)]
        value = make()
        self._vm.propose_run_completion_success(run.handle, value)
        return value

    def _issue_again(self, entries: Entries, recorded_commands: list[Command]) -> None:
        awakeables = 0
        for command in recorded_commands:
            message = command.message
            if command.kind == Kind.OUTPUT:
                self._write_output(message)
                raise seams.attempt_over()
            what, recorded, *handles = self._reissue(command.kind, message)
            number = message.number(COMPLETION)
            if command.kind == Kind.RUN:
                recorded.known, recorded.value = number in entries.completed, entries.values.get(number)
                if what == commands.run_key(_AWAKEABLE) and recorded.value is not None:
                    awakeables = max(awakeables, int(recorded.value) + 1)
                if recorded.known:
                    self._unasked.append((entries.completed[number], recorded))
            for handle, completion in zip(handles, (number, message.number(INVOCATION_COMPLETION)), strict=False):
                if completion in entries.completed:
                    self.ranks[handle] = entries.completed[completion]
            recorded.number = self._number(*handles)
            self.memory.keep(what, recorded)
        self._unasked.sort(key=lambda ranked: -ranked[0])
        # They are numbered in the order in which they are made, and leave no command.
        for _ in range(awakeables):
            self._make_awakeable()

    def _reissue(self, kind: int, message: Message) -> tuple[Any, ...]:
        """Issues a recorded command again. Returns its key, its record, and the handles of its results."""
        if kind == Kind.RUN:
            key = Key.parse(message.text(NAME))
            handle = self._vm.sys_run(message.text(NAME)).handle
            return commands.run_key(key.what), Recorded(key.strand, key.content, handle), handle
        if kind == Kind.SLEEP:  # only the name of a timer is compared
            key = Key.parse(message.text(NAME))
            handle = self._vm.sys_sleep(0, message.optional_text(NAME))
            return commands.sleep_key(key.what), Recorded(key.strand, "", handle), handle
        if kind in (Kind.CALL, Kind.SEND):
            request = Request.read(Kind(kind), message)
            what = commands.call_key(Kind(kind), request.service, request.handler, request.parameter, request.key)
            if kind == Kind.SEND:
                handle = self._vm.sys_send(**request._asdict())
                return what, Recorded(request.strand, "", handle, value=request.parameter), _NO_HANDLE, handle
            call = self._vm.sys_call(**request._asdict())
            recorded = Recorded(request.strand, "", call, value=request.parameter)
            return what, recorded, call.result_handle, call.invocation_id_handle
        found = commands.recorded_as(kind, message)
        if found is None:
            raise UnknownCommandError(
                f"The journal of this turn has a command {kind:#06x} that adk_chat does not know. Kill the turn and "
                "send its message again."
            )
        method, command = found
        arguments = command.read(message)
        handle = getattr(self._vm, method)(*arguments)
        return command.key(arguments), Recorded(ROOT, "", handle), *([] if handle is None else [handle])

    def _write_output(self, message: Message) -> None:
        if message.has(_FAILURE):
            self._vm.sys_write_output_failure(seams.recorded_failure(message.message(_FAILURE)))
        else:
            self._vm.sys_write_output_success(message.message(_VALUE).data(1))
        self._vm.sys_end()

    def known_before(self, rank: float) -> bool:
        """Returns whether a run that nobody has asked for yet ended before that place in the journal."""
        while self._unasked and self._unasked[-1][1].taken:
            self._unasked.pop()
        return bool(self._unasked) and self._unasked[-1][0] < rank

    def _number(self, *handles: int) -> int:
        """Numbers a command that was issued, given the handles of its result and of a called invocation's id."""
        number = self._issued
        for place, handle in enumerate(handles):
            self.numbers[handle] = 2 * number + place
        self._issued += 1
        return number

    # --- Steps ----------------------------------------------------------------------------------------------------

    def find(self, key: Key, *, moved: bool = True) -> Recorded | None:
        """Returns the recorded run of a key; see `Memory.take`."""
        return self.memory.take(commands.run_key(key.what), key.strand, key.content, moved=moved)

    def issue(self, key: Key) -> Recorded:
        """Issues a new run."""
        handle = self._vm.sys_run(key.name).handle
        self._number(handle)
        return Recorded(key.strand, key.content, handle, taken=True)

    def record(self, key: Key, make: Callable[[], bytes]) -> bytes:
        """Returns a recorded value, or records what `make` returns.

        Restate stores what a handler sends in order, so whatever is journaled afterwards is not stored without it.
        """
        recorded = self.find(key) or self.issue(key)
        if recorded.value is not None:
            return recorded.value
        value = make()
        self._vm.propose_run_completion_success(recorded.result, value)
        return value

    def recorded(self, what: str) -> list[bytes]:
        """Returns all values that were recorded under a name outside of the agent's code."""
        found = self.memory.take_all(commands.run_key(what), ROOT)
        return [recorded.value for recorded in found if recorded.value is not None]

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
        # A timer belongs to its strand; everything else is the same wherever it is asked for.
        return self._ask(commands.sleep_key(key.what), self._vm.sys_sleep, millis, key.name, elsewhere=False)

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
        request = (service, handler, parameter, key, idempotency_key, headers, *scope)
        issue = partial(self._vm.sys_call, *request, **scopes)
        return self._ask(commands.call_key(Kind.CALL, service, handler, parameter, key), issue)

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
        request = (service, handler, parameter, key, delay, idempotency_key, headers, *scope)
        issue = partial(self._vm.sys_send, *request, **scopes)
        return self._ask(commands.call_key(Kind.SEND, service, handler, parameter, key), issue, of_send=True)

    def sys_awakeable(self) -> tuple[str, int]:
        """See the SDK."""
        number = len(self._awakeables)
        recorded = int(self.record(Key(_AWAKEABLE, current_path()), lambda: str(number).encode()))
        if recorded == number:
            self._make_awakeable()
        return self._awakeables[recorded]

    def _command(self, method: str, command: commands.Command, *arguments: Any, **options: Any) -> Any:
        return self._ask(command.key(arguments), getattr(self._vm, method), *arguments, **options)

    def _ask(
        self,
        what: Hashable,
        issue: Callable[..., Any],
        *arguments: Any,
        elsewhere: bool = True,
        of_send: bool = False,
        **options: Any,
    ) -> Any:
        """Returns the result of the recorded command of that key, or issues a new one."""
        recorded = self.memory.take(what, current_path(), elsewhere=elsewhere)
        if recorded is not None:
            return recorded.result
        issued = issue(*arguments, **options)
        if issued is None:
            self._number()
        elif not isinstance(issued, int):
            self._number(issued.result_handle, issued.invocation_id_handle)
        elif of_send:
            self._number(_NO_HANDLE, issued)
        else:
            self._number(issued)
        return issued

    def _make_awakeable(self) -> None:
        awakeable = self._vm.sys_awakeable()
        self._awakeables.append(awakeable)
        self.numbers[awakeable[1]] = -len(self._awakeables)
