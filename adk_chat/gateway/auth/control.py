"""Access control of the gateway: users reach only what is theirs."""

import json
from collections.abc import Awaitable, Callable
from typing import Any

from adk_chat.gateway.auth.access import (
    SUBJECT,
    Access,
    BodyError,
    access,
    note_user,
    parsed,
    route_path,
    ticket,
    users_in_body,
    users_in_query,
    without_ticket,
)
from adk_chat.gateway.auth.tickets import Tickets
from adk_chat.gateway.auth.tokens import KeysError, TokenError, Verifier
from adk_chat.gateway.bodies import GoneError, again, whole

ASGIApp = Callable[[Any, Any, Any], Awaitable[None]]


def guarded(app: ASGIApp, tokens: Verifier | None, tickets: Tickets) -> ASGIApp:
    """Returns the app behind access control, or the app itself if there are no keys to verify tokens with."""
    return AccessControl(app, tokens, tickets) if tokens else app


class AccessControl:
    """An ASGI app that admits requests about the user of their token. Only size limits and CORS are outside of it.

    A request that names no user is refused unless it is on a short list (`access`), and so are websockets. A CORS
    preflight carries no token and is admitted.
    """

    def __init__(self, app: ASGIApp, tokens: Verifier, tickets: Tickets) -> None:
        self._app = app
        self._tokens = tokens
        self._tickets = tickets

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Answers a request, or passes it to the app."""
        if scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1008, "reason": "WebSockets are not supported."})
        elif scope["type"] != "http":
            await self._app(scope, receive, send)
        else:
            try:
                receive = await self._admit(scope, receive)
            except _RefusedError as refused:
                await refused.answer(send)
            except GoneError:
                return
            else:
                await self._app(scope, receive, send)

    async def _admit(self, scope: Any, receive: Any) -> Any:
        """Admits a request, and returns what the app receives from."""
        allowed, named = access(scope["method"], route_path(scope))
        if allowed is Access.OPEN or _is_preflight(scope):
            return receive
        subject = scope[SUBJECT] = await self._subject(scope)
        note_user(scope, subject)
        if allowed is Access.NOBODY:
            raise _RefusedError(403, "This endpoint is disabled when access control is on.")
        if (named is not None and named != subject) or users_in_query(scope["query_string"]) - {subject}:
            raise _forbidden()
        body = await whole(receive)
        try:
            users = users_in_body(parsed(scope, body))
        except BodyError as error:
            raise _RefusedError(400, str(error)) from error
        if users - {subject}:
            raise _forbidden()
        if allowed is Access.BODY and not users:
            raise _RefusedError(403, "The request names no user. Set userId in the JSON body.")
        return again(body, receive)

    async def _subject(self, scope: Any) -> str:
        headers = [value for name, value in scope["headers"] if name.lower() == b"authorization"]
        if not headers and (shown := ticket(scope)) is not None:
            scope["query_string"] = without_ticket(scope["query_string"])
            try:
                return self._tickets.subject(*shown)
            except TokenError as error:
                raise _RefusedError(401, str(error)) from error
        scheme, _, token = (headers[0].decode("latin-1") if len(headers) == 1 else "").partition(" ")
        if scheme.lower() != "bearer" or not token.strip():
            raise _RefusedError(401, "A bearer token is needed: send it as 'Authorization: Bearer ...'.")
        try:
            return await self._tokens.subject(token.strip())
        except TokenError as error:
            raise _RefusedError(401, str(error)) from error
        except KeysError as error:
            raise _RefusedError(503, str(error)) from error


class _RefusedError(Exception):
    def __init__(self, status: int, sentence: str) -> None:
        super().__init__(sentence)
        self._status = status
        self._body = json.dumps({"detail": sentence}).encode()

    async def answer(self, send: Any) -> None:
        headers = [
            (b"content-type", b"application/json"),
            (b"content-length", str(len(self._body)).encode()),
            (b"cache-control", b"no-store"),
        ]
        if self._status == 401:
            headers.append((b"www-authenticate", b"Bearer"))
        await send({"type": "http.response.start", "status": self._status, "headers": headers})
        await send({"type": "http.response.body", "body": self._body})


def _forbidden() -> _RefusedError:
    return _RefusedError(403, "The token belongs to another user.")


def _is_preflight(scope: Any) -> bool:
    names = {name.lower() for name, _ in scope["headers"]}
    return scope["method"] == "OPTIONS" and {b"origin", b"access-control-request-method"} <= names
