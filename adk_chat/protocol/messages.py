"""A user's message, and its cancellation: what `message`, `post` and `cancel` take."""

from typing import Annotated, Literal

from google.genai import types
from pydantic import ConfigDict, Field, PrivateAttr, WithJsonSchema, model_validator
from pydantic_core import to_json

from adk_chat.protocol.errors import TooLargeError
from adk_chat.protocol.frontend import Frontend
from adk_chat.protocol.json import OBJECTS, Json
from adk_chat.protocol.limits import MAX_DEPTH, MAX_FRONTEND_BYTES, shallow
from adk_chat.protocol.run_config import RequestedRunConfig
from adk_chat.protocol.sessions import SessionRequest

MultitaskStrategy = Literal["enqueue", "reject", "interrupt", "rollback"]


_GROWTH = 5
"""JSON that is written again can be longer, as 1000000000000000.0 for 1e15, but never this many times as long."""


class Message(SessionRequest):
    """A user's message to a session, which is created if it does not exist."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [{"message": "Make a poem about durable execution.", "session_id": "session-123"}]
        }
    )

    message: str | None = Field(None, description="The text.")
    parts: Annotated[list[types.Part], OBJECTS] | None = Field(
        None,
        description="More parts, as genai's JSON: images, responses to function calls. With [] and no message the "
        "agent continues from the history.",
    )
    without_parts: bool = Field(False, description="Send an empty message, as ADK allows.")
    state_delta: Json | None = Field(None, description="Changes to the state, as if the user had made them.")
    run_config: RequestedRunConfig | None = Field(None, description="Fields of ADK's RunConfig that are not default.")
    invocation_id: str | None = Field(
        None, description="Resume this ADK invocation, in a resumable app. The message is optional then."
    )
    create: bool = Field(True, description="Create the session if it does not exist. If false, that is a 404.")
    fingerprint: str | None = Field(
        None,
        description="Returned by `post`. With an idempotency-key it is the fingerprint of the first request.",
    )
    multitask_strategy: MultitaskStrategy = Field(
        "enqueue",
        description="What to do if a turn of the session is running: wait for it; reject this message with 409; "
        "interrupt the running turn and keep what it said; or roll it back, which hides what it said from the model "
        "and undoes its changes to the state.",
    )
    frontend: Annotated[Frontend, WithJsonSchema({"type": "object"})] | None = Field(
        None, description="Tools that the caller runs itself, context for the model, and ids of the caller's messages."
    )

    _bytes: int | None = PrivateAttr(default=None)
    _brackets: int = PrivateAttr(default=MAX_DEPTH + 1)

    def received(self, data: bytes) -> None:
        """Notes the bytes that the message came as, so that `check` need not make JSON of it again."""
        self._bytes, self._brackets = len(data), data.count(b"{") + data.count(b"[")

    def check(self, content: Json | None, most: int) -> None:
        """Checks the size and the nesting of the message.

        Raises:
            TooLargeError: if `content` takes more than `most` bytes as JSON.
            BadRequestError: if it or the state delta is nested too deeply.
        """
        deep = self._brackets > MAX_DEPTH
        most_here = most if self.frontend is None else min(most, MAX_FRONTEND_BYTES)
        if not deep and self._bytes is not None and self._bytes * _GROWTH <= most_here:
            return
        data = to_json(content)
        if len(data) > most:
            raise TooLargeError(f"message: takes {len(data)} bytes as JSON; at most {most} are accepted.")
        shallow(content or {}, data, "message:")
        if self.frontend is not None:
            brought = to_json(self.frontend)
            if len(brought) > MAX_FRONTEND_BYTES:
                raise TooLargeError(
                    f"frontend: takes {len(brought)} bytes as JSON; at most {MAX_FRONTEND_BYTES} are accepted."
                )
            shallow(self.frontend.model_dump(), brought, "frontend:")
        shallow(self.state_delta or {}, to_json(self.state_delta), "state_delta:")

    @model_validator(mode="after")
    def _says_something(self) -> "Message":
        if self.message is not None and not self.message.strip():
            raise ValueError("message: is blank; send some text")
        nothing = self.message is None and self.parts is None and self.invocation_id is None
        if nothing and not self.without_parts:
            raise ValueError("message: is missing; send some text, or parts")
        return self

    def content(self) -> Json | None:
        """Returns the message as the JSON of a genai Content, or None if the agent continues without a message."""
        if self.message is None and not self.parts and not self.without_parts:
            return None
        parts = [types.Part(text=self.message)] if self.message is not None else []
        content = types.Content(role="user", parts=parts + (self.parts or []))
        return content.model_dump(mode="json", by_alias=True, exclude_none=True)


class CancelTurn(SessionRequest):
    """The turn to cancel."""

    turn_id: str | None = Field(None, description="Cancel only this turn; by default whichever is running.")
