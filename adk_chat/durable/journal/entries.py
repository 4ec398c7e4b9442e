"""The recorded journal that Restate sends to a handler at the start of an attempt.

It covers as much of Restate's service protocol as is needed to issue recorded commands again: frames with a header and
a protobuf message.
"""

import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Any

_HEADER = struct.Struct(">HHI")  # type, flags, length
_START = 0x0000
_KNOWN_ENTRIES = 3
_NOTIFICATIONS = 0x8000
_RUN_COMPLETION = 0x8011
_COMPLETION_ID, _VALUE = 1, 5
_SIGNAL = 0xFBFF
_SIGNAL_INDEX, _CANCEL = 2, 1
_VARINT, _FIXED_64, _BYTES, _FIXED_32 = 0, 1, 2, 5


class Kind(IntEnum):
    """The commands of the protocol."""

    INPUT = 0x0400
    OUTPUT = 0x0401
    GET_LAZY_STATE = 0x0402
    SET_STATE = 0x0403
    CLEAR_STATE = 0x0404
    CLEAR_ALL_STATE = 0x0405
    GET_LAZY_STATE_KEYS = 0x0406
    GET_EAGER_STATE = 0x0407
    GET_EAGER_STATE_KEYS = 0x0408
    GET_PROMISE = 0x0409
    PEEK_PROMISE = 0x040A
    COMPLETE_PROMISE = 0x040B
    SLEEP = 0x040C
    CALL = 0x040D
    SEND = 0x040E
    SEND_SIGNAL = 0x0410
    RUN = 0x0411
    ATTACH = 0x0412
    GET_OUTPUT = 0x0413
    COMPLETE_AWAKEABLE = 0x0414


class Message:
    """A protobuf message, by field number. A missing field is None or empty."""

    def __init__(self, data: bytes) -> None:
        self._fields: dict[int, list[Any]] = {}
        for number, value in _fields(data):
            self._fields.setdefault(number, []).append(value)

    def has(self, number: int) -> bool:
        """Returns whether a field is there."""
        return number in self._fields

    def number(self, number: int) -> int:
        """Returns a number, or 0."""
        value: int = self._fields.get(number, [0])[-1]
        return value

    def data(self, number: int) -> bytes:
        """Returns bytes, or none."""
        value: bytes = self._fields.get(number, [b""])[-1]
        return value

    def text(self, number: int) -> str:
        """Returns a string, or an empty one."""
        return self.data(number).decode()

    def optional_text(self, number: int) -> str | None:
        """Returns a string, or None."""
        return self.text(number) if self.has(number) else None

    def message(self, number: int) -> "Message":
        """Returns an embedded message."""
        return Message(self.data(number))

    def messages(self, number: int) -> "list[Message]":
        """Returns all messages of a repeated field."""
        return [Message(data) for data in self._fields.get(number, [])]


def _fields(data: bytes) -> Iterator[tuple[int, int | bytes]]:
    at = 0
    while at < len(data):
        tag, at = _varint(data, at)
        kind = tag & 7
        if kind == _VARINT:
            value, at = _varint(data, at)
            yield tag >> 3, value
        else:
            size, at = _varint(data, at) if kind == _BYTES else ({_FIXED_64: 8, _FIXED_32: 4}[kind], at)
            yield tag >> 3, data[at : at + size]
            at += size


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            return value, at


@dataclass(frozen=True)
class Command:
    """A command of the journal."""

    kind: int
    message: Message


@dataclass
class Entries:
    """The entries of a journal, assembled from what arrives."""

    commands: list[Command] = field(default_factory=list)
    """The commands that were recorded when the attempt began, in order."""
    completed: dict[int, int] = field(default_factory=dict)
    """The place in the journal of each recorded completion, by its id."""
    cancelled: int | None = None
    """The place of the cancellation among them, if there is one."""
    values: dict[int, bytes] = field(default_factory=dict)
    """The results of completed runs, by completion id. Failed runs have none."""
    _rest: bytearray = field(default_factory=bytearray)
    _missing: int | None = None

    def feed(self, data: bytes) -> None:
        """Takes the next bytes. They are ignored once the recorded journal is complete."""
        if self._missing == 0:
            return
        self._rest += data
        while self._missing != 0 and len(self._rest) >= _HEADER.size:
            kind, _, length = _HEADER.unpack_from(self._rest)
            end = _HEADER.size + length
            if len(self._rest) < end:
                return
            body = bytes(memoryview(self._rest)[_HEADER.size : end])
            del self._rest[:end]
            self._take(kind, body)
        if self._missing == 0:
            self._rest.clear()

    def _take(self, kind: int, body: bytes) -> None:
        if kind == _START:
            self._missing = Message(body).number(_KNOWN_ENTRIES)
            return
        self._missing = (self._missing or 0) - 1
        if kind < _NOTIFICATIONS:
            self.commands.append(Command(kind, Message(body)))
            return
        message = Message(body)
        if kind == _SIGNAL:
            if message.number(_SIGNAL_INDEX) == _CANCEL:
                self.cancelled = len(self.completed)
        elif message.has(_COMPLETION_ID):
            number = message.number(_COMPLETION_ID)
            self.completed[number] = len(self.completed)
            if kind == _RUN_COMPLETION and message.has(_VALUE):
                self.values[number] = message.message(_VALUE).data(1)
