"""What ADK's own code does outside models and tools, and is to be done once."""

from collections.abc import Awaitable, Callable
from typing import Any

from pydantic_core import from_json, to_json

from adk_chat.durable.adk.errors import ErrorRecord
from adk_chat.durable.journal.errors import Raisable, is_cancelled
from adk_chat.durable.journal.journal import MAX_BYTES, Journal

_ERROR, _AGAIN = "$error", "$again"


async def run_once(
    what: str,
    about: str,
    make: Callable[[], Awaitable[Any]],
    dump: Callable[[Any], Any],
    load: Callable[[Any], Any],
) -> Any:
    """What `make` gives, or raises: as it does so in the attempt that runs it, and as it was kept in later ones.

    What cannot be kept, because it is too large, is made again by a replay. Where no journal is open, it is just made.

    Args:
        what: what the step is for, as in `Key`.
        about: stands for what it is about, as in `Key`.
        make: does it.
        dump: makes JSON of what it gave.
        load: makes that again of the JSON.
    """
    journal = Journal.current()
    if journal is None:
        return await make()
    made: list[Any] = []

    async def step() -> bytes:
        try:
            made.append(await make())
        except BaseException as error:
            if is_cancelled(error):
                raise
            record = ErrorRecord.of(error)
            made.append(error if isinstance(error, Raisable) else record.rebuild())
            return to_json({_ERROR: record})
        data = to_json(dump(made[0]))
        return data if len(data) <= MAX_BYTES else to_json({_AGAIN: True})

    data = from_json(await journal.step(what, step, about))
    marked = data if isinstance(data, dict) else {}
    if _ERROR in marked:
        raise made[0] if made else ErrorRecord.model_validate(data[_ERROR]).rebuild()
    if made:
        return made[0]
    return await make() if _AGAIN in marked else load(data)
