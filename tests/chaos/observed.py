"""What the clients of a run have seen, recorded as they saw it."""

from dataclasses import dataclass, field

from tests.support import Json, text_of

Speaker = tuple[str, str | None]


@dataclass
class Sent:
    """A message and its results."""

    tag: str
    user: str
    session: str
    app: str
    way: str
    """message, post, run or run_sse."""
    strategy: str
    plan: str
    began: float
    lives_before: int
    """How many deletions of its session had been requested before it was sent."""
    accepted: float | None = None
    """When it was known to be accepted, for a post."""
    accepted_in: int | None = None
    """How many deletions had been requested when it was known to be accepted."""
    status: int | None = None
    """The status of its answer; None if there was none in time."""
    said: str = ""
    turn_id: str | None = None
    events: list[Json] = field(default_factory=list)
    """The complete events that its stream showed."""
    partial: dict[Speaker, str] = field(default_factory=dict)
    """The partial text that its stream showed of incomplete answers."""
    wrong: list[str] = field(default_factory=list)
    """What was wrong at first sight."""
    last_id: str = ""
    """Of the last event of its stream."""
    ended: bool = False
    """Whether its stream has ended."""

    def show(self, event: Json) -> None:
        """Take an event of the stream."""
        speaker: Speaker = (event["author"], event.get("branch"))
        text = text_of(event)
        if event.get("partial"):
            self.partial[speaker] = self.partial.get(speaker, "") + text
            return
        before = self.partial.pop(speaker, "")
        # Redis may have lost its beginning.
        if text and not event.get("interrupted") and before not in text:
            self.wrong.append(f"the partial text {before!r} is no part of {text!r}")
        self.events.append(event)


@dataclass
class Appended:
    """An event that a client appended, and whether that was acknowledged."""

    event_id: str
    user: str
    session: str
    app: str
    lives_before: int
    status: int | None = None


@dataclass
class Life:
    """The deletions of a session: how many were requested, and how many were answered."""

    asked: int = 0
    done: int = 0


@dataclass
class Stored:
    """A session at the end."""

    events: list[Json] = field(default_factory=list)
    state: Json = field(default_factory=dict)
    life: Life = field(default_factory=Life)


@dataclass
class Run:
    """Everything known about a run."""

    sent: list[Sent] = field(default_factory=list)
    appended: list[Appended] = field(default_factory=list)
    stored: dict[tuple[str, str, str], Stored] = field(default_factory=dict)
    """By user, app and session."""
    effects: list[Json] = field(default_factory=list)
    unfinished: list[Json] = field(default_factory=list)
