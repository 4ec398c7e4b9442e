"""How a user's sessions lie in the K/V of Chat: the keys, and the records behind them.

    session_store::<id>        the session as a person wants to read it, with its newest events
    session_events::<id>::<n>  a sealed run of older events, never rewritten
    session_index              a small row for each of the sessions that were active last, and what the pages hold
    session_index::<page>      rows of sessions that are quiet
    user_state                 the `user:` state
    app_state_version          the version of the `app:` state after the user's last change to it
    session_deletions          which sessions were deleted last

Sessions and `user:` state of an app other than the default carry `<app>::` before the id.
"""

from typing import Any, Protocol

from google.adk.sessions.session import Session
from pydantic import BaseModel, ConfigDict, PrivateAttr
from pydantic.alias_generators import to_camel
from pydantic_core import to_json

from adk_chat.protocol.events import event_json
from adk_chat.protocol.json import Json

NEWEST_BYTES = 8 * 1024
"""A session's newest run is sealed once its events take more than this many bytes of JSON."""
KEPT_BYTES = 2 * 1024
"""What stays in the newest run when it is sealed."""
RUN_BYTES = 256 * 1024
"""A sealed run takes no more, unless it is of one event: what reads a few events reads a run."""
ROW_STATE_BYTES = 1024
"""A larger state is not repeated in the index; a list reads it from the session."""

METADATA = "__session_metadata__"
INDEX = "session_index"
DELETIONS = "session_deletions"
STORE = "session_store::"
_USER_STATE, _APP_STATE_VERSION = "user_state", "app_state_version"
SHARED = (_USER_STATE, _APP_STATE_VERSION)
"""How the keys begin that a user's sessions share."""


class KeyValue(Protocol):
    """The K/V of one object, as JSON values."""

    async def get(self, *names: str) -> list[Any]:
        """The values behind `names`, read at the same time; None for what is not there."""

    async def keys(self) -> list[str]:
        """All names."""

    async def prefetch(self, *names: str, keys: bool = False) -> None:
        """Read at the same time what will be asked for one after the other."""

    def set(self, name: str, value: object) -> None:
        """Have a JSON value stored.

        Raises:
            TooLargeError: it is.
        """

    def clear(self, name: str) -> None:
        """Have a value removed, if it is there."""

    def write(self) -> None:
        """Write what was set and cleared, all of it."""


class Keys:
    """The names under which one app's data lies."""

    def __init__(self, app_name: str, default_app: str) -> None:
        self._app = "" if app_name == default_app else f"{_escape(app_name)}::"

    def session(self, session_id: str) -> str:
        """The record of a session."""
        return f"{STORE}{self._app}{_escape(session_id)}"

    def run(self, session_id: str, number: int) -> str:
        """A sealed run of a session's events."""
        return f"session_events::{self._app}{_escape(session_id)}::{number}"

    @property
    def user_state(self) -> str:
        """The `user:` state."""
        return self._of_app(_USER_STATE)

    @property
    def app_state_version(self) -> str:
        """The version of the `app:` state after this user's last change to it."""
        return self._of_app(_APP_STATE_VERSION)

    def _of_app(self, name: str) -> str:
        return f"{name}::{self._app.removesuffix('::')}" if self._app else name


def _escape(name: str) -> str:
    return name.replace("%", "%25").replace(":", "%3A")


class Record(BaseModel):
    """JSON in camelCase, without nulls."""

    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True)

    def dump(self) -> Json:
        """The JSON value to store."""
        return self.model_dump(by_alias=True, exclude_none=True)


class SessionRecord(Record):
    """A session as stored, in the order in which it is read by a person. `batches` numbers the appends of its turns."""

    id: str
    title: str | None = None
    app_name: str
    user_id: str
    create_time: float
    last_update_time: float
    event_count: int = 0
    revision: int = 0
    batches: int = 0
    turn: str | None = None
    """The Restate invocation of the turn that appended last."""
    mark: str | None = None
    """Of the last append, if a turn made it: drawn at random, so that whoever made it knows it again."""
    sealed_runs: int = 0
    sealed_bytes: int = 0
    sealed_until: float | None = None
    """The latest time of a sealed event."""
    indexed: bool = False
    """Whether the index has a row of it; all have that were written in this layout."""
    index_page: int | None = None
    """Where an earlier version has put that row."""
    state: Json = {}
    initial: Json | None = None
    """The state with which the session was created, for a rewind to go back to."""
    events: list[Json] = []
    _listed_time: float | None = PrivateAttr(default=None)

    @property
    def listed_time(self) -> float:
        """When it was active last, as the index says."""
        return self.last_update_time if self._listed_time is None else self._listed_time

    @property
    def is_of_ours(self) -> bool:
        """Whether it was written in this layout, and not by `restate.ext.adk`."""
        return self.indexed or self.index_page is not None

    @classmethod
    def load(cls, value: Json, app_name: str) -> "SessionRecord":
        """The record in a stored value, be it ours or the one that `restate.ext.adk` writes, which is for any app."""
        if "app_name" not in value:
            record = cls.model_validate(value)
            record._listed_time = record.last_update_time
            return record
        session = Session.model_validate(value)
        times = [event.timestamp for event in session.events]
        return cls(
            id=session.id,
            app_name=app_name,
            user_id=session.user_id,
            create_time=times[0] if times else session.last_update_time,
            last_update_time=times[-1] if times else session.last_update_time,
            event_count=len(session.events),
            state=session.state,
            events=[event_json(event) for event in session.events],
        ).retitled()

    def retitled(self) -> "SessionRecord":
        """The record itself, its title taken from where ADK's dev UI keeps it."""
        metadata = self.state.get(METADATA)
        title = metadata.get("displayName") if isinstance(metadata, dict) else None
        self.title = title if isinstance(title, str) else None
        return self

    def seal(self) -> list[list[Json]]:
        """Take the older part out of the newest run if it has grown too large; gives the runs that it is to be."""
        sizes = [len(to_json(event)) for event in self.events]
        if sum(sizes) <= NEWEST_BYTES:
            return []
        kept = len(sizes)
        room = KEPT_BYTES
        while kept > 1 and room >= sizes[kept - 1]:
            kept -= 1
            room -= sizes[kept]
        sealed, self.events = self.events[:kept], self.events[kept:]
        if self.sealed_until is not None or not self.sealed_runs:
            latest = max(event["timestamp"] for event in sealed)
            self.sealed_until = latest if self.sealed_until is None else max(latest, self.sealed_until)
        runs = _runs(sealed, sizes)
        self.sealed_runs += len(runs)
        self.sealed_bytes += sum(sizes[:kept])
        return runs


def _runs(events: list[Json], sizes: list[int]) -> list[list[Json]]:
    runs: list[list[Json]] = []
    room = 0
    for event, size in zip(events, sizes, strict=False):
        room -= size
        if not runs or room < 0:
            runs.append([])
            room = RUN_BYTES - size
        runs[-1].append(event)
    return runs


class Row(Record):
    """What a list of sessions shows of one. `state` is left out where it is large."""

    id: str
    app_name: str
    title: str | None = None
    last_update_time: float
    state: Json | None = None

    @classmethod
    def of(cls, record: SessionRecord) -> "Row":
        """The row of a session."""
        small = len(to_json(record.state)) <= ROW_STATE_BYTES
        return cls(
            id=record.id,
            app_name=record.app_name,
            title=record.title,
            last_update_time=record.last_update_time,
            state=record.state if small else None,
        )
