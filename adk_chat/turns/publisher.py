"""What a running turn publishes, so that it can be watched."""

import uuid
from collections import deque

import restate
from google.adk.events.event import Event

from adk_chat.protocol.events import event_json, is_shown
from adk_chat.protocol.json import Json
from adk_chat.protocol.stream import AnyEntry, Complete, End, Failure, Partial, Start, dump
from adk_chat.protocol.turn_end import raised
from adk_chat.protocol.turn_id import TurnId
from adk_chat.streaming import Broker


class Publisher:
    """Publishes one attempt at a turn to those who watch.

    Everything goes out in ADK's order, and a complete event only once it is stored: what comes after it is held back
    until then. Nothing here waits or fails, and nothing is journaled. A later attempt publishes again, and readers drop
    what they know.
    """

    def __init__(self, broker: Broker | None, turn_id: TurnId) -> None:
        self._broker = broker
        self._stream = str(turn_id)
        self._attempt = uuid.uuid4().hex[:8]
        self._held: deque[Partial | str] = deque()  # the id of a complete event that is not stored yet
        self._stored: dict[str, Json] = {}
        self._numbers: dict[str, int] = {}
        """The positions of complete events in the store, by id."""
        self._after = 0

    def start(self) -> None:
        """Publishes that an attempt begins."""
        self._publish(Start(attempt=self._attempt))

    def partial(self, event: Event) -> None:
        """Publishes a partial event."""
        self._held.append(Partial(attempt=self._attempt, after=self._after, event=event_json(event)))
        self._let_go()

    def sent(self, events: list[Json]) -> None:
        """Takes note of complete events that an earlier attempt sent to be stored."""
        for event in events:
            self._number(event)

    def appended(self, event: Json) -> None:
        """Publishes a complete event, once it is stored. An earlier attempt may have sent it."""
        if is_shown(event):
            self._after = max(self._after, self._number(event))
            self._held.append(event["id"])
            self._let_go()

    def stored(self, events: list[Json]) -> None:
        """Takes note that complete events are stored."""
        self._stored.update((event["id"], event) for event in events if is_shown(event))
        self._let_go()

    def end(self, error: restate.TerminalError | None) -> None:
        """Publishes that the turn is over and stored, with its error, if any."""
        failure = None
        if (
            error is not None
            and (why := raised(error.status_code, error.message, error.metadata, len(self._numbers))) is not None
        ):
            failure = Failure(type=why.type, message=why.message, code=error.status_code)
        self._publish(End(number=len(self._numbers), error=failure), last=True)

    def _number(self, event: Json) -> int:
        if is_shown(event):
            self._numbers.setdefault(event["id"], len(self._numbers) + 1)
        return self._numbers.get(event["id"], 0)

    def _let_go(self) -> None:
        while self._held:
            entry: AnyEntry | str = self._held[0]
            if isinstance(entry, str):
                if entry not in self._stored:
                    return
                entry = Complete(number=self._numbers[entry], event=self._stored[entry])
            self._held.popleft()
            self._publish(entry)

    def _publish(self, entry: AnyEntry, *, last: bool = False) -> None:
        if self._broker is not None:
            self._broker.publish(self._stream, dump(entry), last=last)
