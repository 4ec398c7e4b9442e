"""What a model has said of an answer that is not complete yet, kept in case the turn is cancelled."""

from google.adk.events.event import Event
from google.genai import types
from pydantic_core import from_json

from adk_chat.sessions.contract import Json


class PartialAnswer:
    """The partial responses since the last complete event, put together."""

    def __init__(self) -> None:
        self._last: Event | None = None
        self._parts: list[types.Part] = []

    def hear(self, event: Event) -> None:
        """Note an event of the turn."""
        if not event.partial:
            self._last, self._parts = None, []
            return
        self._last = event
        for part in (event.content.parts if event.content else None) or []:
            last = self._parts[-1] if self._parts else None
            if part.text and last is not None and bool(last.thought) == bool(part.thought):
                last.text = (last.text or "") + part.text
            elif part.text:
                self._parts.append(types.Part(text=part.text, thought=part.thought))

    def dump(self) -> bytes:
        """What there is, to be journaled: ADK's JSON without id and time, or null."""
        if self._last is None or not self._parts:
            return b"null"
        event = self._last.model_copy(
            update={
                "partial": None,
                "interrupted": True,
                "content": types.Content(role="model", parts=self._parts),
            }
        )
        return event.model_dump_json(by_alias=True, exclude_none=True, exclude={"id", "timestamp"}).encode()


def kept(dumped: bytes) -> Event | None:
    """The event to store for what was dumped, marked as interrupted, with an id and time of its own."""
    value: Json | None = from_json(dumped)
    return None if value is None else Event.model_validate(value)
