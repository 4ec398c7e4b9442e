"""How a turn ended, as a value that travels through Restate beside the sentence for people."""

from typing import NamedTuple

import restate

KILLED = "killed"
"""Restate's message for a Restate invocation that was killed."""
KILLED_SENTENCE = "The turn was killed in Restate. What it said before that is stored. Send the message again."
CANCELED = "canceled"
"""Restate's message for a Restate invocation that was cancelled before it began."""
NOT_BEGUN = "The turn was cancelled before it began."

_TYPE, _MESSAGE = "adk_chat.error_type", "adk_chat.error_message"
"""Metadata of the `TerminalError` of a turn. Restate stores them and hands them to every caller."""
_MOST_CHARACTERS = 64 * 1024


class Raised(NamedTuple):
    """What ADK's Runner would have raised: the exception's name, if there was one, and its message."""

    type: str | None
    message: str


def agent_failed(error: BaseException, status: int, *, of_model: bool) -> restate.TerminalError:
    """Returns how a turn ends whose agent raised `error`; `of_model` if a model call did."""
    kind, message = type(error).__name__, str(error)
    sentence = f"{'The model call failed' if of_model else 'The agent failed'}: {kind}: {message}"
    return restate.TerminalError(sentence, status, {_TYPE: kind, _MESSAGE: message[:_MOST_CHARACTERS]})


def raised(status: int, sentence: str, metadata: dict[str, str] | None, shown: int) -> Raised | None:
    """Returns what a turn raised, or None if it just ended.

    A turn also just ended if it was cancelled, or if the model answered with an error: its events say so.

    Args:
        status: the HTTP status of the turn's answer.
        sentence: the message of that answer.
        metadata: its metadata, which `agent_failed` made; None for any other answer.
        shown: how many events of the turn were shown.
    """
    if status < 400:
        return None
    if metadata is not None and _TYPE in metadata:
        return Raised(metadata[_TYPE], metadata.get(_MESSAGE, ""))
    return None if shown else Raised(None, sentence)
