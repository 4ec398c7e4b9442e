"""HTTP requests to a Restate that has one or several addresses.

Requests go there directly: `HTTP_PROXY` and the like are ignored. `SSL_CERT_FILE` is respected.
"""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any

import aiohttp
from opentelemetry import propagate
from pydantic_core import from_json

from adk_chat.protocol.errors import NoAnswerError
from adk_chat.restate_api.addresses import Addresses

SECONDS, CONNECT_SECONDS = 20.0, 2.0
"""How long to wait for an answer, and for a connection."""
ATTEMPTS = 4
_NOT_FOUND, _SERVER_ERROR = 404, 500


class UnansweredError(Exception):
    """One HTTP request got no answer, or only one that says that Restate is not ready.

    Attributes:
        timed_out: whether the request probably arrived, and no answer came in time.
    """

    def __init__(self, why: Exception, *, timed_out: bool) -> None:
        super().__init__(repr(why))
        self.timed_out = timed_out


@dataclass(frozen=True)
class Answer:
    """The answer to one HTTP request."""

    status: int
    content: bytes
    kept_of: str | None = None
    """The Restate invocation, if this is the answer that Restate keeps of an earlier request with the same key."""

    @property
    def is_success(self) -> bool:
        """Whether the status is 2xx."""
        return 200 <= self.status < 300

    @property
    def text(self) -> str:
        """The content as text."""
        return self.content.decode(errors="replace")

    def json(self) -> Any:
        """Returns the content as JSON.

        Raises:
            ValueError: if it is not JSON.
        """
        return from_json(self.content)

    def error(self) -> dict[str, Any]:
        """Returns the JSON of an error of Restate, with its `message` and `source`; {} for anything else."""
        if self.is_success:
            return {}
        try:
            error = self.json()
        except ValueError:
            return {}
        return error if isinstance(error, dict) else {}

    def error_from(self, source: str) -> str | None:
        """Returns the message of an error from `source`: "ingress" for Restate itself, "invocation" for a handler."""
        error = self.error()
        return str(error.get("message", "")) if error.get("source") == source else None


class RestateHttp:
    """HTTP requests to one API of a Restate. It can be used from several event loops.

    Args:
        url: the address, or several separated by commas. If one does not answer, the next one is tried.
        headers: sent with every request.
        diagnose: returns why Restate may not have answered in time, as the end of a sentence.
        seconds: how long to wait for an answer.
        attempts: how often `send` tries.
    """

    def __init__(
        self,
        url: str,
        headers: Mapping[str, str] | None = None,
        *,
        diagnose: Callable[[], Awaitable[str]] | None = None,
        seconds: float = SECONDS,
        attempts: int = ATTEMPTS,
    ) -> None:
        self.addresses = Addresses(url)
        self._headers = dict(headers or {})
        self._diagnose = diagnose
        self._seconds = seconds
        self._attempts = attempts
        self._sessions: dict[asyncio.AbstractEventLoop, _Session] = {}

    async def send(
        self, method: str, path: str, content: bytes | None = None, headers: Mapping[str, str] | None = None
    ) -> Answer:
        """Sends a request that is safe to repeat, as part of the current trace. Tries again if there is no answer.

        Raises:
            NoAnswerError: if no attempt was answered.
        """
        headers = dict(headers or {})
        propagate.inject(headers)
        for attempt in range(self._attempts):
            try:
                return await self.attempt(method, path, content, headers, self._seconds)
            except UnansweredError as error:
                # A Restate, or an endpoint, that has not answered for so long would not answer the next attempt either.
                if error.timed_out:
                    why = "" if self._diagnose is None else await self._diagnose()
                    raise NoAnswerError(
                        f"Restate at {self.addresses} accepted {method} {path} and did not answer within "
                        f"{self._seconds:g} s{why}.",
                        timed_out=True,
                    ) from error
                if attempt == self._attempts - 1:
                    raise NoAnswerError(
                        f"No answer from Restate at {self.addresses} ({error}). Is restate-server running, and the "
                        "endpoint? ADK_CHAT_INGRESS_URL and ADK_CHAT_ADMIN_URL say where Restate is."
                    ) from error
                await asyncio.sleep(0.1 * 2**attempt)
        raise AssertionError

    async def attempt(
        self, method: str, path: str, content: bytes | None, headers: dict[str, str], seconds: float
    ) -> Answer:
        """Sends one request to the preferred address. If it is not answered, another address is preferred next.

        Raises:
            UnansweredError: if there is no answer within `seconds`, or Restate answers that it is not ready.
        """
        url = next(iter(self.addresses))
        try:
            answer = await self.request(method, url + path, content, headers, seconds)
            if _is_not_ready(answer):
                raise UnansweredError(ConnectionError(answer.text[:200]), timed_out=False)
        except UnansweredError:
            self.addresses.failed(url)
            raise
        return answer

    async def request(
        self, method: str, url: str, content: bytes | None, headers: dict[str, str], seconds: float
    ) -> Answer:
        """Sends one request to a URL.

        Raises:
            UnansweredError: if there is no answer within `seconds`.
        """
        client = await self._client()
        timeout = aiohttp.ClientTimeout(total=None, connect=CONNECT_SECONDS, sock_read=seconds)
        request: Any = client.request(method, url, data=content, headers=headers, timeout=timeout)
        try:
            async with request as answer:
                return Answer(answer.status, await answer.read(), _kept_of(answer.headers))
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            raise UnansweredError(error, timed_out=isinstance(error, aiohttp.SocketTimeoutError)) from error

    async def close(self) -> None:
        """Closes the connections of the running event loop. A later request opens new ones."""
        session = self._sessions.pop(asyncio.get_running_loop(), None)
        if session is not None:
            await session.open.aclose()

    async def _client(self) -> aiohttp.ClientSession:
        loop = asyncio.get_running_loop()
        session = self._sessions.get(loop)
        if session is None:
            for closed in [other for other in [*self._sessions] if other.is_closed()]:
                self._sessions.pop(closed, None)  # a session holds its loop, so neither would ever be freed
            opened = _open(self._headers)
            session = self._sessions[loop] = _Session(await anext(opened), opened)
        return session.client


@dataclass(frozen=True)
class _Session:
    client: aiohttp.ClientSession
    open: AsyncGenerator[aiohttp.ClientSession, None]


async def _open(headers: dict[str, str]) -> AsyncGenerator[aiohttp.ClientSession, None]:
    # A generator, because `asyncio.run` closes those that are left: programs need not close a session service.
    # Connections are unlimited: each watched turn keeps a request open until it ends.
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(connector=connector, headers=headers) as client:
        yield client


def _kept_of(headers: Mapping[str, str]) -> str | None:
    # The ingress sends `idempotency-expires` only with an answer that it repeats.
    return headers.get("x-restate-id") if "idempotency-expires" in headers else None


def _is_not_ready(answer: Answer) -> bool:
    """Returns whether an answer is the ingress's own and only says that it cannot do anything yet.

    An ingress that has just started does not know the handlers: 404, "service 'Chat' not found". A handler that a
    service does not have is a 404 with another message; there is no code to tell the two apart.
    """
    message = answer.error_from("ingress")
    if message is None:
        return False
    return answer.status >= _SERVER_ERROR or (answer.status == _NOT_FOUND and message.startswith("service '"))
