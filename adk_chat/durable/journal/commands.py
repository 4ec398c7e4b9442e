"""How each recorded command is issued again, with what is recorded of it.

The engine compares what a replay issues with the journal: all of a call, headers included; of a sleep the name alone;
of a run the name and its place.
"""

from collections.abc import Callable, Hashable
from typing import Any

from adk_chat.durable.journal import keys, seams
from adk_chat.durable.journal.entries import Kind, Message
from adk_chat.durable.journal.keys import Key
from adk_chat.durable.journal.recorded import Recorded, run, target

STRAND_HEADER = "x-adk-chat-strand"
"""Which strand has asked for a call; see `Key` for what has a name."""
NAME, INVOCATION_COMPLETION, COMPLETION = 12, 10, 11
"""Fields that commands have in common."""

Echoed = tuple[Any, ...]
"""What a command is for, the record of it, and the handles of its result and of the id of a called invocation."""


def _named(vm: Any, message: Message) -> Echoed:
    name = message.text(NAME)
    key = Key.parse(name)
    handle = vm.sys_run(name).handle
    return run(key.what), Recorded(key.strand, key.content, handle), handle


def _sleep(vm: Any, message: Message) -> Echoed:
    key = Key.parse(message.text(NAME))
    handle = vm.sys_sleep(0, message.optional_text(NAME))
    return (Kind.SLEEP, key.what), Recorded(key.strand, "", handle), handle


def _call(vm: Any, message: Message) -> Echoed:
    what, strand, request = _request(Kind.CALL, message, headers=4)
    call = vm.sys_call(**request)
    return what, Recorded(strand, "", call, value=request["parameter"]), call.result_handle, call.invocation_id_handle


def _send(vm: Any, message: Message) -> Echoed:
    what, strand, request = _request(Kind.SEND, message, headers=5)
    handle = vm.sys_send(**request)
    return what, Recorded(strand, "", handle, value=request["parameter"]), -1, handle


def _request(kind: Kind, message: Message, headers: int) -> tuple[Hashable, str, dict[str, Any]]:
    """What a call is for, its strand, and all that it says; the fields after its headers come in the same order."""
    said = [(header.text(1), header.text(2)) for header in message.messages(headers)]
    to = message.text(1), message.text(2), message.data(3), message.optional_text(headers + 1)
    request = dict(zip(("service", "handler", "parameter", "key"), to, strict=True))
    for number, name in enumerate(("idempotency_key", "scope", "limit_key"), headers + 2):
        request[name] = message.optional_text(number)
    return target(kind, *to), dict(said).get(STRAND_HEADER, keys.ROOT), {**request, "headers": said}


def _signal(vm: Any, message: Message) -> Echoed:
    target, name = message.text(1), message.text(3)
    if message.has(2):
        vm.sys_cancel(target)
    elif message.has(6):
        vm.sys_reject_signal(target, name, _failure(message.message(6)))
    else:
        vm.sys_resolve_signal(target, name, message.message(5).data(1))
    return _plain((Kind.SEND_SIGNAL, target, name), None)


def _awakeable(vm: Any, message: Message) -> Echoed:
    if message.has(3):
        vm.sys_reject_awakeable(message.text(1), _failure(message.message(3)))
    else:
        vm.sys_resolve_awakeable(message.text(1), message.message(2).data(1))
    return _plain((Kind.COMPLETE_AWAKEABLE, message.text(1)), None)


def _promise(vm: Any, message: Message) -> Echoed:
    name = message.text(1)
    if message.has(3):
        handle = vm.sys_complete_promise_failure(name, _failure(message.message(3)))
    else:
        handle = vm.sys_complete_promise_success(name, message.message(2).data(1))
    return _plain((Kind.COMPLETE_PROMISE, name), handle)


def _failure(message: Message) -> Any:
    return seams.failure(message.number(1), message.text(2))


def _set(vm: Any, message: Message) -> Echoed:
    name, value = message.text(1), message.message(3).data(1)
    vm.sys_set_state(name, value)
    return _plain((Kind.SET_STATE, name, value), None)


def _plain(what: Hashable, handle: Any) -> Echoed:
    return (what, Recorded(keys.ROOT, "", handle), *([] if handle is None else [handle]))


ECHOES: dict[int, Callable[[Any, Message], Echoed]] = {
    Kind.RUN: _named,
    Kind.SLEEP: _sleep,
    Kind.CALL: _call,
    Kind.SEND: _send,
    Kind.SEND_SIGNAL: _signal,
    Kind.COMPLETE_AWAKEABLE: _awakeable,
    Kind.COMPLETE_PROMISE: _promise,
    Kind.SET_STATE: _set,
    Kind.GET_LAZY_STATE: lambda vm, m: _plain((Kind.GET_LAZY_STATE, m.text(1)), vm.sys_get_state(m.text(1))),
    Kind.GET_EAGER_STATE: lambda vm, m: _plain((Kind.GET_LAZY_STATE, m.text(1)), vm.sys_get_state(m.text(1))),
    Kind.GET_LAZY_STATE_KEYS: lambda vm, _: _plain((Kind.GET_LAZY_STATE_KEYS,), vm.sys_get_state_keys()),
    Kind.GET_EAGER_STATE_KEYS: lambda vm, _: _plain((Kind.GET_LAZY_STATE_KEYS,), vm.sys_get_state_keys()),
    Kind.CLEAR_STATE: lambda vm, m: _plain((Kind.CLEAR_STATE, m.text(1)), vm.sys_clear_state(m.text(1))),
    Kind.CLEAR_ALL_STATE: lambda vm, _: _plain((Kind.CLEAR_ALL_STATE,), vm.sys_clear_all_state()),
    Kind.GET_PROMISE: lambda vm, m: _plain((Kind.GET_PROMISE, m.text(1)), vm.sys_get_promise(m.text(1))),
    Kind.PEEK_PROMISE: lambda vm, m: _plain((Kind.PEEK_PROMISE, m.text(1)), vm.sys_peek_promise(m.text(1))),
    Kind.ATTACH: lambda vm, m: _plain((Kind.ATTACH, m.text(1)), vm.attach_invocation(m.text(1))),
}
