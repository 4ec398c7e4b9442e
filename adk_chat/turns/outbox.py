"""What a turn has to store, sent to Chat in batches. All that was sent is in the journal.

Events are recognised by their content, not by their position: if an attempt produces what an earlier one has sent, in
any order, it is the same event, with the id, the time and the content under which it was stored.
"""

import asyncio
import secrets
from itertools import accumulate
from typing import Any

import restate
from google.adk.events.event import Event
from pydantic_core import from_json, to_json

from adk_chat.durable import Journal
from adk_chat.objects.calls import ask
from adk_chat.protocol.events import is_shown
from adk_chat.protocol.json import Json
from adk_chat.protocol.sessions import CHAT
from adk_chat.protocol.turn_id import TurnKey
from adk_chat.protocol.turns import Reply, SessionHead, TurnEvents
from adk_chat.sessions.service import adopt
from adk_chat.turns.publisher import Publisher

MUCH = 4 * 1024 * 1024
"""The size of a batch in bytes; a larger event has a batch of its own."""
MAX_EVENT_BYTES = 18 * 1024 * 1024
"""The largest event: a message, or twice the largest result of a step. It has to fit with the reply into one message of
the engine."""
_SLOW_SECONDS = 0.1
_HANDLER, _OF_TOOLS = "append_turn", "events of tools"
_MADE_ANEW = {"id", "timestamp"}


class Outbox:
    """The events of one attempt at a turn.

    They are held back for 100 ms or until the end. If somebody may be watching, they are sent earlier if a step begins.

    Args:
        context: the handler's context.
        journal: of the attempt.
        key: of the turn.
        head: the session that the turn found.
        live: who may be watching.
    """

    def __init__(
        self,
        context: restate.ObjectContext,
        journal: Journal,
        key: TurnKey,
        head: SessionHead,
        live: Publisher | None,
    ) -> None:
        self._context = context
        self._journal = journal
        self._key = key
        self._head = head
        self._live = live
        self.batches = head.batches
        """How many batches the turns of this session have sent to Chat."""
        self.events: list[Json] = []
        """Everything this turn has sent, as stored."""
        self.mark = ""
        """Of the last batch. An attempt that lost the batch and makes it again draws another mark."""
        self._pending: list[tuple[Json, int]] = []  # with its size in bytes as JSON
        self._unconfirmed: dict[int, TurnEvents] = {}
        self._refused: restate.TerminalError | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._sent: list[Json] = []
        """What earlier attempts sent and this one has not produced yet."""
        self._of_tools: set[str] = set()
        """Ids of events that tools appended inside their steps, which a replay does not run again."""
        self._ids: set[str] = set()
        """Ids of all events that earlier attempts sent."""
        self._replied = False
        self._last: TurnEvents | None = None
        """The last batch."""

    def resume(self) -> None:
        """Sends again what earlier attempts sent, since that may be lost. Chat stores a repeated batch once."""
        expected: set[str] = set()
        before: dict[int, TurnEvents] = {}
        for number, request in self._journal.requests(CHAT, _HANDLER, self._key.user_id):
            batch = TurnEvents.model_validate_json(request)
            before[batch.batch] = batch
            if number < self._journal.pump.cancel_point.number:
                expected.update(event["id"] for event in batch.events)
        for batch in before.values():
            self._keep(batch)
            self._sent += batch.events
            self._ids.update(event["id"] for event in batch.events)
            if self._live is not None:
                self._live.sent(batch.events)
            self._send(batch)
        for recorded in self._journal.recorded(_OF_TOOLS):
            self._of_tools.update(from_json(recorded))
        expected -= self._of_tools
        self._journal.pump.cancel_point.expects = lambda: any(event["id"] in expected for event in self._sent)
        if self._live is not None:
            self._journal.before_step = self._show

    def sent_before(self, event: Event, made: Json, *, of_tool: bool) -> bool:
        """Returns whether an earlier attempt sent this event. If so, the event becomes what was sent.

        Args:
            event: the event.
            made: its stored form.
            of_tool: whether a tool appended it inside its step.
        """
        sent = self._alike(made, of_tool=of_tool)
        if sent is None:
            while event.id in self._ids:  # it belongs to another event, for ever
                event.id = self._journal.new_id()
            return False
        self._sent.remove(sent)
        adopt(event, sent)
        self._journal.advance(event.timestamp)
        return True

    def left_by_tools(self, before: Json) -> list[Json]:
        """Returns what tools of an earlier attempt appended before that event, each once."""
        if not self._of_tools:
            return []
        sent = self._alike(before, of_tool=False)
        earlier = self._sent if sent is None else self._sent[: self._sent.index(sent)]
        left = [event for event in earlier if event["id"] in self._of_tools]
        self._of_tools.difference_update(event["id"] for event in left)
        self._sent = [event for event in self._sent if event not in left]
        return left

    def left(self) -> list[Json]:
        """Returns what earlier attempts sent and this one has not produced, each once."""
        left, self._sent = self._sent, []
        return left

    def _alike(self, made: Json, *, of_tool: bool) -> Json | None:
        kind, said = _kind(made), _said(made)
        sent = [event for event in self._sent if (event["id"] in self._of_tools) is of_tool]
        alike = [event for event in sent if _kind(event) == kind]
        same = [event for event in alike if event["id"] == made["id"]]
        if same or alike:
            return next((event for event in same + alike if _said(event) == said), (same or alike)[0])
        # A call has one answer: the one that was sent, whether the tool's or the cancellation's.
        answered = _answered(made)
        return next((event for event in sent if answered & _answered(event)), None)

    def add(self, stored: Json, size: int) -> None:
        """Adds the stored form of an event, with the bytes of its JSON."""
        self._pending.append((stored, size))
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(_SLOW_SECONDS, self._late)

    def flush(self, *, of_tool: bool = False) -> None:
        """Sends what is pending. `of_tool` says that a tool appended it inside its step."""
        self.close()
        while self._pending:
            self._send(self._next(None, of_tool=of_tool))

    async def store(self, reply: Reply | None) -> None:
        """Stores what is pending and everything sent before.

        Args:
            reply: sent along, for Chat to hand to the caller once all is stored. With a reply this does not wait,
                unless somebody may be watching.

        Raises:
            restate.TerminalError: 404 if the session was deleted while the turn ran.
        """
        batch = None
        while self._pending or (batch is None and reply is not None and not self._replied):
            if batch is not None:
                self._send(batch)
            batch = self._next(reply)
        self.close()
        if self._live is not None:
            if batch is not None:
                self._send(batch)
            await self._confirmed()
        elif batch is not None and reply is not None:
            self._send(batch)
        elif reply is None and self._last is not None:
            # What was sent may not have arrived. A repeated batch is stored once.
            await ask(self._context, CHAT, _HANDLER, _json(self._last), self._key.user_id)

    def close(self) -> None:
        """Stops sending by itself, until something is added."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _show(self) -> None:
        """Sends what was said before a step, which may take long, except for the user's own message."""
        if any(is_shown(event) for event, _ in self._pending):
            self.flush()

    def _late(self) -> None:
        if self._journal.pump.over is None:
            self.flush()

    def _next(self, reply: Reply | None, *, of_tool: bool = False) -> TurnEvents:
        """Returns the next batch; the last one has the reply."""
        sizes = accumulate(size for _, size in self._pending)
        count = max(1, sum(size <= MUCH for size in sizes))
        events, self._pending = [stored for stored, _ in self._pending[:count]], self._pending[count:]
        if self._pending or self._replied:
            reply = None
        if of_tool:
            self._journal.record(_OF_TOOLS, lambda: to_json([event["id"] for event in events]))
        for event in events:
            self._journal.advance(event["timestamp"])
        batch = TurnEvents(
            app_name=self._key.app_name,
            session_id=self._key.session_id,
            events=events,
            batch=self.batches + 1,
            turn=self._context.request().id,
            mark=secrets.token_hex(4),
            create=self.batches == self._head.batches and self._head.created is None,
            created=self._head.created,
            deletions=self._head.deletions,
            first_session=self._head.first_session,
            reply=reply,
        )
        self._keep(batch)
        return batch

    def _keep(self, batch: TurnEvents) -> None:
        self.batches = batch.batch
        self.events += batch.events
        self.mark = batch.mark or ""
        self._replied = self._replied or batch.reply is not None
        self._last = batch

    def _send(self, batch: TurnEvents) -> None:
        """Sends a batch. If somebody may be watching, Chat confirms it. A call would be cancelled with the turn."""
        if self._live is not None:
            signal = f"stored {batch.batch}"
            batch.confirm_to = self._context.request().id
            batch.confirm = signal
            handle = self._journal.vm.sys_signal(signal)
            self._unconfirmed[handle] = batch
            self._journal.pump.watch(handle, lambda: self._heard(handle))
        self._context.generic_send(CHAT, _HANDLER, _json(batch), key=self._key.user_id)
        self._journal.pump.wake()

    def _heard(self, handle: int) -> None:
        try:
            self._journal.pump.take_now(handle)
        except restate.TerminalError as error:
            self._confirm(handle, error)
        else:
            self._confirm(handle)

    async def _confirmed(self) -> None:
        while self._unconfirmed:
            handle = next(iter(self._unconfirmed))
            self._journal.pump.unwatch(handle)
            try:
                await self._journal.pump.result(handle)
            except restate.TerminalError as error:
                self._confirm(handle, error)
            else:
                self._confirm(handle)
        if self._refused is not None:
            raise self._refused

    def _confirm(self, handle: int, error: restate.TerminalError | None = None) -> None:
        batch = self._unconfirmed.pop(handle)
        self._refused = self._refused or error
        if error is None and self._live is not None:
            self._live.stored(batch.events)


def _kind(event: Json) -> Any:
    """Returns what kind of event it is: its author, and its calls and answers."""
    parts = event.get("content", {}).get("parts", [])
    named = [part.get("functionCall") or part.get("functionResponse") or {} for part in parts]
    sorts = sorted({key for part in parts for key in part})
    return event["author"], event.get("branch"), sorts, [one.get("id") for one in named], event.get("errorCode")


def _answered(event: Json) -> set[str]:
    """Returns the ids of the calls that an event answers."""
    parts = event.get("content", {}).get("parts", [])
    return {part["functionResponse"].get("id", "") for part in parts if "functionResponse" in part} - {""}


def _said(event: Json) -> Any:
    return {key: value for key, value in event.items() if key not in _MADE_ANEW}


def _json(batch: TurnEvents) -> bytes:
    return batch.model_dump_json(exclude_none=True, exclude_defaults=True).encode()
