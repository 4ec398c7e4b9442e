"""Recorded commands are issued again in their order, and found when code asks for them."""

from types import SimpleNamespace
from typing import Any

import pytest

from adk_chat.durable.journal import keys, seams
from adk_chat.durable.journal.entries import Command, Entries, Kind, Message
from adk_chat.durable.journal.keys import ROOT, Key
from adk_chat.durable.journal.state_machine import RememberingVm, UnknownCommandError

MARKER = "adk_chat began"


def message(**fields: int | str | bytes | list[bytes]) -> Message:
    """A protobuf message: `f12="name"` is field 12."""
    data = b""
    for name, value in fields.items():
        number = int(name[1:])
        for one in value if isinstance(value, list) else [value]:
            if isinstance(one, int):
                data += varint(number << 3) + varint(one)
            else:
                text = one.encode() if isinstance(one, str) else one
                data += varint(number << 3 | 2) + varint(len(text)) + text
    return Message(data)


def varint(value: int) -> bytes:
    data = b""
    while value >= 0x80:
        data += bytes([value & 0x7F | 0x80])
        value >>= 7
    return data + bytes([value])


def bytes_of(**fields: int | str | bytes) -> bytes:
    data = b""
    for name, value in fields.items():
        text = value.encode() if isinstance(value, str) else value
        assert isinstance(text, bytes)
        data += varint(int(name[1:]) << 3 | 2) + varint(len(text)) + text
    return data


class SdkVm:
    """The SDK's state machine: it records what is issued, and returns handles from 100 on."""

    def __init__(self, replayed: bool) -> None:
        self.issued: list[tuple[Any, ...]] = []
        self.proposed: list[tuple[int, bytes]] = []
        self._replayed = replayed

    def propose_run_completion_success(self, handle: int, value: bytes) -> None:
        self.proposed.append((handle, value))

    def sys_run(self, name: str) -> Any:
        return SimpleNamespace(handle=self._issue("sys_run", name), replayed=self._replayed)

    def sys_call(self, **request: Any) -> Any:
        handle = self._issue("sys_call", request["service"], request["handler"], request["key"], request["parameter"])
        return SimpleNamespace(result_handle=handle, invocation_id_handle=handle + 1000)

    def sys_end(self) -> None:
        self._issue("sys_end")

    def __getattr__(self, name: str) -> Any:
        return lambda *args: self._issue(name, *args)

    def _issue(self, *what: Any) -> int:
        self.issued.append(what)
        return 99 + len(self.issued)


def begun(
    *commands: Command, sdk: SdkVm | None = None, completed: dict[int, int] | None = None, **values: bytes
) -> tuple[RememberingVm, SdkVm]:
    """A state machine that has started with the marker and these commands recorded."""
    entries = Entries(
        commands=[Command(Kind.RUN, message(f11=1, f12=MARKER)), *commands],
        completed={1: 0, **(completed or {})},
        values={1: b"marker", **{int(name[1:]): value for name, value in values.items()}},
    )
    sdk = sdk or SdkVm(replayed=True)
    vm = RememberingVm(sdk)
    assert vm.begin(MARKER, entries, lambda: b"never") == b"marker"
    return vm, sdk


def run(number: int, name: str) -> Command:
    return Command(Kind.RUN, message(f11=number, f12=name))


STEP = Key("tool note", ROOT, "abcdef")


def test_a_first_attempt_records_its_marker_and_nothing_else() -> None:
    sdk = SdkVm(replayed=False)
    vm = RememberingVm(sdk)
    assert vm.begin(MARKER, Entries(), lambda: b"made") == b"made"
    assert (vm.resumed, sdk.issued, sdk.proposed) == (False, [("sys_run", MARKER)], [(100, b"made")])


def test_all_that_is_recorded_is_issued_again_in_its_order() -> None:
    vm, sdk = begun(
        run(2, STEP.name),
        Command(Kind.SLEEP, message(f11=3, f12=Key("pause", ROOT).name)),
        Command(Kind.SET_STATE, message(f1="mood", f3=bytes_of(f1="fine"))),
        Command(Kind.CALL, message(f1="Chat", f2="append", f3=b"{}", f5="u", f10=4, f11=5)),
        Command(Kind.SEND_SIGNAL, message(f1="inv_1", f2=1)),
    )
    assert [what[0] for what in sdk.issued] == [
        "sys_run",
        "sys_run",
        "sys_sleep",
        "sys_set_state",
        "sys_call",
        "sys_cancel",
    ]
    assert (sdk.issued[3], sdk.issued[4]) == (
        ("sys_set_state", "mood", b"fine"),
        ("sys_call", "Chat", "append", "u", b"{}"),
    )
    assert vm.resumed


def test_what_is_recorded_is_found_once_and_not_issued_again() -> None:
    vm, sdk = begun(
        run(2, STEP.name),
        Command(Kind.SET_STATE, message(f1="mood", f3=bytes_of(f1="fine"))),
        completed={2: 1},
        v2=b"noted",
    )
    issued = len(sdk.issued)
    found = vm.find(STEP)
    assert found is not None
    assert (found.known, found.value) == (True, b"noted")
    assert vm.find(STEP) is None
    vm.sys_set_state("mood", b"fine")
    assert len(sdk.issued) == issued
    vm.sys_set_state("mood", b"fine")
    assert sdk.issued[issued:] == [("sys_set_state", "mood", b"fine")]


def test_a_value_is_recorded_once_and_a_replay_reads_it() -> None:
    key = Key("note", ROOT)
    vm, sdk = begun()
    assert vm.record(key, lambda: b"first") == b"first"
    assert sdk.proposed[-1][1] == b"first"
    vm, sdk = begun(run(2, key.name), completed={2: 1}, v2=b"first")
    assert vm.record(key, lambda: b"second") == b"first"
    assert not sdk.proposed


def test_a_timer_belongs_to_its_strand() -> None:
    keys.enter(None)
    vm, sdk = begun(Command(Kind.SLEEP, message(f11=3, f12=Key("pause", "123abc").name)))
    vm.sys_sleep(5, "pause")
    assert len(sdk.issued) == 3, "that of another strand is not taken"


def test_an_attempt_whose_output_is_recorded_ends_with_it() -> None:
    sdk = SdkVm(replayed=True)
    with pytest.raises(seams.AttemptOver):
        begun(Command(Kind.OUTPUT, message(f14=bytes_of(f1="said"))), sdk=sdk)
    assert sdk.issued[1:] == [("sys_write_output_success", b"said"), ("sys_end",)]


def test_a_command_that_is_not_known_is_said() -> None:
    with pytest.raises(UnknownCommandError, match="0x04ff"):
        begun(Command(0x04FF, message()))
