"""Calls that are made once: the attempt that makes one journals its outcome, and later attempts replay that."""

from collections.abc import Awaitable, Callable
from typing import Any, Generic, TypeVar

from pydantic_core import from_json, to_json

from adk_chat.durable.adk.errors import ErrorRecord
from adk_chat.durable.journal.errors import Raisable, is_cancelled
from adk_chat.durable.journal.journal import MAX_BYTES, Journal

T = TypeVar("T")

_ERROR, _AGAIN = "$error", "$again"


class Outcome(Generic[T]):
    """The outcome of a call as its caller sees it.

    In the attempt that makes the call, that is the very object it returned, or the very exception it raised. In later
    attempts it is rebuilt from the journal.
    """

    def __init__(self) -> None:
        self.ran = False
        """Whether this attempt has made the call."""
        self.error: Raisable | None = None
        """What the call raised in this attempt."""
        self._value: T | None = None

    async def of(self, call: Awaitable[T]) -> ErrorRecord | None:
        """Makes the call. Returns the record of what it raised, if it raised something."""
        self.ran = True
        try:
            self._value = await call
        except BaseException as error:
            if is_cancelled(error):
                raise
            return self.fail(error)
        return None

    def fail(self, error: BaseException) -> ErrorRecord:
        """Replaces the outcome by an error. Returns its record."""
        record = ErrorRecord.of(error)
        self.error = error if isinstance(error, Raisable) else record.rebuild()
        return record

    @property
    def value(self) -> T:
        """What the call returned in this attempt."""
        return self._value  # type: ignore[return-value]

    def result(self, recorded: ErrorRecord | None, load: Callable[[], T]) -> T:
        """Returns what the call returned, or raises what it raised.

        Args:
            recorded: the recorded error, for a replay.
            load: returns the recorded value, for a replay.
        """
        if self.error is not None:
            raise self.error
        if recorded is not None:
            raise recorded.rebuild()
        return self.value if self.ran else load()


async def run_once(
    what: str,
    about: str,
    make: Callable[[], Awaitable[Any]],
    dump: Callable[[Any], Any],
    load: Callable[[Any], Any],
) -> Any:
    """Returns what `make` returns, or raises what it raises. A replay does not run it again.

    A result that is too large to be kept is made again on a replay. If no journal is open, `make` just runs.

    Args:
        what: what the step is for; see `Key`.
        about: identifies what it is about; see `Key`.
        make: makes the call.
        dump: turns the result into JSON data.
        load: turns that JSON data into the result.
    """
    journal = Journal.current()
    if journal is None:
        return await make()
    outcome: Outcome[Any] = Outcome()

    async def step() -> bytes:
        if (error := await outcome.of(make())) is not None:
            return to_json({_ERROR: error})
        data = to_json(dump(outcome.value))
        return data if len(data) <= MAX_BYTES else to_json({_AGAIN: True})

    data = await journal.step(what, step, about)
    recorded = None if outcome.ran else from_json(data)
    marked = recorded if isinstance(recorded, dict) else {}
    if _AGAIN in marked:
        return await make()
    error = ErrorRecord.model_validate(marked[_ERROR]) if _ERROR in marked else None
    return outcome.result(error, lambda: load(recorded))
