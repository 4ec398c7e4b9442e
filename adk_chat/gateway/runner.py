"""The Runner of the gateway: it posts the message to Chat, and yields the events of the turn."""

import asyncio
import math
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any

from google.adk.agents.run_config import RunConfig
from google.adk.errors.session_not_found_error import SessionNotFoundError
from google.adk.events.event import Event
from google.adk.runners import Runner
from google.genai import types
from pydantic import ValidationError
from typing_extensions import override

from adk_chat.gateway.streams.reader import Shown, TurnFailedError, TurnReader
from adk_chat.gateway.streams.run_request import current_exchange
from adk_chat.gateway.turns import RefusedError, Turns
from adk_chat.protocol.errors import sentence
from adk_chat.protocol.events import is_model_retry
from adk_chat.protocol.json import Json, json_safe
from adk_chat.protocol.messages import Message
from adk_chat.protocol.turn_id import TurnKey

_NOT_FOUND = 404
_PATIENCE_SECONDS = 10


class TurnRunner(Runner):
    """A Runner whose runs are turns of the service.

    Args:
        turns: posts the turns.
        reader: watches them.
        arguments: the arguments of ADK's Runner.
    """

    def __init__(self, *, turns: Turns, reader: TurnReader, **arguments: Any) -> None:
        super().__init__(**arguments)
        # Otherwise ADK's server would read the session first. The post is refused if there is none.
        self.auto_create_session = True
        self._turns = turns
        self._reader = reader

    @override
    async def run_async(
        self,
        *,
        user_id: str,
        session_id: str,
        invocation_id: str | None = None,
        new_message: types.Content | None = None,
        state_delta: dict[str, Any] | None = None,
        run_config: RunConfig | None = None,
        yield_user_message: bool = False,
        abort_signal: asyncio.Event | None = None,
    ) -> AsyncGenerator[Event, None]:
        """Posts the message and yields the events of its turn.

        A caller that stops listening, or sets `abort_signal` as ADK's server does when a client leaves, stops watching
        the turn. The turn continues. `yield_user_message` is ignored.

        Raises:
            SessionNotFoundError: if there is no such session.
            RefusedError: if the turn did not begin.
            TurnFailedError: if the turn ended with an exception.
        """
        exchange = current_exchange()
        if not session_id.strip():  # no session has a blank id
            sentence = f"Session not found: {session_id}"
            if exchange is not None:
                exchange.refuse(_NOT_FOUND, sentence)
            raise SessionNotFoundError(sentence)
        key = TurnKey(user_id=user_id, app_name=self.app_name, session_id=session_id)
        try:
            message = _message(
                app_name=self.app_name,
                session_id=session_id,
                parts=(new_message.parts if new_message else None) or [],
                without_parts=new_message is not None and not new_message.parts,
                state_delta=None if state_delta is None else json_safe(state_delta),
                run_config=_json(run_config),
                invocation_id=invocation_id,
                create=False,
                multitask_strategy=exchange.multitask_strategy if exchange else "enqueue",
            )
            turn_id = await self._turns.post(key, message, exchange.idempotency_key if exchange else None)
            if exchange is not None and exchange.multitask_strategy != "reject":
                await exchange.accepted(turn_id)
            # A stream shows that the turn continues after an outage. A caller of /run learns in time that no answer
            # will come.
            waits = exchange is not None and exchange.waits
            read = self._reader.read(turn_id, None, _PATIENCE_SECONDS if waits else math.inf)
            async with aclosing(_without_void(read) if waits else read) as shown:
                async for item in shown:
                    if exchange is not None:
                        await exchange.accepted(turn_id)
                    if item.event is not None:
                        event = Event.model_validate(item.event)
                        if exchange is not None:
                            exchange.next_is(event, item.mark)
                        yield event
                    elif exchange is not None:
                        await exchange.reset(item.mark)
        except TurnFailedError:
            if exchange is not None:  # it ran, so it was not rejected
                await exchange.accepted(turn_id)
            raise
        except RefusedError as refused:
            if exchange is not None:
                exchange.refuse(refused.status_code, str(refused))
            if refused.status_code == _NOT_FOUND:
                raise SessionNotFoundError(str(refused)) from refused
            raise

    @override
    async def close(self) -> None:
        """Closes nothing: a turn of this process may be using the app's toolsets and plugins."""


async def _without_void(read: AsyncGenerator[Shown, None]) -> AsyncGenerator[Shown, None]:
    """Yields what is shown of a turn to a caller that gets it all at once: without partial text that became void."""
    held: list[Shown] = []
    async with aclosing(read) as shown:
        async for item in shown:
            if item.event is None:
                held = []
            elif item.event.get("partial"):
                if not is_model_retry(item.event):
                    held.append(item)
            else:
                for before in held:
                    yield before
                held = []
                yield item
    for left in held:
        yield left


def _message(**fields: Any) -> Message:
    try:
        return Message(**fields)
    except ValidationError as error:
        raise RefusedError(400, sentence(error)) from error


def _json(config: RunConfig | None) -> Json | None:
    if config is None:
        return None
    return config.model_dump(mode="json", exclude_unset=True, exclude_none=True) or None
