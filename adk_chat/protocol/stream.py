"""What a turn publishes: JSON objects on the stream named after the turn's id.

Complete events are numbered from 1 on, not counting the user's, so that a reader drops duplicates and notices gaps.
They are published once they are stored; a partial event is only a preview.
"""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field, TypeAdapter

Json = dict[str, Any]


class Failure(BaseModel):
    """Why a turn failed: `type` is the name of the exception, if there was one, and `code` an HTTP status."""

    type: str | None = None
    message: str
    code: int


class Start(BaseModel):
    """An attempt at the turn begins. Partial text of an earlier attempt is void."""

    type: Literal["start"] = "start"
    attempt: str


class Partial(BaseModel):
    """A partial response after the complete event number `after`."""

    type: Literal["partial"] = "partial"
    attempt: str
    after: int
    event: Json


class Complete(BaseModel):
    """A complete event, as stored."""

    type: Literal["event"] = "event"
    number: int
    event: Json


class End(BaseModel):
    """The turn has ended after `number` complete events."""

    type: Literal["end"] = "end"
    number: int
    error: Failure | None = None


AnyEntry = Annotated[Start | Partial | Complete | End, Field(discriminator="type")]
_ENTRY: TypeAdapter[AnyEntry] = TypeAdapter(AnyEntry)


def dump(entry: AnyEntry) -> bytes:
    """Returns the entry as published."""
    return entry.model_dump_json(exclude_none=True).encode()


def parse(data: bytes) -> AnyEntry:
    """Returns the published entry."""
    return _ENTRY.validate_json(data)
