"""A client of a gateway, or of any server with ADK's HTTP API, for one user and one app."""

import asyncio
import contextlib
import json
import time
from collections.abc import AsyncGenerator, AsyncIterator
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

import httpx
from httpx_sse import EventSource, ServerSentEvent, SSEError

from adk_chat.settings import is_loopback

Json = dict[str, Any]

_TIMEOUT_SECONDS = 30
_RECONNECT_SECONDS = 60
_LONGEST_WAIT_SECONDS = 2.0
_PASSING = (502, 503, 504)


class GatewayError(Exception):
    """A request failed. The message is for people."""


@dataclass(frozen=True)
class Reset:
    """The partial text so far is void."""


class GatewayClient:
    """Makes requests for one user.

    Raises:
        GatewayError: if the URL is invalid.
    """

    def __init__(self, url: str, user: str, token: str | None = None) -> None:
        self.app = ""
        self.user = user
        headers = {"authorization": f"Bearer {token}"} if token else {}
        self._url = url.rstrip("/")
        try:
            # With a transport of its own httpx ignores the environment's proxy, which could not reach this machine.
            transport = httpx.AsyncHTTPTransport() if is_loopback(httpx.URL(self._url).host) else None
            self._http = httpx.AsyncClient(
                base_url=self._url, headers=headers, timeout=_TIMEOUT_SECONDS, transport=transport
            )
        except httpx.InvalidURL as error:
            raise self.unreachable(error) from error

    async def close(self) -> None:
        """Closes the connections."""
        await self._http.aclose()

    async def apps(self) -> list[str]:
        """Returns the names of the apps."""
        apps: list[str] = await self._ask("GET", "/list-apps")
        return apps

    async def sessions(self) -> list[Json]:
        """Returns the user's sessions without their events, the latest first."""
        sessions: list[Json] = await self._ask("GET", self._sessions)
        return sorted(sessions, key=lambda session: float(session.get("lastUpdateTime", 0)), reverse=True)

    async def session(self, session_id: str) -> Json | None:
        """Returns a session with its events, or None."""
        session: Json | None = await self._ask("GET", f"{self._sessions}/{quote(session_id, safe='')}", missing=True)
        return session

    async def create_session(self, session_id: str | None = None, title: str | None = None) -> str:
        """Creates a session. Returns its id."""
        state = {"__session_metadata__": {"displayName": title}} if title else {}
        body = {"state": state} if session_id is None else {"state": state, "sessionId": session_id}
        created = await self._ask("POST", self._sessions, json=body)
        return str(created["id"])

    async def running(self, session_id: str) -> list[str]:
        """Returns the turns of a session that are running or queued."""
        turns = await self._ask("GET", f"{self._sessions}/{quote(session_id, safe='')}/turns")
        return [turn["turnId"] for turn in turns]

    async def cancel(self, turn_id: str) -> bool:
        """Cancels a turn. Returns whether it was running or queued."""
        answer = await self._ask("POST", f"/turns/{turn_id}/cancel")
        return bool(answer["cancelled"])

    def run(self, session_id: str, text: str) -> "Turn":
        """Sends a message. Iterate over the turn for its events."""
        message = {"role": "user", "parts": [{"text": text}]}
        body = {
            "appName": self.app,
            "userId": self.user,
            "sessionId": session_id,
            "newMessage": message,
            "streaming": True,
        }
        return Turn(self, body)

    @property
    def _sessions(self) -> str:
        return f"/apps/{quote(self.app, safe='')}/users/{quote(self.user, safe='')}/sessions"

    @contextlib.asynccontextmanager
    async def stream(self, method: str, path: str, **values: Any) -> AsyncIterator[httpx.Response]:
        """Opens a response whose body may take any time to arrive.

        Raises:
            GatewayError: if the gateway refuses.
            httpx.TransportError: if there is no connection, or a retry may succeed in a moment.
        """
        timeout = httpx.Timeout(_TIMEOUT_SECONDS, read=None)
        async with self._http.stream(method, path, timeout=timeout, **values) as response:
            if response.status_code in _PASSING and method == "GET":
                raise httpx.RemoteProtocolError(f"HTTP {response.status_code}")
            if not response.is_success:
                await response.aread()
                raise GatewayError(_refusal(response))
            yield response

    def unreachable(self, error: Exception) -> GatewayError:
        """Returns what to say if the gateway does not answer."""
        if isinstance(error, httpx.ConnectError):
            return GatewayError(
                f"No gateway answers at {self._url}. Start one with `adk-chat dev` or `adk-chat web`, "
                "or name its URL with --url."
            )
        if isinstance(error, httpx.InvalidURL | httpx.UnsupportedProtocol):
            return GatewayError(f"{self._url} is not the URL of a gateway. It should look like http://localhost:8000.")
        return GatewayError(f"The connection to {self._url} broke: {str(error) or type(error).__name__}.")

    async def _ask(self, method: str, path: str, *, missing: bool = False, **values: Any) -> Any:
        try:
            response = await self._http.request(method, path, **values)
        except (httpx.TransportError, httpx.InvalidURL) as error:
            raise self.unreachable(error) from error
        if missing and response.status_code == 404:
            return None
        if not response.is_success:
            raise GatewayError(_refusal(response))
        try:
            return response.json() if response.content else None
        except ValueError as error:
            raise GatewayError(
                f"The server at {self._url} is not a gateway. Name the gateway's URL with --url."
            ) from error


class Turn:
    """A turn that is being followed: its events, partial ones too. It survives broken connections."""

    def __init__(self, gateway: GatewayClient, body: Json) -> None:
        self.id: str | None = None
        self._gateway = gateway
        self._body = body
        self._last_event_id = ""

    async def updates(self) -> AsyncGenerator[Json | Reset, None]:
        """Yields the events of the turn until it ends.

        Raises:
            GatewayError: if it fails, or the gateway does not answer for a minute.
        """
        patience = _Patience()
        while True:
            try:
                async with contextlib.aclosing(self._connected()) as updates:
                    async for update in updates:
                        if not isinstance(update, Reset):
                            patience = _Patience()
                        yield update
                return
            except (httpx.TransportError, httpx.InvalidURL) as error:
                if self.id is None or not await patience.wait():
                    raise self._gateway.unreachable(error) from error

    async def cancel(self) -> None:
        """Cancels it. What it said so far still arrives.

        Raises:
            GatewayError: if that is not possible.
        """
        if self.id is None:
            raise GatewayError("The turn has not begun, or this server, unlike adk-chat's, cannot cancel turns.")
        await self._gateway.cancel(self.id)

    async def _connected(self) -> AsyncGenerator[Json | Reset, None]:
        async with self._request() as response:
            self.id = response.headers.get("x-turn-id", self.id)
            if response.status_code == httpx.codes.NO_CONTENT:  # the connection broke after the end
                return
            try:
                async for message in EventSource(response).aiter_sse():
                    self._last_event_id = message.id or self._last_event_id
                    if (update := _update(message)) is not None:
                        yield update
            except SSEError as error:
                raise GatewayError(f"The gateway sent invalid events: {error}") from error

    def _request(self) -> contextlib.AbstractAsyncContextManager[httpx.Response]:
        headers = {"accept": "text/event-stream", "cache-control": "no-store"}
        if self.id is None:
            return self._gateway.stream("POST", "/run_sse", json=self._body, headers=headers)
        if self._last_event_id:
            headers["last-event-id"] = self._last_event_id
        return self._gateway.stream("GET", f"/turns/{self.id}/events", headers=headers)


class _Patience:
    """Waits between attempts to connect, for a minute in all."""

    def __init__(self) -> None:
        self._wait = 0.1
        self._end = time.monotonic() + _RECONNECT_SECONDS

    async def wait(self) -> bool:
        """Waits, and returns whether to try again."""
        if time.monotonic() + self._wait > self._end:
            return False
        await asyncio.sleep(self._wait)
        self._wait = min(self._wait * 2, _LONGEST_WAIT_SECONDS)
        return True


def _update(message: ServerSentEvent) -> Json | Reset | None:
    if message.event == "reset":
        return Reset()
    if message.event == "end":
        return None
    try:
        event = json.loads(message.data)
    except ValueError:
        return None
    if not isinstance(event, dict):
        return None
    if "error" in event and "author" not in event:
        raise GatewayError(str(event["error"]))
    return event


def _refusal(response: httpx.Response) -> str:
    """Returns why the gateway refused, in a sentence."""
    detail: Any = response.text.strip()
    with contextlib.suppress(ValueError, AttributeError):
        detail = response.json().get("detail", detail)
    if isinstance(detail, list):
        detail = "; ".join(str(item.get("msg", item)) if isinstance(item, dict) else str(item) for item in detail)
    return f"The gateway refused ({response.status_code}): {str(detail)[:500] or response.reason_phrase}"
