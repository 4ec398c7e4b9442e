"""How the gateway reaches Restate: with a client that takes a fifth of the processor that httpx does."""

from collections.abc import Mapping
from typing import Any

import aiohttp
from typing_extensions import override

from adk_chat.readiness import Readiness
from adk_chat.sessions.transport import CONNECT_SECONDS, Answer, IngressTransport, UnansweredError, kept_of


class GatewayTransport(IngressTransport):
    """As `IngressTransport`, for one event loop; it has to be closed.

    Args:
        url: see there.
        headers: see there.
        readiness: what knows whether the handlers answer, if it is they who are asked.
    """

    def __init__(self, url: str, headers: Mapping[str, str] | None = None, readiness: Readiness | None = None) -> None:
        super().__init__(url, headers)
        self._readiness = readiness
        self._session: aiohttp.ClientSession | None = None

    @override
    async def why_not_in_time(self) -> str:
        return "" if self._readiness is None else f". Its handlers: {(await self._readiness.handlers()).said}"

    @override
    async def request(
        self, method: str, url: str, content: bytes | None, headers: dict[str, str], seconds: float
    ) -> Answer:
        if self._session is None:
            # Every turn that is watched holds a request open until it ends.
            self._session = aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0), headers=self._headers)
        timeout = aiohttp.ClientTimeout(total=None, connect=CONNECT_SECONDS, sock_read=seconds)
        request: Any = self._session.request(method, url, data=content, headers=headers, timeout=timeout)
        try:
            async with request as answer:
                return Answer(answer.status, await answer.read(), kept_of(answer.headers))
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            raise UnansweredError(error, timed_out=isinstance(error, aiohttp.SocketTimeoutError)) from error

    @override
    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()
            self._session = None
