"""What a message may bring from a frontend: tools that run there, context, and the ids of the frontend's messages."""

from collections.abc import Iterator, Sequence
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints, ValidationError

from adk_chat.protocol.json import Json

FRONTEND = "adk_chat_frontend"
"""Metadata key of a stored event. On a user's event it is an `Origin`. On an agent's it is `{"calls": [...]}`: the ids
of its calls of frontend tools."""


def _free(name: str) -> str:
    if name.startswith("adk_"):
        raise ValueError("names that begin with adk_ are ADK's own; choose another")
    return name


ToolName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z_][A-Za-z0-9_.:-]{0,127}$"), AfterValidator(_free)]
"""What model APIs accept."""


class FrontendTool(BaseModel):
    """A tool that runs in the frontend. The agent may call it; the answer comes with a later message."""

    model_config = ConfigDict(extra="ignore")

    name: ToolName
    description: str = ""
    parameters: Json | None = Field(None, description="A JSON schema of its arguments.")


class ContextItem(BaseModel):
    """Something that the agent should know during this turn only."""

    model_config = ConfigDict(extra="ignore")

    description: str
    value: str


class SentMessage(BaseModel):
    """A message of the frontend, and how many parts of the user's message it became."""

    id: str
    parts: int = Field(ge=1)


class Frontend(BaseModel):
    """What a message brings from a frontend."""

    tools: list[FrontendTool] = Field([], max_length=256, description="Tools that run in the frontend.")
    context: list[ContextItem] = Field([], max_length=256, description="Context, shown to the model as instructions.")
    run_id: str | None = Field(None, description="The frontend's id of the run.")
    messages: list[SentMessage] = Field(
        [],
        description="The frontend's messages that the parts are, in their order. What the session has already, by "
        "these ids or by those of function calls, is left out.",
    )


class Origin(BaseModel):
    """Which messages of a frontend a stored event has, and the turn that stored it."""

    turn: str = Field(description="The Restate invocation.")
    run_id: str | None = None
    messages: list[SentMessage] = []
    pending: bool = Field(False, description="Its responses only say that the user has not answered yet.")


def origin_of(metadata: Json | None) -> Origin | None:
    """Returns the origin in the metadata of a user's event; None if it did not come from a frontend."""
    try:
        return Origin.model_validate((metadata or {})[FRONTEND])
    except (KeyError, ValidationError):  # anybody may have appended the event
        return None


def calls_in(metadata: Json | None) -> Sequence[str]:
    """Returns the ids of the calls of frontend tools in an agent's event, from its metadata."""
    noted = (metadata or {}).get(FRONTEND)
    calls = noted.get("calls") if isinstance(noted, dict) else None
    return calls if isinstance(calls, list) else []


def split(messages: Sequence[SentMessage], count: int) -> Iterator[tuple[str | None, range]]:
    """Yields the id of each message and its places among `count` parts. What belongs to no message has no id."""
    begin = 0
    for message in messages:
        end = min(begin + message.parts, count)
        yield message.id, range(begin, end)
        begin = end
    if begin < count:
        yield None, range(begin, count)
