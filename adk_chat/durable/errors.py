"""What an exception of a model or a tool means, and how it is kept in the journal so that a replay raises it again."""

import asyncio
import contextlib
import importlib
from collections.abc import Mapping
from typing import Any, cast

import httpx
from pydantic import BaseModel

from adk_chat.durable import values

_TRANSIENT_STATUS = {408, 429}
# aiohttp, the OpenAI SDK and Anthropic's name their connection errors so; none of them need be installed.
_TRANSIENT_NAMES = {"ClientConnectionError", "APIConnectionError"}


def is_transient(error: BaseException) -> bool:
    """Whether the same model call may succeed in a moment: no connection, a timeout, HTTP 408, 429 or 5xx."""
    response = getattr(error, "response", None)  # of httpx's HTTPStatusError, and of those of requests
    named = (getattr(error, "code", None), getattr(error, "status_code", None), getattr(response, "status_code", None))
    status = next((value for value in named if isinstance(value, int)), None)
    if status is not None:
        return status in _TRANSIENT_STATUS or 500 <= status < 600
    if isinstance(error, ConnectionError | TimeoutError | httpx.TransportError):
        return True
    return any(base.__name__ in _TRANSIENT_NAMES for base in type(error).__mro__)


def is_cancelled(error: BaseException) -> bool:
    """Whether `error` is raised because the task that asks is being cancelled, and not by somebody's own decision."""
    task = asyncio.current_task()
    return isinstance(error, asyncio.CancelledError) and task is not None and task.cancelling() > 0


Raisable = Exception | asyncio.CancelledError
"""What a step may raise. Anything else, as `SystemExit`, would end the event loop, and the process with all turns."""


class ErrorRecord(BaseModel):
    """An exception as the journal keeps it."""

    type: str
    message: str
    args: list[Any] = []
    attributes: dict[str, Any] = {}

    @classmethod
    def of(cls, error: BaseException) -> "ErrorRecord":
        """Describe `error`; arguments and attributes that have no JSON form are left out."""
        kind = type(error)
        return cls(
            type=f"{kind.__module__}:{kind.__qualname__}",
            message=str(error),
            args=list(_encodable(dict(enumerate(error.args))).values()),
            attributes=_encodable(vars(error)),
        )

    def rebuild(self) -> Raisable:
        """An exception of the same class with the same message, or of one of the same name where none can be made."""
        module, _, name = self.type.partition(":")
        try:
            kind: Any = importlib.import_module(module)
            for part in name.split("."):
                kind = getattr(kind, part)
            error = kind.__new__(kind)
            error.args = tuple(values.decode(arg) for arg in self.args)
            vars(error).update({key: values.decode(value) for key, value in self.attributes.items()})
            same = isinstance(error, Raisable) and str(error) == self.message
        except (ImportError, AttributeError, TypeError, values.UnjournalableError):
            same = False
        if same:
            return cast(Raisable, error)
        return cast(Exception, type(name.split(".")[-1], (RuntimeError,), {"__module__": module})(self.message))


def _encodable(given: Mapping[Any, Any]) -> dict[Any, Any]:
    encoded = {}
    for key, value in given.items():
        with contextlib.suppress(values.UnjournalableError):
            encoded[key] = values.encode(value)
    return encoded
