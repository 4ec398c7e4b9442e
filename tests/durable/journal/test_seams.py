"""Checks the private parts of the Restate SDK that we use, and says which moved."""

import inspect
from collections.abc import Callable
from typing import Any

import pytest
from restate import server_context, vm

from adk_chat.durable.journal.commands import COMMANDS
from adk_chat.durable.journal.state_machine import RememberingVm

# These leave no command, or end the handler.
NOT_LOOKED_FOR = {"sys_input", "sys_signal", "sys_end", "sys_write_output_success", "sys_write_output_failure"}


def parameters(function: Callable[..., Any]) -> list[str]:
    return list(inspect.signature(function).parameters)


@pytest.mark.parametrize(
    ("owner", "name", "takes", "used_for"),
    [
        (
            server_context.ServerInvocationContext,
            "create_poll_or_cancel_coroutine",
            ["self", "unresolved_future"],
            "awaiting the journal in one place",
        ),
        (server_context.ServerInvocationContext, "take_and_send_output", ["self"], "sending what was issued"),
        (server_context.ServerInvocationContext, "must_take_notification", ["self", "handle"], "taking results"),
        (vm.VMWrapper, "do_progress", ["self", "unresolved_future"], "awaiting the journal in one place"),
        (vm.VMWrapper, "is_completed", ["self", "handle"], "awaiting the journal in one place"),
        (vm.VMWrapper, "is_replaying", ["self"], "noticing that the journal of an attempt was not kept"),
        (vm.VMWrapper, "take_notification", ["self", "handle"], "taking results"),
        (vm.VMWrapper, "sys_run", ["self", "name"], "issuing recorded steps again"),
        (vm.VMWrapper, "sys_signal", ["self", "signal_name"], "hearing a cancellation while nothing is awaited"),
        (vm.VMWrapper, "propose_run_completion_success", ["self", "handle", "output"], "journaling steps"),
    ],
)
def test_a_function_is_where_it_was(owner: Any, name: str, takes: list[str], used_for: str) -> None:
    where = f"{getattr(owner, '__name__', owner)}.{name}"
    assert hasattr(owner, name), f"{where} is gone; adk_chat needs it for {used_for}."
    found = parameters(getattr(owner, name))
    assert found == takes, f"{where} takes {found} now, not {takes}; adk_chat needs it for {used_for}."


def test_whatever_issues_a_command_looks_for_a_recorded_one() -> None:
    issuing = {name for name in vars(vm.VMWrapper) if name.startswith("sys_")} | {"attach_invocation"}
    known = {name for name in vars(RememberingVm) if not name.startswith("_")} | COMMANDS.keys()
    assert issuing - known == NOT_LOOKED_FOR, (
        f"The SDK issues other commands now: {sorted((issuing - known) ^ NOT_LOOKED_FOR)}. On a replay "
        "adk_chat.durable.journal.state_machine.RememberingVm has to find those that are recorded."
    )


@pytest.mark.parametrize(
    ("owner", "name"),
    [
        (server_context, "_restate_context_var"),
        (server_context, "DisconnectedException"),
        (vm, "DoProgressWaitExternalProgress"),
        (vm, "DoProgressCancelSignalReceived"),
        (vm, "DoProgressExecuteRun"),
        (vm, "Suspended"),
        (vm, "SingleUnresolvedFuture"),
        (vm, "FirstCompletedUnresolvedFuture"),
        (vm, "AllCompletedUnresolvedFuture"),
    ],
)
def test_a_name_is_where_it_was(owner: Any, name: str) -> None:
    assert hasattr(owner, name), f"{owner.__name__}.{name} is gone; adk_chat/durable/journal/seams.py says what for."
