"""Calling the handlers of Chat: through the context of a Restate handler, or through the ingress."""

from typing import Any, Protocol

import restate
from pydantic_core import from_json
from restate.extensions import current_context

from adk_chat.protocol.errors import STATUS, error_of
from adk_chat.protocol.json import Json
from adk_chat.protocol.limits import sized
from adk_chat.protocol.sessions import CHAT, AppendEvents, CreateSession, KeptRefusal, Request
from adk_chat.restate_api import Answer, Ingress


class ChatClient(Protocol):
    """Calls the handlers of Chat.

    Both methods raise the exceptions of the session contract, those of `adk_chat.protocol.errors.STATUS`.
    """

    async def call(self, handler: str, user_id: str, request: Request) -> Any:
        """Returns the handler's answer, as JSON."""

    async def write(self, handler: str, user_id: str, request: AppendEvents | CreateSession) -> tuple[Json, list[Json]]:
        """Calls a handler that stores events. Returns its answer, and the events as they were stored."""


def handler_context() -> restate.Context | None:
    """Returns the context of the running Restate handler; None outside of one and inside a journaled step."""
    try:
        context = current_context()
    except LookupError:
        return None
    return context if isinstance(context, restate.Context) else None


def request_json(request: Request) -> bytes:
    """Returns the body of a request."""
    return request.model_dump_json(exclude_none=True, exclude_unset=True).encode()


class ContextClient:
    """Calls through the context of the running handler: each call is journaled, and made once whatever crashes."""

    def __init__(self, context: restate.Context) -> None:
        self._context = context

    async def call(self, handler: str, user_id: str, request: Request) -> Any:
        """See `ChatClient`."""
        return await self._call(handler, user_id, request_json(request))

    async def write(self, handler: str, user_id: str, request: AppendEvents | CreateSession) -> tuple[Json, list[Json]]:
        """See `ChatClient`."""

        # The agent's code may make other events on a replay; what is sent must be the same.
        async def events() -> bytes:
            return request_json(request)

        body = await self._context.run_typed("events", events, restate.RunOptions(serde=restate.serde.BytesSerde()))
        return await self._call(handler, user_id, body), from_json(body)["events"]

    async def _call(self, handler: str, user_id: str, body: bytes) -> Any:
        try:
            answer = await self._context.generic_call(CHAT, handler, body, key=user_id)
        except restate.TerminalError as error:
            if error.status_code in STATUS.values():
                raise error_of(error.status_code, error.message) from error
            raise
        return from_json(answer) if answer else None


class IngressClient:
    """Calls through the ingress. A request that may have arrived is repeated under one idempotency key.

    Besides the exceptions of the session contract, its methods raise `NoAnswerError` if Restate does not answer.

    Args:
        ingress: the ingress.
    """

    def __init__(self, ingress: Ingress) -> None:
        self._ingress = ingress

    async def call(self, handler: str, user_id: str, request: Request, idempotency_key: str | None = None) -> Any:
        """See `ChatClient`. With the idempotency key of an earlier call it is that call, unless it was refused."""
        return await self._call(handler, user_id, request_json(request), idempotency_key)

    async def write(self, handler: str, user_id: str, request: AppendEvents | CreateSession) -> tuple[Json, list[Json]]:
        """See `ChatClient`."""
        body = request_json(request)
        return await self._call(handler, user_id, body), from_json(body)["events"]

    async def close(self) -> None:
        """Closes the connections of the running event loop. A later call opens new ones."""
        await self._ingress.close()

    async def _call(self, handler: str, user_id: str, body: bytes, idempotency_key: str | None = None) -> Any:
        async def send() -> Answer:
            return await self._ingress.call(CHAT, user_id, handler, sized(body, "The request"), idempotency_key)

        answer = await send()
        if not answer.is_success and answer.kept_of is not None and idempotency_key is not None:
            refusal = KeptRefusal(invocation_id=answer.kept_of)
            answer = await send() if await self.call("forget_refusal", user_id, refusal) else answer
        if answer.is_success:
            return answer.json() if answer.content else None
        raise error_of(answer.status, str(answer.error().get("message", answer.text)))
