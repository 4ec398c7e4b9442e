"""How a turn says that it failed: to who waits for it, and in the store."""

import re

from adk_chat.sessions.contract import Json

TURN_FAILED = "adk_chat_turn_failed"
"""In the metadata of the event that is stored where ADK's Runner raised and had stored nothing that says so."""


def failure_sentence(error: Exception, *, of_model: bool) -> str:
    """What a turn is answered with whose agent raised."""
    return f"{'The model call failed' if of_model else 'The agent failed'}: {type(error).__name__}: {error}"


def raised(sentence: str) -> tuple[str, str] | None:
    """The name and the text of the exception in such a sentence; None where nothing was raised."""
    found = re.fullmatch(r"The (?:model call|agent) failed: (\w+): (.*)", sentence, re.DOTALL)
    return None if found is None else (found[1], found[2])


def is_shown(author: str, metadata: Json | None) -> bool:
    """Whether ADK's Runner would have yielded such an event: not the user's, and not the mark of a failure."""
    return author != "user" and TURN_FAILED not in (metadata or {})
