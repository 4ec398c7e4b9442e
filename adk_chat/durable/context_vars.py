"""Context variables that code of a step sets, for the code that called it: spans, costs, ids of requests.

A step runs in a context of its own, and a plain function in a thread's. Under ADK both run in the context of the code
that calls them, so a callback after them sees what they have set.
"""

import sys
from collections.abc import Callable
from contextlib import suppress
from contextvars import Context, ContextVar, copy_context
from functools import lru_cache
from types import ModuleType
from typing import Any

from adk_chat.durable import seams, values

Changes = dict["ContextVar[Any]", Any]
_ABSENT = object()


def changes(before: Context, after: Context) -> Changes:
    """The variables that have another value after something than before it, with that value."""
    return {var: value for var, value in after.items() if before.get(var, _ABSENT) is not value}


def give_back(set_there: Changes) -> None:
    """Set them here as well."""
    for var, value in set_there.items():
        var.set(value)


def dump(set_there: Changes) -> dict[str, Any]:
    """Those that a replay can set again, as JSON: they are in a module, and their values can be kept."""
    kept: dict[str, Any] = {}
    for var, value in set_there.items():
        with suppress(values.UnjournalableError):
            if (name := _name(var)) is not None:
                kept[name] = values.encode(value)
    return kept


def load(kept: dict[str, Any]) -> Changes:
    """Those of them that are there still."""
    found: Changes = {}
    for name, value in kept.items():
        module, _, attribute = name.partition(":")
        var = getattr(sys.modules.get(module), attribute, None)
        if isinstance(var, ContextVar):
            found[var] = values.decode(value)
    return found


@lru_cache(maxsize=1024)
def _name(var: "ContextVar[Any]") -> str | None:
    """Where it is: `module:attribute`. It has no name of its own that others do not have too."""
    for name, module in list(sys.modules.items()):
        # Others may do anything when they are looked at, as those do that are imported late.
        for attribute, value in list(vars(module).items()) if type(module) is ModuleType else []:
            if value is var:
                return f"{name}:{attribute}"
    return None


def _out_of_a_thread(run: seams.FunctionRunner) -> seams.FunctionRunner:
    async def run_function(function: Callable[..., Any], arguments: dict[str, Any]) -> object:
        contexts: list[tuple[Context, Context]] = []

        def called(**given: Any) -> Any:
            before = copy_context()
            try:
                return function(**given)
            finally:
                contexts.append((before, copy_context()))

        try:
            return await run(called, arguments)
        finally:
            for before, after in contexts:
                give_back(changes(before, after))

    return run_function


def install() -> None:
    """Let what a tool sets in one of ADK's threads be set where the tool was called."""
    seams.wrap_threads(_out_of_a_thread)
