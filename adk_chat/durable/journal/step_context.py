"""The context of code inside a step: as if there were no journal."""

import contextvars
from contextvars import Context
from typing import Any

from adk_chat.durable.journal import keys, seams


class NoContext:
    """What code inside a journaled step gets if it asks for the Restate context."""

    def __getattr__(self, name: str) -> Any:
        raise RuntimeError(
            "The Restate context was asked for inside a journaled step, where nothing can be journaled. "
            "If this tool needs Restate itself, decorate it with @adk_chat.restate_tool; it then runs outside a step."
        )


def outside_journal() -> Context:
    """Returns a copy of the current context for code of a step."""
    context = contextvars.copy_context()
    context.run(_leave)
    return context


def _leave() -> None:
    keys.enter(None)
    seams.replace_context(NoContext())
