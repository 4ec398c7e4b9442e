"""Watching a turn: live from the broker as long as possible, and from the store for what is missing.

Whoever watches gets every complete event of the turn once, in order, whatever is lost or killed. Partial events in
between are a preview.
"""

import asyncio
import math
import re
from collections.abc import AsyncGenerator
from contextlib import aclosing, suppress
from dataclasses import dataclass

from adk_chat.gateway.turns import Outcome, RefusedError, Turns
from adk_chat.protocol.events import TURN_FAILED, is_model_retry, is_shown
from adk_chat.protocol.json import Json
from adk_chat.protocol.stream import Complete, End, Failure, Partial, Start, parse
from adk_chat.protocol.turn_end import Raised, raised
from adk_chat.protocol.turn_id import TurnId
from adk_chat.streaming import Broker, Entry, LostError

_GRACE = 1.0
"""Seconds in which the broker may still deliver what a turn published before it ended."""
_PAUSE = 0.2
_SOON = 0.5
"""Most turns end within this many seconds, and the broker says so. Restate is asked only about longer ones."""
_AWAY = 503
_NOWHERE = "-"
_MADE_ANEW = {"id", "timestamp"}
"""The fields of an event that are new if it is produced again."""


Speaker = tuple[str, str | None]
"""An author in a branch. Several may speak at the same time."""


class TurnFailedError(Exception):
    """A turn ended with an exception. The class has that exception's name."""


@dataclass(frozen=True)
class Mark:
    """How far a turn was shown: the number of complete events, and the position in the broker."""

    number: int = 0
    position: str | None = None

    def __str__(self) -> str:
        return f"{self.number}.{self.position or _NOWHERE}"

    @classmethod
    def parse(cls, text: str) -> "Mark":
        """Returns the mark in the id of a server-sent event.

        Raises:
            ValueError: if it is not a mark.
        """
        found = re.fullmatch(r"(\d{1,9})\.([!-~]{1,100})", text)
        if found is None:
            raise ValueError(f"{text!r} is not an event id of this stream.")
        return cls(int(found[1]), None if found[2] == _NOWHERE else found[2])


@dataclass(frozen=True)
class Shown:
    """An event to show. None means that all partial text without a complete event is void."""

    event: Json | None
    mark: Mark


class TurnReader:
    """Reads turns for those who watch.

    Args:
        turns: the turns.
        broker: the broker; without one, turns are shown when they have ended.
    """

    def __init__(self, turns: Turns, broker: Broker | None) -> None:
        self._turns = turns
        self._broker = broker

    def read(
        self, turn_id: TurnId, after: Mark | None = None, patience: float = math.inf
    ) -> AsyncGenerator[Shown, None]:
        """Yields what there is to show of a turn after a mark, until it ends.

        Raises:
            TurnFailedError: if the turn ended with an exception.
            RefusedError: if it did not begin, its session is gone, or Restate is unreachable for longer than `patience`
                seconds.
        """
        return _Reading(self._turns, self._broker, turn_id, after, patience).run()


class _Reading:
    def __init__(
        self, turns: Turns, broker: Broker | None, turn_id: TurnId, after: Mark | None, patience: float
    ) -> None:
        self._turns = turns
        self._broker = broker
        self._turn_id = turn_id
        self._number = after.number if after else 0
        self._position = after.position if after else None
        self._begun_at = self._number
        self._previews: dict[Speaker, list[Json]] = {}
        """The partial events that were shown without their complete event, by speaker."""
        self._perhaps_more = after is not None
        """Whether others may have been shown before, as to a client that reconnects."""
        self._repeated: dict[Speaker, int] = {}
        """How many of those a new attempt has repeated, until it says something new."""
        self._completed: dict[Speaker, int] | None = None if after else {}
        """The number of each speaker's last complete event; None while those shown before are unknown."""
        self._attempt: str | None = None
        self._patience = patience

    async def run(self) -> AsyncGenerator[Shown, None]:
        ended = asyncio.create_task(self._outcome(self._patience))
        try:
            end = None
            if self._broker is not None:
                async with aclosing(self._live(self._broker, ended)) as live:
                    async for item in live:
                        if isinstance(item, End):
                            end = item
                        else:
                            yield item
            if end is None:
                end = await self._end_from_store(await ended)
            for shown in await self._catch_up(end.number):
                yield shown
            if end.error is not None:
                raise failure(end.error)
        finally:
            ended.cancel()

    async def _live(self, broker: Broker, ended: "asyncio.Task[Outcome]") -> AsyncGenerator[Shown | End, None]:
        """Yields what the broker delivers, and the end if the broker delivers it."""
        over = asyncio.create_task(_over(ended))
        try:
            while not over.done():
                try:
                    async with aclosing(broker.read(str(self._turn_id), self._position)) as entries:
                        while (entry := await _next(entries, over)) is not None:
                            self._position = entry.position
                            parsed = parse(entry.data)
                            if isinstance(parsed, End):
                                for shown in self._void_rest():
                                    yield shown
                                yield parsed
                                return
                            for shown in await self._show(parsed):
                                yield shown
                except LostError as lost:
                    self._position = lost.resume
                    for shown in self._reset():
                        yield shown
                    await asyncio.wait([over], timeout=_PAUSE)
        finally:
            over.cancel()

    async def _outcome(self, patience: float) -> Outcome:
        """Waits for the end of the turn as Restate knows it, whatever the broker has lost."""
        if self._broker is not None:
            await asyncio.sleep(_SOON)
        return await self._turns.outcome(self._turn_id, patience)

    async def _show(self, entry: Start | Partial | Complete) -> list[Shown]:
        if isinstance(entry, Start):
            again, self._attempt = entry.attempt != self._attempt, entry.attempt
            if not again:
                return []
            if self._perhaps_more:
                return self._reset()
            # Most new attempts are replays, which say the same.
            self._repeated = dict.fromkeys(self._previews, 0)
            return []
        if isinstance(entry, Partial):
            # An attempt that was given up may still publish.
            self._attempt = self._attempt or entry.attempt
            if entry.attempt != self._attempt or await self._is_over(entry):
                return []
            return [*await self._catch_up(entry.after), *self._partial(entry.event)]
        if entry.number <= self._number:
            return []
        return [*await self._catch_up(entry.number - 1), *self._complete(entry.event)]

    async def _is_over(self, partial: Partial) -> bool:
        """Returns whether the complete event of a partial one was shown."""
        if partial.after >= self._number:
            return False
        if self._completed is None:
            before = (await self._shown())[: self._begun_at]
            self._completed = {speaker_of(event): number for number, event in enumerate(before, 1)}
        return partial.after < self._completed.get(speaker_of(partial.event), 0)

    def _partial(self, event: Json) -> list[Shown]:
        if is_model_retry(event):  # it is not part of an answer
            return [Shown(event, self._mark)]
        speaker = speaker_of(event)
        preview = self._previews.setdefault(speaker, [])
        repeated = self._repeated.get(speaker)
        if repeated is None or repeated == len(preview):
            self._repeated.pop(speaker, None)
            preview.append(event)
            return [Shown(event, self._mark)]
        if _said(preview[repeated]) == _said(event):
            self._repeated[speaker] += 1
            return []
        self._previews[speaker] = [*preview[:repeated], event]
        return self._void(speaker)

    def _void(self, speaker: Speaker) -> list[Shown]:
        """Voids partial text that differs from an earlier attempt's. Returns what is still valid, to show it again."""
        self._repeated.pop(speaker, None)
        holds = [Shown(event, self._mark) for preview in self._previews.values() for event in preview]
        return [Shown(None, self._mark), *holds]

    def _void_rest(self) -> list[Shown]:
        """Voids, at the end of the turn, what an earlier attempt said and the last one did not repeat."""
        left = [speaker for speaker, repeated in self._repeated.items() if repeated < len(self._previews[speaker])]
        for speaker in left:
            del self._previews[speaker]
        return self._void(left[0]) if left else []

    def _reset(self) -> list[Shown]:
        """Voids all partial text."""
        void = [Shown(None, self._mark)] if self._perhaps_more or any(self._previews.values()) else []
        self._previews, self._repeated, self._perhaps_more = {}, {}, False
        return void

    def _complete(self, event: Json) -> list[Shown]:
        speaker = speaker_of(event)
        preview, repeated = self._previews.pop(speaker, []), self._repeated.get(speaker)
        void = [] if repeated is None or repeated == len(preview) else self._void(speaker)
        self._repeated.pop(speaker, None)
        self._number += 1
        if self._completed is not None:
            self._completed[speaker] = self._number
        if event.get("branch") is None:  # nobody else speaks at the same time
            self._perhaps_more = False
        return [*void, Shown(event, self._mark)]

    @property
    def _mark(self) -> Mark:
        return Mark(self._number, self._position)

    async def _catch_up(self, number: int) -> list[Shown]:
        """Returns the complete events up to that number that were missed."""
        if number <= self._number:
            return []
        events = await self._shown()
        return [shown for event in events[self._number : number] for shown in self._complete(event)]

    async def _shown(self) -> list[Json]:
        return [event for event in await self._stored() if is_shown(event)]

    async def _stored(self) -> list[Json]:
        """Returns the stored events. Waits while Restate is unreachable."""
        while True:
            try:
                return await self._turns.events(self._turn_id)
            except RefusedError as refused:
                if refused.status_code != _AWAY:
                    raise
            await asyncio.sleep(_PAUSE)

    async def _end_from_store(self, outcome: Outcome) -> End:
        stored = await self._stored()
        number = sum(map(is_shown, stored))
        why = _raised_before(outcome, stored) or raised(outcome.status, outcome.sentence, outcome.metadata, number)
        error = None if why is None else Failure(type=why.type, message=why.message, code=outcome.status)
        return End(number=number, error=error)


def _raised_before(outcome: Outcome, stored: list[Json]) -> Raised | None:
    """Returns what a turn raised that version 0.1 ran before 2026-11-29: its outcome has no metadata."""
    if outcome.status < 500 or outcome.metadata is not None:
        return None
    failed = [event for event in stored if TURN_FAILED in event.get("customMetadata", {})]
    raised_by = [Raised(event.get("errorCode"), event.get("errorMessage", "")) for event in failed]
    return next((why for why in raised_by if outcome.sentence.endswith(f"{why.type}: {why.message}")), None)


async def _over(ended: "asyncio.Task[Outcome]") -> None:
    await asyncio.wait([ended])
    await asyncio.sleep(_GRACE)


async def _next(entries: AsyncGenerator[Entry, None], over: "asyncio.Task[None]") -> Entry | None:
    """Returns the next entry; None once the turn is over."""
    try:
        async with asyncio.timeout(None) as limit:

            def stop(_: object) -> None:
                with suppress(RuntimeError):  # it arrived at the same moment
                    limit.reschedule(0)

            over.add_done_callback(stop)
            try:
                return await anext(entries)
            finally:
                over.remove_done_callback(stop)
    except TimeoutError:
        return None


def speaker_of(event: Json) -> Speaker:
    """Returns who says an event."""
    return event["author"], event.get("branch")


def _said(event: Json) -> Json:
    return {name: value for name, value in event.items() if name not in _MADE_ANEW}


def failure(error: Failure) -> Exception:
    """Returns what to raise for a turn that failed."""
    if error.type is None:
        return RefusedError(error.code, error.message)
    named: type[TurnFailedError] = type(error.type, (TurnFailedError,), {})
    return named(error.message)
