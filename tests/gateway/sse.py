"""Server-sent events as a careful client reads them."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
from httpx_sse import ServerSentEvent
from httpx_sse._decoders import SSEDecoder

Json = dict[str, Any]


def parsed(text: str) -> list[ServerSentEvent]:
    """The events in a whole response."""
    decoder = SSEDecoder()
    return [event for line in text.splitlines() if (event := decoder.decode(line)) is not None]


class Screen:
    """What a client shows: complete events, and the partial ones since the last, which a reset removes."""

    def __init__(self) -> None:
        self.all: list[Json] = []
        self.resets = 0
        self.last_id: str | None = None
        self.ended = False

    def show(self, event: ServerSentEvent) -> Json | None:
        """Show an event. Returns its content."""
        self.last_id = event.id or self.last_id
        if event.event == "end":
            self.ended = True
            return None
        if event.event == "reset":
            self.resets += 1
            while self.all and self.all[-1].get("partial"):
                self.all.pop()
            return None
        self.all.append(json.loads(event.data))
        return self.all[-1]

    @property
    def complete(self) -> list[Json]:
        """The complete events."""
        return [event for event in self.all if not event.get("partial")]

    @property
    def partial_text(self) -> str:
        """The text of the partial events that are shown."""
        return "".join(part["text"] for event in self.all if event.get("partial") for part in event["content"]["parts"])


def screen(text: str) -> Screen:
    """What is shown after a whole response was read."""
    shown = Screen()
    for event in parsed(text):
        shown.show(event)
    return shown


@asynccontextmanager
async def watching(
    client: httpx.AsyncClient, method: str, path: str, **request: Any
) -> AsyncIterator[tuple[httpx.Response, AsyncIterator[ServerSentEvent]]]:
    """A response that is read as it arrives."""
    async with client.stream(method, path, **request) as response:

        async def events() -> AsyncIterator[ServerSentEvent]:
            decoder = SSEDecoder()
            async for line in response.aiter_lines():
                if (event := decoder.decode(line)) is not None:
                    yield event

        yield response, events()
