"""What models have said in answers that are not complete yet, kept in case the turn is cancelled."""

from google.adk.events.event import Event
from google.genai import types
from pydantic_core import from_json

from adk_chat.protocol.json import Json


class PartialAnswers:
    """The partial responses since each agent's last complete event, joined. Several agents may speak at once."""

    def __init__(self) -> None:
        self._answers: dict[tuple[str, str | None], Event] = {}

    def hear(self, event: Event) -> None:
        """Takes note of an event of the turn."""
        speaker = (event.author, event.branch)
        if not event.partial:
            self._answers.pop(speaker, None)
            return
        before = self._answers.get(speaker)
        parts = list((before.content.parts if before and before.content else None) or [])
        for part in (event.content.parts if event.content else None) or []:
            last = parts[-1] if parts else None
            if part.text and last is not None and bool(last.thought) == bool(part.thought):
                last.text = (last.text or "") + part.text
            elif part.text:
                parts.append(types.Part(text=part.text, thought=part.thought))
        content = types.Content(role="model", parts=parts)
        self._answers[speaker] = event.model_copy(update={"partial": None, "interrupted": True, "content": content})

    def dump(self) -> bytes:
        """Returns the content to journal: a JSON list of ADK events without id and time."""
        said = (event for event in self._answers.values() if event.content and event.content.parts)
        dumped = (
            event.model_dump_json(by_alias=True, exclude_none=True, exclude={"id", "timestamp"}) for event in said
        )
        return f"[{','.join(dumped)}]".encode()


def kept(dumped: bytes) -> list[Event]:
    """Returns the events to store for what was dumped, marked as interrupted, with ids and times of their own."""
    values: list[Json] = from_json(dumped)
    return [Event.model_validate(value) for value in values]
