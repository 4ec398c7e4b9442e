"""Runs of AG-UI: each is a turn of the service. Nothing of a run is in the gateway's memory.

Whoever asks for a run again, here or at another gateway, sees the same turn.
"""

import asyncio
from collections.abc import AsyncGenerator, Iterable, Sequence
from contextlib import aclosing, suppress
from dataclasses import dataclass
from typing import TypeVar
from urllib.parse import quote

from ag_ui.core import BaseEvent

from adk_chat.gateway.agui.intake import Intake, Post
from adk_chat.gateway.agui.interrupts import Question
from adk_chat.gateway.agui.run_input import RunInput
from adk_chat.gateway.agui.thread import Thread, Threads
from adk_chat.gateway.agui.translation import RECONNECT, Translation
from adk_chat.gateway.streams.reader import Shown, TurnFailedError, TurnReader
from adk_chat.gateway.turns import RefusedError, Turns
from adk_chat.protocol.json import Json
from adk_chat.protocol.turn_id import TurnId, TurnKey

T = TypeVar("T")
_CANCELLED, _NOT_FOUND = 409, 404
_PAUSE, _ATTEMPTS = 0.1, 5
"""A turn stores its user's message within about as many seconds after its beginning."""
_DRAINING = "The server restarts. The run continues: post it again with its runId, or connect to the thread."


class DrainingError(Exception):
    """The gateway stops."""


@dataclass
class Run:
    """A run that was accepted.

    Attributes:
        key: the session.
        turn_ids: its turns, in their order. They may have ended.
        translation: of their events.
        state: of the thread.
        snapshot: whether the frontend has to be told which messages there are.
        follows: whether it goes on with whatever turn of the thread runs next.
    """

    key: TurnKey
    turn_ids: list[TurnId]
    translation: Translation
    state: Json
    snapshot: bool = False
    follows: bool = False


class Runs:
    """Starts runs and shows them.

    Args:
        turns: posts the turns.
        reader: watches them.
        threads: reads threads.
    """

    def __init__(self, turns: Turns, reader: TurnReader, threads: Threads) -> None:
        self._turns = turns
        self._reader = reader
        self._threads = threads

    async def start(self, key: TurnKey, given: RunInput) -> Run:
        """Posts what is new in a run's input. Its turn is durable when this returns.

        A run that was posted before is the same turn, whatever its thread has done since. If nothing is new, the run
        shows what its thread is doing.

        Raises:
            RefusedError: if it was refused.
        """
        intake = Intake(given)
        thread = await self._threads.read(key, intake.known, intake.answered_calls)
        posts = intake.posts(thread)
        if posts:
            turn_ids = [
                await self._turns.post_run(key, post.message, given.parsed.run_id, post.subject) for post in posts
            ]
            translation = _translation(key, given, intake.sent, _without_answered(thread.questions, posts))
            state = {**thread.state, **(posts[0].message.state_delta or {})}
            return Run(key, turn_ids, translation, state, snapshot=len(intake.sent) < len(given.messages))
        turn_ids = thread.turns(given.parsed.run_id)
        if turn_ids:
            base = _before(intake.sent, thread.messages_sent(turn_ids))
            translation = _translation(key, given, base, {})
            return Run(key, turn_ids, translation, thread.state, snapshot=len(base) < len(given.messages))
        if not thread.exists:
            raise RefusedError(400, "messages: there is no new message from the user. Send one.")
        return await self.connect(key, given)

    async def connect(self, key: TurnKey, given: RunInput) -> Run:
        """Returns a run that shows a thread and, if turns are running, these.

        Raises:
            RefusedError: if the thread cannot be read.
        """
        turn_ids, thread = await self._running(key)
        translation = _translation(key, given, thread.before(turn_ids), dict(thread.questions))
        return Run(key, turn_ids, translation, thread.state, snapshot=thread.exists, follows=True)

    async def show(self, run: Run, stop: asyncio.Event | None) -> AsyncGenerator[BaseEvent, None]:
        """Yields the events of a run, until it ends or the gateway stops.

        Args:
            run: the run.
            stop: set when the gateway stops. Clients take a stream that just ends for a run that has succeeded.
        """
        translation = run.translation
        for event in translation.started(run.turn_ids[-1] if run.turn_ids else None, run.state, snapshot=run.snapshot):
            yield event
        end: Iterable[BaseEvent]
        try:
            for turn_id in run.turn_ids:
                async with aclosing(self._shown(translation, turn_id, stop)) as events:
                    async for event in events:
                        yield event
            while run.follows and run.turn_ids:
                run.turn_ids, thread = await self._running(run.key, after=run.turn_ids)
                for turn_id in run.turn_ids:
                    yield translation.rebased(thread.before([turn_id]))
                    async with aclosing(self._shown(translation, turn_id, stop)) as events:
                        async for event in events:
                            yield event
            if run.turn_ids and translation.is_empty:
                _, thread = await self._running(run.key)
                if not thread.messages_sent(run.turn_ids):  # another run was first with its messages
                    yield translation.rebased(thread.messages)
            end = translation.finished()
        except DrainingError:
            end = translation.failed(_DRAINING, RECONNECT)
        except TurnFailedError as error:
            end = translation.failed(str(error), type(error).__name__)
        except RefusedError as error:
            cancelled = error.status_code == _CANCELLED
            end = translation.cancelled() if cancelled else translation.failed(str(error), str(error.status_code))
        for event in end:
            yield event

    async def stop(self, key: TurnKey) -> bool:
        """Cancels the turn that runs in a thread. Returns whether one was running.

        Raises:
            RefusedError: if nobody can tell at the moment.
        """
        running = await self._turns.running(key)
        return running is not None and await self._turns.cancel(running)

    async def thread(self, key: TurnKey) -> Json:
        """Returns a thread with all its messages.

        Raises:
            RefusedError: 404, if there is none.
        """
        turn_ids, thread = await self._running(key)
        if not thread.exists:
            raise RefusedError(_NOT_FOUND, f"There is no thread {key.session_id}.")
        interrupts = [question.interrupt() for question in thread.questions.values()]
        return {
            "threadId": key.session_id,
            "messages": thread.messages,
            "state": thread.state,
            "interrupts": [one.model_dump(mode="json", by_alias=True) for one in interrupts],
            "pendingToolCallIds": thread.pending,
            "runningTurnId": str(turn_ids[0]) if turn_ids else None,
        }

    async def _running(self, key: TurnKey, after: Sequence[TurnId] = ()) -> tuple[list[TurnId], Thread]:
        """Returns the turn that is running, if it is another one, and what is stored of the thread since."""
        running = await self._turns.running(key)
        turn_ids = [running] if running is not None and running not in after else []
        thread = await self._threads.read(key)
        for _ in range(_ATTEMPTS):
            if not turn_ids or any(turn_ids[0].owns(event) for event in thread.events):
                break
            await asyncio.sleep(_PAUSE)
            thread = await self._threads.read(key)
        return turn_ids, thread

    async def _shown(
        self, translation: Translation, turn_id: TurnId, stop: asyncio.Event | None
    ) -> AsyncGenerator[BaseEvent, None]:
        async with aclosing(self._reader.read(turn_id)) as read, aclosing(_until(stop, read)) as shown:
            async for item in shown:
                for event in _translated(translation, item):
                    yield event


def _translated(translation: Translation, item: Shown) -> Iterable[BaseEvent]:
    if item.event is None:
        return translation.reset()
    return translation.partial(item.event) if item.event.get("partial") else translation.complete(item.event)


async def _until(stop: asyncio.Event | None, items: AsyncGenerator[T, None]) -> AsyncGenerator[T, None]:
    """Yields items until the gateway stops.

    Raises:
        DrainingError: if it does.
    """
    if stop is None:
        async for item in items:
            yield item
        return
    stopping = asyncio.ensure_future(stop.wait())
    coming: asyncio.Task[T] | None = None
    try:
        while True:
            coming = asyncio.create_task(_next(items))
            await asyncio.wait([coming, stopping], return_when=asyncio.FIRST_COMPLETED)
            if not coming.done():
                raise DrainingError
            try:
                item = coming.result()
            except StopAsyncIteration:
                return
            yield item
    finally:
        stopping.cancel()
        if coming is not None and not coming.done():
            coming.cancel()
            with suppress(asyncio.CancelledError):
                await coming


async def _next(items: AsyncGenerator[T, None]) -> T:
    return await anext(items)


def _without_answered(questions: dict[str, Question], posts: Sequence[Post]) -> dict[str, Question]:
    responses = [part.function_response for post in posts for part in post.message.parts or []]
    answered = {response.id for response in responses if response is not None}
    return {one: question for one, question in questions.items() if one not in answered}


def _before(messages: list[Json], sent: set[str]) -> list[Json]:
    """Returns messages up to the last one that was sent in a run: what comes after is the run's own."""
    last = max((n for n, message in enumerate(messages, 1) if message.get("id") in sent), default=len(messages))
    return messages[:last]


def _translation(key: TurnKey, given: RunInput, base: list[Json], questions: dict[str, Question]) -> Translation:
    app, user, session = (quote(part, safe="") for part in (key.app_name, key.user_id, key.session_id))
    return Translation(
        thread_id=given.parsed.thread_id,
        run_id=given.parsed.run_id,
        is_current=given.is_current,
        base=base,
        questions=questions,
        tools={tool.name for tool in given.parsed.tools or []},
        url=f"/apps/{app}/users/{user}/sessions/{session}/artifacts",
    )
