"""Context variables that a tool sets: returned from ADK's threads, and kept in the journal for replays."""

import sys
from collections.abc import Callable
from contextlib import suppress
from contextvars import Context, ContextVar, copy_context
from functools import lru_cache
from types import ModuleType
from typing import Any

from adk_chat.durable.adk import seams, values
from adk_chat.durable.journal.context_vars import Changes, changes, give_back


def dump(set_there: Changes) -> dict[str, Any]:
    """Returns those that a replay can set again, as JSON: variables of a module, whose values can be encoded."""
    kept: dict[str, Any] = {}
    for var, value in set_there.items():
        with suppress(values.UnjournalableError):
            if (name := _name(var)) is not None:
                kept[name] = values.encode(value)
    return kept


def load(kept: dict[str, Any]) -> Changes:
    """Returns the variables that `dump` described and that still exist."""
    found: Changes = {}
    for name, value in kept.items():
        module, _, attribute = name.partition(":")
        var = getattr(sys.modules.get(module), attribute, None)
        if isinstance(var, ContextVar):
            found[var] = values.decode(value)
    return found


@lru_cache(maxsize=1024)
def _name(var: "ContextVar[Any]") -> str | None:
    """Returns where a variable is, as `module:attribute`. Its own name need not be unique."""
    for name, module in list(sys.modules.items()):
        # Looking into a lazy module may import it.
        for attribute, value in list(vars(module).items()) if type(module) is ModuleType else []:
            if value is var:
                return f"{name}:{attribute}"
    return None


def keeping_context_vars(make: Any) -> Any:
    """Makes ADK's threads return the variables that a function sets there."""

    def made(executor: Any) -> seams.FunctionRunner:
        run = make(executor)

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

    return made
