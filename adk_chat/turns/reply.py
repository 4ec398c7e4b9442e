"""What a turn answers, taken from its events."""

import restate
from google.adk.events.event import Event
from pydantic_core import to_json


class Answer:
    """The answer of a turn, as far as its events go."""

    def __init__(self) -> None:
        self.text = ""
        self.error: Event | None = None
        """The event that ended the agent with an error, if there is one."""

    def hear(self, event: Event) -> None:
        """Takes note of an event of the agent."""
        if event.partial or event.author == "user":
            return
        if event.error_code:
            self.error = event
        elif event.is_final_response() and (text := _text(event) or _output(event)):
            self.text, self.error = text, None

    def failure(self) -> restate.TerminalError | None:
        """Returns the error to answer with if the model ended without an answer."""
        if self.error is None:
            return None
        said = f": {self.error.error_message}" if self.error.error_message else ""
        return restate.TerminalError(f"The model ended without an answer: {self.error.error_code}{said}", 502)


def _text(event: Event) -> str:
    parts = (event.content.parts if event.content else None) or []
    return "".join(part.text for part in parts if part.text and not part.thought)


def _output(event: Event) -> str:
    """Returns the output of a workflow node that says nothing in words."""
    if event.output is None:
        return ""
    return event.output if isinstance(event.output, str) else to_json(event.output, fallback=repr).decode()
