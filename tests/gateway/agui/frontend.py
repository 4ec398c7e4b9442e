"""A frontend that speaks AG-UI: it applies events as `@ag-ui/client` does, and fails on what that would fail on."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
from ag_ui.core import Event
from httpx_sse import EventSource
from pydantic import TypeAdapter

from tests.support import Json, unique

_EVENT: TypeAdapter[Event] = TypeAdapter(Event)
_ENDS = {"RUN_FINISHED", "RUN_ERROR"}


class Run:
    """The events of one run, and what they leave on the screen."""

    def __init__(self, messages: list[Json]) -> None:
        self.events: list[Json] = []
        self.messages = messages
        self.state: Any = None
        self._open: set[tuple[str, str]] = set()

    @property
    def types(self) -> list[str]:
        """The types of the events."""
        return [event["type"] for event in self.events]

    @property
    def end(self) -> Json:
        """The last event."""
        return self.events[-1]

    @property
    def text(self) -> str:
        """The text of the last message of the agent."""
        said = [message for message in self.messages if message["role"] == "assistant" and message.get("content")]
        return str(said[-1]["content"]) if said else ""

    @property
    def interrupts(self) -> list[Json]:
        """What the run waits for."""
        found: list[Json] = self.end["outcome"]["interrupts"]
        return found

    def of(self, kind: str) -> list[Json]:
        """The events of a type."""
        return [event for event in self.events if event["type"] == kind]

    def show(self, event: Json) -> None:
        """Apply an event."""
        _EVENT.validate_python(event)
        assert None not in event.values(), event
        assert not self.events or self.types[-1] not in _ENDS, "after the end"
        assert self.events or event["type"] in ("RUN_STARTED", "RUN_ERROR"), event
        self.events.append(event)
        getattr(self, f"_on_{event['type'].lower()}", lambda event: None)(event)
        if event["type"] == "RUN_FINISHED":
            assert not self._open, self._open

    def _find(self, message_id: str) -> Json | None:
        return next((message for message in self.messages if message["id"] == message_id), None)

    def _begin(self, kind: str, message_id: str) -> None:
        assert (kind, message_id) not in self._open, f"{message_id} is open"
        self._open.add((kind, message_id))

    def _on_text_message_start(self, event: Json) -> None:
        self._begin("text", event["messageId"])
        if self._find(event["messageId"]) is None:
            self.messages.append({"id": event["messageId"], "role": "assistant", "content": ""})

    def _on_text_message_content(self, event: Json) -> None:
        assert ("text", event["messageId"]) in self._open
        message = self._find(event["messageId"])
        assert message is not None
        message["content"] = message.get("content", "") + event["delta"]

    def _on_text_message_end(self, event: Json) -> None:
        self._open.remove(("text", event["messageId"]))

    def _on_reasoning_message_start(self, event: Json) -> None:
        self._begin("reasoning", event["messageId"])
        if self._find(event["messageId"]) is None:
            self.messages.append({"id": event["messageId"], "role": "reasoning", "content": ""})

    def _on_reasoning_message_content(self, event: Json) -> None:
        message = self._find(event["messageId"])
        assert message is not None
        message["content"] += event["delta"]

    def _on_reasoning_message_end(self, event: Json) -> None:
        self._open.remove(("reasoning", event["messageId"]))

    def _on_tool_call_start(self, event: Json) -> None:
        self._begin("call", event["toolCallId"])
        message = self._find(event["parentMessageId"])
        if message is None:
            message = {"id": event["parentMessageId"], "role": "assistant"}
            self.messages.append(message)
        function = {"name": event["toolCallName"], "arguments": ""}
        message.setdefault("toolCalls", []).append(
            {"id": event["toolCallId"], "type": "function", "function": function}
        )

    def _on_tool_call_args(self, event: Json) -> None:
        calls = [call for message in self.messages for call in message.get("toolCalls", [])]
        (call,) = [call for call in calls if call["id"] == event["toolCallId"]]
        call["function"]["arguments"] += event["delta"]

    def _on_tool_call_end(self, event: Json) -> None:
        self._open.remove(("call", event["toolCallId"]))

    def _on_tool_call_result(self, event: Json) -> None:
        message = {"id": event["messageId"], "role": "tool", "toolCallId": event["toolCallId"]}
        self.messages.append({**message, "content": event["content"]})

    def _on_messages_snapshot(self, event: Json) -> None:
        assert not self._open, "a snapshot while something is open"
        told = {message["id"]: dict(message) for message in event["messages"]}
        has_reasoning = any(message["role"] == "reasoning" for message in told.values())
        kept = [
            told.pop(message["id"], message)
            for message in self.messages
            if message["id"] in told or (message["role"] == "reasoning" and not has_reasoning)
        ]
        self.messages = [*kept, *told.values()]

    def _on_state_snapshot(self, event: Json) -> None:
        self.state = event["snapshot"]

    def _on_state_delta(self, event: Json) -> None:
        for operation in event["delta"]:
            name = operation["path"].removeprefix("/").replace("~1", "/").replace("~0", "~")
            self.state = {**self.state, name: operation["value"]}


class Frontend:
    """A frontend with one thread.

    Args:
        client: of the gateway.
        app: the agent.
        is_current: whether it speaks 1.0.
        headers: of each request.
    """

    def __init__(
        self, client: httpx.AsyncClient, app: str = "scripted", *, is_current: bool = True, headers: Json | None = None
    ) -> None:
        self.client = client
        self.app = app
        self.is_current = is_current
        self.headers = headers or {}
        self.user, self.thread = unique("user"), unique("thread")
        self.messages: list[Json] = []
        self.tools: list[Json] = []
        self.state: Any = {}

    def input(self, *new: Json | str, **more: Any) -> Json:
        """The input of a run with new messages."""
        self.messages += [
            {"id": unique("message"), "role": "user", "content": message} if isinstance(message, str) else message
            for message in new
        ]
        body: Json = {"threadId": self.thread, "runId": unique("run"), "messages": self.messages, "tools": self.tools}
        body |= {"context": [], "state": self.state, "forwardedProps": {"userId": self.user}}
        if self.is_current:
            body["protocolVersion"] = "1.0"
        return {**body, **more}

    @asynccontextmanager
    async def streaming(self, body: Json, path: str = "") -> AsyncIterator[tuple[Run, AsyncIterator[Json]]]:
        """A run that is under way, and its events, which are applied as they are taken."""
        request = self.client.stream("POST", f"/agui/{self.app}{path}", json=body, headers=self.headers)
        async with request as response:
            assert response.status_code == 200, await response.aread()
            run = Run([dict(message) for message in body["messages"]])

            async def events() -> AsyncIterator[Json]:
                async for message in EventSource(response).aiter_sse():
                    event: Json = message.json()
                    run.show(event)
                    yield event

            yield run, events()

    async def send(self, body: Json, path: str = "") -> Run:
        """A run from its beginning to its end."""
        async with self.streaming(body, path) as (run, events):
            async for _ in events:
                pass
        assert run.types[-1] in _ENDS, "the stream just ended"
        self.messages, self.state = run.messages, run.state
        return run

    async def run(self, *new: Json | str, **more: Any) -> Run:
        """A run with new messages."""
        return await self.send(self.input(*new, **more))

    async def connect(self) -> Run:
        """What a page that has just been opened sees."""
        self.messages = []
        return await self.send(self.input(), "/connect")

    async def events(self) -> list[Json]:
        """The stored events."""
        path = f"/apps/{self.app}/users/{self.user}/sessions/{self.thread}"
        found: list[Json] = (await self.client.get(path, headers=self.headers)).json().get("events", [])
        return found


def tool_message(call: str, content: str) -> Json:
    """The answer to a tool call."""
    return {"id": unique("message"), "role": "tool", "toolCallId": call, "content": content}


def calls_in(run: Run) -> list[str]:
    """The ids of the tool calls of a run."""
    return [event["toolCallId"] for event in run.of("TOOL_CALL_START")]
