"""Context variables that a step sets, for the code that called it.

A step runs in a context of its own. Under ADK it would run in the context of its caller, so a callback after it sees
the variables that it has set: spans, costs, request ids.
"""

from contextvars import Context, ContextVar
from typing import Any

Changes = dict["ContextVar[Any]", Any]
_ABSENT = object()


def changes(before: Context, after: Context) -> Changes:
    """Returns the variables whose value differs between two contexts, with their later value."""
    return {var: value for var, value in after.items() if before.get(var, _ABSENT) is not value}


def give_back(set_there: Changes) -> None:
    """Sets the variables in the current context."""
    for var, value in set_there.items():
        var.set(value)
