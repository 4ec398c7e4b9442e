"""Restate's ingress: calls of handlers, and the results of Restate invocations."""

import asyncio
import uuid
from collections.abc import Awaitable, Callable, Mapping
from typing import Literal
from urllib.parse import quote

from adk_chat.restate_api.http import CONNECT_SECONDS, SECONDS, Answer, RestateHttp, UnansweredError

_JSON = {"content-type": "application/json", "accept": "application/json"}


class Ingress:
    """Calls handlers through the ingress of a Restate.

    Args:
        url: the ingress, or several separated by commas; if one does not answer, the next one is tried.
        headers: sent with every request.
        diagnose: returns why no answer may have come in time, as the end of a sentence.
    """

    def __init__(
        self,
        url: str,
        headers: Mapping[str, str] | None = None,
        diagnose: Callable[[], Awaitable[str]] | None = None,
    ) -> None:
        self._http = RestateHttp(url, headers, diagnose=diagnose or _hint)

    def __str__(self) -> str:
        return str(self._http.addresses)

    async def call(
        self, service: str, key: str, handler: str, body: bytes, idempotency_key: str | None = None
    ) -> Answer:
        """Calls a handler of a virtual object. A request that may have arrived is repeated with the same key.

        Raises:
            NoAnswerError: if there is no answer.
        """
        headers = {**_JSON, "idempotency-key": idempotency_key or str(uuid.uuid4())}
        return await self._http.send("POST", _path(service, key, handler), body, headers)

    async def call_once(self, service: str, key: str, handler: str, body: bytes) -> Answer:
        """Calls a handler with one attempt and without an idempotency key.

        Raises:
            UnansweredError: if there is no answer.
        """
        return await self._http.attempt("POST", _path(service, key, handler), body, dict(_JSON), SECONDS)

    async def result(self, invocation_id: str, *, seconds: float) -> Answer:
        """Waits for the result of a Restate invocation.

        Raises:
            UnansweredError: if it has not ended within `seconds`, or the ingress does not answer.
        """
        return await self._http.attempt("GET", _of(invocation_id, "attach"), None, {}, seconds)

    async def output(self, invocation_id: str) -> Answer:
        """Returns the result of a Restate invocation, or 470 if it has not ended, or 404 if there is none.

        Raises:
            NoAnswerError: if the ingress does not answer.
        """
        return await self._http.send("GET", _of(invocation_id, "output"))

    async def is_up(self) -> bool:
        """Returns whether any of the addresses answers that it is healthy, within two seconds."""

        async def is_healthy(url: str) -> bool:
            try:
                return (await self._http.request("GET", f"{url}/restate/health", None, {}, CONNECT_SECONDS)).is_success
            except UnansweredError:
                return False

        return any(await asyncio.gather(*map(is_healthy, self._http.addresses)))

    async def close(self) -> None:
        """Closes the connections of the running event loop. A later call opens new ones."""
        await self._http.close()


async def _hint() -> str:
    return "; check that the endpoint of the handlers answers"


def _path(service: str, key: str, handler: str) -> str:
    return f"/{service}/{quote(key, safe='')}/{handler}"


def _of(invocation_id: str, what: Literal["attach", "output"]) -> str:
    return f"/restate/invocation/{invocation_id}/{what}"
