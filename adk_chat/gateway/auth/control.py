"""Access control of the gateway: every user reaches what is theirs, and nothing else."""

import json
from collections.abc import Awaitable, Callable
from typing import Any

from adk_chat.gateway.auth.access import (
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
    """The app behind access control; the app itself if there is nothing to verify tokens with."""
    return AccessControl(app, tokens, tickets) if tokens else app


class AccessControl:
    """An ASGI app that lets through what is about the user of the request's token. Around it are bounds and CORS alone.

    What names no user is refused unless it is on a short list (`access`), and so are websockets. A preflight of CORS
    carries no token and is let through.
    """

    def __init__(self, app: ASGIApp, tokens: Verifier, tickets: Tickets) -> None:
        self._app = app
        self._tokens = tokens
        self._tickets = tickets

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Answer a request, or have the app do it."""
        if scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1008, "reason": "Websockets are not offered."})
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
        """What the app receives from, if it may have the request."""
        allowed, named = access(scope["method"], route_path(scope))
        if allowed is Access.OPEN or _is_preflight(scope):
            return receive
        subject = await self._subject(scope)
        note_user(scope, subject)
        if allowed is Access.NOBODY:
            raise _RefusedError(403, "What is asked for is not offered where users are told apart.")
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
            raise _RefusedError(403, "The request names no user: say in its JSON body whose it is, as userId.")
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
    return _RefusedError(403, "This belongs to another user than the token.")


def _is_preflight(scope: Any) -> bool:
    names = {name.lower() for name, _ in scope["headers"]}
    return scope["method"] == "OPTIONS" and {b"origin", b"access-control-request-method"} <= names
