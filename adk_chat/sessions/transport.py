"""How a client of Chat's handlers reaches them: through a handler's context, or through the ingress."""

import asyncio
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol
from urllib.parse import quote
from weakref import WeakKeyDictionary

import httpx
import restate
from google.adk.errors import StaleSessionError
from google.adk.errors.already_exists_error import AlreadyExistsError
from google.adk.errors.session_not_found_error import SessionNotFoundError
from opentelemetry import propagate
from pydantic_core import from_json, to_json
from restate.extensions import current_context

from adk_chat.direct import direct_client
from adk_chat.sessions.addresses import Addresses
from adk_chat.sessions.contract import (
    CHAT,
    AppendEvents,
    BadRequestError,
    CreateSession,
    Json,
    KeptRefusal,
    Request,
    TooLargeError,
    sized,
)

STATUS: dict[type[Exception], int] = {
    SessionNotFoundError: 404,
    AlreadyExistsError: 409,
    StaleSessionError: 412,
    TooLargeError: 413,
    BadRequestError: 400,
}
"""What Chat answers for the exceptions of the session contract. Any other exception in a handler is a bug."""

_ATTEMPTS = 4
_NOT_FOUND, _SERVER_ERROR = 404, 500
RETRY_AFTER = {"retry-after": "2"}
"""The headers that go with a 503: in so many seconds it is worth trying again."""
SECONDS, CONNECT_SECONDS = 20.0, 2.0
"""How long an answer is waited for, and a connection."""


class AnswerError(RuntimeError):
    """Chat, or Restate in its place, answered with a status that the session contract does not have."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class NoAnswerError(ConnectionError):
    """Restate is not there, or has not answered in time. What it says is for who runs the service.

    Args:
        message: that.
        timed_out: whether the request has arrived, as far as one can tell.
    """

    def __init__(self, message: str, *, timed_out: bool = False) -> None:
        super().__init__(message)
        self.public = _NOT_IN_TIME if timed_out else _NOT_THERE
        """The same for who uses it."""


_NOT_THERE = "The service does not answer at the moment. Try again soon."
_NOT_IN_TIME = (
    "The service has not answered in time: it may be doing all that it can at once. What was asked for may still be "
    "done; sent again with the same idempotency-key, it is done once."
)


class UnansweredError(Exception):
    """One HTTP request got no answer, or one that says nothing but that Restate is not ready.

    Args:
        timed_out: whether it has arrived, as far as one can tell, and nothing came of it in time.
    """

    def __init__(self, why: Exception, *, timed_out: bool) -> None:
        super().__init__(repr(why))
        self.timed_out = timed_out


@dataclass(frozen=True)
class Answer:
    """What one HTTP request was answered with."""

    status: int
    content: bytes
    kept_of: str | None = None
    """The Restate invocation, where this is what the engine has kept of an earlier request with the same key."""

    @property
    def is_success(self) -> bool:
        """Whether it is one of the statuses that say so."""
        return 200 <= self.status < 300

    @property
    def text(self) -> str:
        """The content as text."""
        return self.content.decode(errors="replace")

    def json(self) -> Any:
        """The content as JSON.

        Raises:
            ValueError: it is none.
        """
        return from_json(self.content)

    def said_by(self, source: str) -> str | None:
        """The message of an error of Restate, if it is from that source: the ingress itself, or an invocation."""
        if self.is_success:
            return None
        try:
            error = self.json()
        except ValueError:
            return None
        if not isinstance(error, dict) or error.get("source") != source:
            return None
        return str(error.get("message", ""))


class Transport(Protocol):
    """Calls one handler of Chat."""

    async def call(self, handler: str, user_id: str, request: Request) -> Any:
        """The handler's answer, as JSON.

        Raises:
            SessionNotFoundError, AlreadyExistsError, StaleSessionError, TooLargeError, BadRequestError: as the session
                contract says.
        """

    async def write(self, handler: str, user_id: str, request: AppendEvents | CreateSession) -> tuple[Json, list[Json]]:
        """Call a handler that stores events: its answer, and the events as they were stored."""


def error_of(status: int, message: str) -> Exception:
    """The exception that Chat answered with `status`."""
    kind = next((kind for kind, code in STATUS.items() if code == status), None)
    return AnswerError(status, message) if kind is None else kind(message)


def status_of(error: BaseException) -> int | None:
    """The status of HTTP for an exception of a transport; None if it is none."""
    if isinstance(error, AnswerError):
        return error.status
    if isinstance(error, NoAnswerError):
        return 503
    return next((code for kind, code in STATUS.items() if isinstance(error, kind)), None)


def handler_context() -> restate.Context | None:
    """The context of the Restate handler that runs here, or None outside one and inside a journaled step."""
    try:
        context = current_context()
    except LookupError:
        return None
    return context if isinstance(context, restate.Context) else None


def request_json(request: Request) -> bytes:
    """The body of a request."""
    return request.model_dump_json(exclude_none=True, exclude_unset=True).encode()


class ContextTransport:
    """Through the context of the running handler: every call is journaled, and made once whatever crashes."""

    def __init__(self, context: restate.Context) -> None:
        self._context = context

    async def call(self, handler: str, user_id: str, request: Request) -> Any:
        """See `Transport`."""
        return await self._call(handler, user_id, request_json(request))

    async def write(self, handler: str, user_id: str, request: AppendEvents | CreateSession) -> tuple[Json, list[Json]]:
        """See `Transport`."""

        # What an agent's own code put into the events may differ on a replay; what is sent may not.
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


class IngressTransport:
    """Through the ingress of a restate-server. A request that may or may not have arrived is repeated under one key.

    Args:
        url: of the ingress, or of several, separated by commas: the next one is tried where one does not answer.
        headers: sent with every request.
    """

    def __init__(self, url: str, headers: Mapping[str, str] | None = None) -> None:
        self._addresses = Addresses(url)
        self._headers = dict(headers or {})
        self._clients: WeakKeyDictionary[asyncio.AbstractEventLoop, httpx.AsyncClient] = WeakKeyDictionary()

    async def call(self, handler: str, user_id: str, request: Request, idempotency_key: str | None = None) -> Any:
        """See `Transport`; with the idempotency key of an earlier call this is the same call, unless it was refused."""
        return await self._call(handler, user_id, request_json(request), idempotency_key)

    async def _call(self, handler: str, user_id: str, body: bytes, idempotency_key: str | None = None) -> Any:
        content = sized(body, "The request")
        path = f"/{CHAT}/{quote(user_id, safe='')}/{handler}"
        headers = {"content-type": "application/json", "idempotency-key": idempotency_key or str(uuid.uuid4())}
        answer = await self.send("POST", path, content, headers)
        if not answer.is_success and answer.kept_of is not None and idempotency_key is not None:
            refusal = KeptRefusal(invocation_id=answer.kept_of)
            if await self.call("forget_refusal", user_id, refusal):
                answer = await self.send("POST", path, content, headers)
        if answer.is_success:
            return answer.json() if answer.content else None
        raise error_of(answer.status, _message(answer))

    async def write(self, handler: str, user_id: str, request: AppendEvents | CreateSession) -> tuple[Json, list[Json]]:
        """See `Transport`."""
        body = request_json(request)
        return await self._call(handler, user_id, body), from_json(body)["events"]

    async def query(self, sql: str) -> Answer:
        """Ask an admin API."""
        headers = {"content-type": "application/json", "accept": "application/json"}
        return await self.send("POST", "/query", to_json({"query": sql}), headers)

    async def send(
        self, method: str, path: str, content: bytes | None = None, headers: Mapping[str, str] | None = None
    ) -> Answer:
        """One HTTP request, tried again a few times if there is no answer. It belongs to the trace that runs here."""
        headers = dict(headers or {})
        propagate.inject(headers)
        for attempt in range(_ATTEMPTS):
            try:
                return await self.attempt(method, path, content, headers, SECONDS)
            except UnansweredError as error:
                # A Restate, or an endpoint, that has not answered for so long does not do so when it is asked again.
                if error.timed_out:
                    raise NoAnswerError(
                        f"Restate at {self._addresses} has taken {method} {path}, and not answered it within "
                        f"{SECONDS:g} s{await self.why_not_in_time()}.",
                        timed_out=True,
                    ) from error
                if attempt == _ATTEMPTS - 1:
                    raise NoAnswerError(
                        f"No answer from Restate at {self._addresses} ({error}). "
                        "Is restate-server running, and are the handlers? Its ingress is ADK_CHAT_INGRESS_URL."
                    ) from error
                await asyncio.sleep(0.1 * 2**attempt)
        raise AssertionError

    async def is_there(self) -> bool:
        """Whether an ingress, any of its addresses, says at once that it is well."""

        async def is_well(url: str) -> bool:
            try:
                return (await self.request("GET", f"{url}/restate/health", None, {}, CONNECT_SECONDS)).is_success
            except UnansweredError:
                return False

        return any(await asyncio.gather(*map(is_well, self._addresses)))

    async def why_not_in_time(self) -> str:
        """What is known of why Restate, which is there, does not answer, as the end of a sentence."""
        return "; see whether the endpoint of the handlers answers"

    async def attempt(
        self, method: str, path: str, content: bytes | None, headers: dict[str, str], seconds: float
    ) -> Answer:
        """One HTTP request, to the preferred address. Where it is not answered there, another one is preferred next.

        Raises:
            UnansweredError: there is no answer, for so many seconds, or one that says that Restate is not ready.
        """
        url = next(iter(self._addresses))
        try:
            answer = await self.request(method, url + path, content, headers, seconds)
            if _is_not_ready(answer):
                raise UnansweredError(ConnectionError(answer.text[:200]), timed_out=False)
        except UnansweredError:
            self._addresses.failed(url)
            raise
        return answer

    async def request(
        self, method: str, url: str, content: bytes | None, headers: dict[str, str], seconds: float
    ) -> Answer:
        """One HTTP request, made once.

        Raises:
            UnansweredError: there is no answer, for so many seconds.
        """
        timeout = httpx.Timeout(seconds, connect=CONNECT_SECONDS)
        try:
            answer = await self._client().request(method, url, content=content, headers=headers, timeout=timeout)
        except httpx.TransportError as error:
            raise UnansweredError(error, timed_out=isinstance(error, httpx.ReadTimeout)) from error
        return Answer(answer.status_code, answer.content, kept_of(answer.headers))

    async def close(self) -> None:
        """Close the connections of the event loop that this is awaited on; a later call opens others."""
        client = self._clients.pop(asyncio.get_running_loop(), None)
        if client is not None:
            await client.aclose()

    def _client(self) -> httpx.AsyncClient:
        loop = asyncio.get_running_loop()
        client = self._clients.get(loop)
        if client is None:
            # A crowd waits for Restate, and not for a connection.
            limits = httpx.Limits(max_connections=None, max_keepalive_connections=100)
            client = self._clients[loop] = direct_client(headers=self._headers, limits=limits)
        return client


def kept_of(headers: Mapping[str, str]) -> str | None:
    """See `Answer`."""
    # Which the ingress sends with what it answers again, and not with what it answers for the first time.
    return headers.get("x-restate-id") if "idempotency-expires" in headers else None


def _is_not_ready(answer: Answer) -> bool:
    """Whether an answer is the ingress's own, and says only that it cannot do anything yet.

    One that has just started does not know the handlers: "service 'Chat' not found". It says something else of a
    handler that a service does not have.
    """
    said = answer.said_by("ingress")
    if said is None:
        return False
    return answer.status >= _SERVER_ERROR or (answer.status == _NOT_FOUND and said.startswith("service '"))


def _message(answer: Answer) -> str:
    try:
        return str(answer.json()["message"])
    except (ValueError, KeyError, TypeError):
        return answer.text
