"""What a turn publishes: JSON objects on the stream whose name is the turn's id.

Complete events are numbered from 1 on, those of the user not counted, so that a reader drops what it has seen and
notices what it has missed. They are published once they are stored; a partial one is nothing but a preview.
"""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field, TypeAdapter

Json = dict[str, Any]


class Failure(BaseModel):
    """Why a turn failed: `type` is the name of the exception, where there was one, and `code` an HTTP status."""

    type: str | None = None
    message: str
    code: int


class Start(BaseModel):
    """An attempt at the turn begins; what an earlier one published of an incomplete answer is void."""

    type: Literal["start"] = "start"
    attempt: str


class Partial(BaseModel):
    """A partial response, which follows the complete event number `after`."""

    type: Literal["partial"] = "partial"
    attempt: str
    after: int
    event: Json


class Complete(BaseModel):
    """A complete event, as it is stored."""

    type: Literal["event"] = "event"
    number: int
    event: Json


class End(BaseModel):
    """The turn has ended, after that many complete events."""

    type: Literal["end"] = "end"
    number: int
    error: Failure | None = None


AnyEntry = Annotated[Start | Partial | Complete | End, Field(discriminator="type")]
_ENTRY: TypeAdapter[AnyEntry] = TypeAdapter(AnyEntry)


def dump(entry: AnyEntry) -> bytes:
    """The entry as it is published."""
    return entry.model_dump_json(exclude_none=True).encode()


def parse(data: bytes) -> AnyEntry:
    """The entry that was published."""
    return _ENTRY.validate_json(data)
