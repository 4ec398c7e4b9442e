"""The commands of a journal, each with how it is read back and what it is found by.

There is one table for both directions. At the start of an attempt a recorded command is issued again with the arguments
that `read` returns; Restate compares what a replay issues with the journal. Later, when code asks for a command, it is
looked up by the same key.
"""

from collections.abc import Callable, Hashable
from typing import Any, NamedTuple

from adk_chat.durable.journal import keys, seams
from adk_chat.durable.journal.entries import Kind, Message

STRAND_HEADER = "x-adk-chat-strand"
"""The header of a call with the strand that asked for it. Persisted: Restate compares headers on a replay."""
NAME, INVOCATION_COMPLETION, COMPLETION = 12, 10, 11
"""Protobuf fields that commands have in common."""


class Request(NamedTuple):
    """A call, or a one-way call."""

    service: str
    handler: str
    parameter: bytes
    key: str | None
    idempotency_key: str | None
    scope: str | None
    limit_key: str | None
    headers: list[tuple[str, str]]

    @classmethod
    def read(cls, kind: Kind, message: Message) -> "Request":
        """Returns the request of a recorded command."""
        headers = 4 if kind is Kind.CALL else 5  # the fields behind them come in the same order
        said = [(header.text(1), header.text(2)) for header in message.messages(headers)]
        key, idempotency_key, scope, limit_key = (message.optional_text(headers + n) for n in range(1, 5))
        return cls(message.text(1), message.text(2), message.data(3), key, idempotency_key, scope, limit_key, said)

    @property
    def strand(self) -> str:
        """The strand that asked for it."""
        return dict(self.headers).get(STRAND_HEADER, keys.ROOT)


class Command(NamedTuple):
    """A command without a strand: it means the same wherever code asks for it."""

    kind: Kind
    keyed: int
    """How many of its arguments it is found by."""
    read: Callable[[Message], tuple[Any, ...]]
    """Returns its arguments, as they are recorded."""
    field: int | None = None
    """A protobuf field that tells it from other commands of the same kind."""

    def key(self, arguments: tuple[Any, ...]) -> Hashable:
        """Returns what it is found by."""
        return (self.kind, *arguments[: self.keyed])


def run_key(name: str) -> Hashable:
    """Returns what a run is found by."""
    return (Kind.RUN, name)


def sleep_key(name: str) -> Hashable:
    """Returns what a timer is found by."""
    return (Kind.SLEEP, name)


def call_key(kind: Kind, service: str, handler: str, parameter: bytes, key: str | None) -> Hashable:
    """Returns what a call, or a one-way call, is found by."""
    return (kind, service, handler, key or "", keys.digest(parameter))


def _name(message: Message) -> tuple[str]:
    return (message.text(1),)


def _nothing(_: Message) -> tuple[()]:
    return ()


def _value(field: int) -> Callable[[Message], tuple[str, bytes]]:
    return lambda message: (message.text(1), message.message(field).data(1))


def _failure(field: int) -> Callable[[Message], tuple[str, Any]]:
    return lambda message: (message.text(1), seams.recorded_failure(message.message(field)))


COMMANDS: dict[str, Command] = {
    "sys_get_state": Command(Kind.GET_LAZY_STATE, 1, _name),
    "sys_get_state_keys": Command(Kind.GET_LAZY_STATE_KEYS, 0, _nothing),
    "sys_set_state": Command(Kind.SET_STATE, 2, _value(3)),
    "sys_clear_state": Command(Kind.CLEAR_STATE, 1, _name),
    "sys_clear_all_state": Command(Kind.CLEAR_ALL_STATE, 0, _nothing),
    "sys_reject_awakeable": Command(Kind.COMPLETE_AWAKEABLE, 1, _failure(3), field=3),
    "sys_resolve_awakeable": Command(Kind.COMPLETE_AWAKEABLE, 1, _value(2)),
    "sys_cancel": Command(Kind.SEND_SIGNAL, 1, _name, field=2),
    "sys_reject_signal": Command(
        Kind.SEND_SIGNAL, 2, lambda m: (m.text(1), m.text(3), seams.recorded_failure(m.message(6))), field=6
    ),
    "sys_resolve_signal": Command(Kind.SEND_SIGNAL, 2, lambda m: (m.text(1), m.text(3), m.message(5).data(1))),
    "attach_invocation": Command(Kind.ATTACH, 1, _name),
    "sys_get_promise": Command(Kind.GET_PROMISE, 1, _name),
    "sys_peek_promise": Command(Kind.PEEK_PROMISE, 1, _name),
    "sys_complete_promise_failure": Command(Kind.COMPLETE_PROMISE, 1, _failure(3), field=3),
    "sys_complete_promise_success": Command(Kind.COMPLETE_PROMISE, 1, _value(2)),
}
"""The commands of the SDK's state machine, by the method that issues them; runs, timers and calls have a strand."""

_EAGER: dict[int, int] = {
    Kind.GET_EAGER_STATE: Kind.GET_LAZY_STATE,
    Kind.GET_EAGER_STATE_KEYS: Kind.GET_LAZY_STATE_KEYS,
}


def recorded_as(kind: int, message: Message) -> tuple[str, Command] | None:
    """Returns the method and the command that a recorded message stands for; None if it is unknown."""
    kind = _EAGER.get(kind, kind)
    for method, command in COMMANDS.items():
        if command.kind == kind and (command.field is None or message.has(command.field)):
            return method, command
    return None
