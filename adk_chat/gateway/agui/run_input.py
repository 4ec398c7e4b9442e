"""What a frontend sends to start a run, in both versions of the protocol that are in use."""

from dataclasses import dataclass
from typing import Any

from ag_ui.core import RunAgentInput
from pydantic import ValidationError

from adk_chat.gateway.turns import RefusedError
from adk_chat.protocol.errors import sentence
from adk_chat.protocol.json import Json

USER = "user"
"""The user of a run that names none, where no tokens are required."""
_MEDIA = ("image", "audio", "video")


@dataclass(frozen=True)
class RunInput:
    """A request to run an agent, or to connect to a thread.

    Attributes:
        parsed: the request.
        messages: its messages as they came, which a snapshot repeats.
        is_current: whether the peer speaks version 1.0. Earlier ones send no version, and their clients fail on what
            1.0 added.
    """

    parsed: RunAgentInput
    messages: list[Json]
    is_current: bool

    @classmethod
    def parse(cls, body: Any) -> "RunInput":
        """Returns the request in a JSON body.

        Raises:
            RefusedError: 400, if it is invalid.
        """
        if not isinstance(body, dict):
            raise RefusedError(400, "The body is not a JSON object. Send AG-UI's RunAgentInput.")
        given = {name: value for name, value in body.items() if value is not None}
        messages = given.get("messages")
        if isinstance(messages, list):
            given["messages"] = [_modern(message) for message in messages]
        try:
            parsed = RunAgentInput.model_validate(given)
        except ValidationError as error:
            raise RefusedError(400, sentence(error)) from error
        for name, value in (("threadId", parsed.thread_id), ("runId", parsed.run_id)):
            if not value.strip():
                raise RefusedError(400, f"{name}: is blank. Send an id.")
        return cls(parsed, given["messages"], parsed.protocol_version is not None)

    @property
    def thread_id(self) -> str:
        """The thread, which is a session."""
        return self.parsed.thread_id.strip()

    @property
    def user_id(self) -> str | None:
        """The user that the application names in its forwarded properties."""
        user = self.properties.get("userId")
        return user if isinstance(user, str) and user else None

    @property
    def properties(self) -> Json:
        """The properties that the application forwards."""
        props = self.parsed.forwarded_props
        return props if isinstance(props, dict) else {} if props is None else {"value": props}


def _modern(message: Any) -> Any:
    """Returns a message with its parts as in 1.0. Before 0.0.48 all media were `binary` parts."""
    if not isinstance(message, dict) or not isinstance(message.get("content"), list):
        return message
    return {**message, "content": [_modern_part(part) for part in message["content"]]}


def _modern_part(part: Any) -> Any:
    if not isinstance(part, dict) or part.get("type") != "binary":
        return part
    mime_type = str(part.get("mimeType", ""))
    kind, _, _ = mime_type.partition("/")
    if "data" in part:
        source = {"type": "data", "value": part["data"], "mimeType": mime_type}
    elif "url" in part:
        source = {"type": "url", "value": part["url"], "mimeType": mime_type}
    else:
        source = {"type": "file", "value": part.get("id"), "mimeType": mime_type}
    return {"type": kind if kind in _MEDIA else "document", "source": source}
