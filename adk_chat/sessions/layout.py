"""How a user's sessions are stored in the K/V of Chat: the keys, and the records under them.

    session_store::<id>        the session in a form that people can read, with its newest events
    session_events::<id>::<n>  a sealed run of older events, never rewritten
    session_index              a small row for each of the most recently active sessions, and what the pages hold
    session_index::<page>      rows of other sessions
    user_state                 the `user:` state
    app_state_version          the version of the `app:` state after the user's last change to it
    session_deletions          which sessions were deleted last

Sessions and `user:` state of an app other than the default have `<app>::` before the id.
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
"""How much stays in the newest run when it is sealed."""
RUN_BYTES = 256 * 1024
"""A sealed run takes no more than this, unless it holds one event: reading a few events means reading a run."""
ROW_STATE_BYTES = 1024
"""A larger state is not repeated in the index; a list reads it from the session."""

METADATA = "__session_metadata__"
INDEX = "session_index"
DELETIONS = "session_deletions"
STORE = "session_store::"
_USER_STATE, _APP_STATE_VERSION = "user_state", "app_state_version"
SHARED = (_USER_STATE, _APP_STATE_VERSION)
"""The beginnings of the keys that a user's sessions share."""


class KeyValue(Protocol):
    """The K/V of one object, as JSON values."""

    async def get(self, *names: str) -> list[Any]:
        """Returns the values of `names`, read concurrently; None for those that do not exist."""

    async def keys(self) -> list[str]:
        """Returns all names."""

    async def prefetch(self, *names: str, keys: bool = False) -> None:
        """Reads concurrently what will be asked for one after the other."""

    def set(self, name: str, value: object) -> None:
        """Has a JSON value stored.

        Raises:
            TooLargeError: if it is too large.
        """

    def clear(self, name: str) -> None:
        """Has a value removed, if there is one."""

    def write(self) -> None:
        """Writes all changes."""


class Keys:
    """The names under which one app's data is stored."""

    def __init__(self, app_name: str, default_app: str) -> None:
        self._app = "" if app_name == default_app else f"{_escape(app_name)}::"

    def session(self, session_id: str) -> str:
        """Returns the key of a session's record."""
        return f"{STORE}{self._app}{_escape(session_id)}"

    def run(self, session_id: str, number: int) -> str:
        """Returns the key of a sealed run of a session's events."""
        return f"session_events::{self._app}{_escape(session_id)}::{number}"

    @property
    def user_state(self) -> str:
        """The key of the `user:` state."""
        return self._of_app(_USER_STATE)

    @property
    def app_state_version(self) -> str:
        """The key of the version of the `app:` state after this user's last change to it."""
        return self._of_app(_APP_STATE_VERSION)

    def _of_app(self, name: str) -> str:
        return f"{name}::{self._app.removesuffix('::')}" if self._app else name


def _escape(name: str) -> str:
    return name.replace("%", "%25").replace(":", "%3A")


class Record(BaseModel):
    """JSON in camelCase, without nulls."""

    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True)

    def dump(self) -> Json:
        """Returns the JSON value to store."""
        return self.model_dump(by_alias=True, exclude_none=True)


class SessionRecord(Record):
    """A session as stored, with its fields in reading order. `batches` counts the appends of its turns."""

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
    """A random mark of the last append, if a turn made it, by which its writer recognises it."""
    sealed_runs: int = 0
    sealed_bytes: int = 0
    sealed_until: float | None = None
    """The latest time of a sealed event."""
    indexed: bool = False
    """Whether the index has a row for it; true for everything written in this layout."""
    index_page: int | None = None
    """Where an earlier version put that row."""
    state: Json = {}
    initial: Json | None = None
    """The state with which the session was created, which a rewind restores."""
    events: list[Json] = []
    _listed_time: float | None = PrivateAttr(default=None)

    @property
    def listed_time(self) -> float:
        """When it was last active, as in the index."""
        return self.last_update_time if self._listed_time is None else self._listed_time

    @property
    def is_of_ours(self) -> bool:
        """Whether it was written in this layout rather than by `restate.ext.adk`."""
        return self.indexed or self.index_page is not None

    @classmethod
    def load(cls, value: Json, app_name: str) -> "SessionRecord":
        """Returns the record in a stored value, ours or one of `restate.ext.adk`, which belongs to any app."""
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
        """Returns the record with the title that ADK's dev UI gave it."""
        metadata = self.state.get(METADATA)
        title = metadata.get("displayName") if isinstance(metadata, dict) else None
        self.title = title if isinstance(title, str) else None
        return self

    def seal(self) -> list[list[Json]]:
        """Removes the older part from the newest run if that has grown too large. Returns the runs to seal."""
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
    """What a list of sessions shows of one. A large `state` is left out."""

    id: str
    app_name: str
    title: str | None = None
    last_update_time: float
    state: Json | None = None

    @classmethod
    def of(cls, record: SessionRecord) -> "Row":
        """Returns the row of a session."""
        small = len(to_json(record.state)) <= ROW_STATE_BYTES
        return cls(
            id=record.id,
            app_name=record.app_name,
            title=record.title,
            last_update_time=record.last_update_time,
            state=record.state if small else None,
        )
