"""How a turn says that it failed: to who waits for it, and in the store."""

import re
from typing import NamedTuple

from google.adk.events.event import Event

from adk_chat.sessions.contract import Json

TURN_FAILED = "adk_chat_turn_failed"
"""In the metadata of the event that is stored where ADK's Runner raised and had stored nothing that says so."""
APPENDED = "adk_chat_appended"
"""In the metadata of an event that code of an agent has appended by itself, and that ADK's Runner does not yield."""
MODEL_RETRY = "adk_chat_model_retry"
"""In the metadata of a partial event that says nothing: a model has failed, and is asked again. It is not stored."""
_MARKS = {TURN_FAILED, APPENDED}
NOT_BEGUN = "The turn was cancelled before it began."
KILLED = "killed"
"""What the engine answers who waits for a Restate invocation that was killed."""
KILLED_SENTENCE = "The turn was killed in Restate; what it had said until then is stored. Send the message again."


def unmarked(event: Event) -> None:
    """Take our marks out of what somebody else has put into the metadata of an event: from them they mean nothing."""
    if event.custom_metadata and not _MARKS.isdisjoint(event.custom_metadata):
        event.custom_metadata = {name: value for name, value in event.custom_metadata.items() if name not in _MARKS}


def failure_sentence(error: BaseException, *, of_model: bool) -> str:
    """What a turn is answered with whose agent raised."""
    return f"{'The model call failed' if of_model else 'The agent failed'}: {type(error).__name__}: {error}"


class Raised(NamedTuple):
    """What ADK's Runner would have raised: the exception's name, where there was one, and its text."""

    type: str | None
    message: str


def raised(status: int, sentence: str, shown: int) -> Raised | None:
    """What a turn raised that answered so and has shown so many events; None where it just ended.

    It just ended as well where it was cancelled, or where the model answered with an error: events say so.
    """
    if status < 400:
        return None
    found = re.fullmatch(r"The (?:model call|agent) failed: (\w+): (.*)", sentence, re.DOTALL)
    if found is not None:
        return Raised(found[1], found[2])
    return None if shown else Raised(None, sentence)


def is_model_retry(event: Json) -> bool:
    """Whether a partial event says that a model is asked again, and nothing else."""
    return MODEL_RETRY in event.get("customMetadata", {})


def is_shown(event: Json) -> bool:
    """Whether ADK's Runner would have yielded a stored event.

    Not the user's message, not what code of an agent has appended by itself, and not the mark of a failure.

    What a node says in the user's name, as the answer of a task to the call that began it, is no message of the user.
    """
    of_user = event["author"] == "user" and not event.get("nodeInfo", {}).get("path")
    return not of_user and not _MARKS & event.get("customMetadata", {}).keys()
