"""Whether a process can do its work: what it needs, and what of that is there."""

import asyncio
import logging
from collections.abc import Awaitable, Mapping

import httpx
from starlette.responses import JSONResponse

from adk_chat.direct import direct_client
from adk_chat.sessions.addresses import Addresses
from adk_chat.sessions.contract import CHAT
from adk_chat.streaming import Broker

logger = logging.getLogger(__name__)

_SECONDS = 2.0
_OK = "ok"


class Readiness:
    """Looks at what a gateway or an endpoint needs. An answer takes two seconds at most.

    Args:
        ingress_url: Restate's ingress, if this process uses it; several, separated by commas, where any will do.
        admin_url: Restate's admin API, if it is known here.
        headers: sent to either.
        broker: what live streams go through.
    """

    def __init__(
        self,
        ingress_url: str | None = None,
        admin_url: str | None = None,
        headers: Mapping[str, str] | None = None,
        broker: Broker | None = None,
    ) -> None:
        self._ingress_url = ingress_url
        self._admin_url = admin_url
        self._headers = headers
        self._broker = broker
        self._http: httpx.AsyncClient | None = None

    async def answer(self, *, draining: bool = False) -> JSONResponse:
        """200, or 503 where something is missing, or new work is not taken any more; and what was looked at."""
        checks = {"draining": "yes"} if draining else await self._check()
        return JSONResponse(checks, 200 if set(checks.values()) <= {_OK} else 503)

    async def _check(self) -> dict[str, str]:
        """Each thing that is needed, with "ok" or what is wrong with it."""
        if self._http is None:  # made once: that takes longer than asking
            self._http = direct_client(headers=self._headers, timeout=_SECONDS)
        checks: dict[str, Awaitable[str]] = {}
        if self._ingress_url is not None:
            checks["restate"] = self._ingress_is_there(self._http, Addresses(self._ingress_url))
        if self._admin_url is not None:
            checks["handlers"] = _asked(self._http, f"{self._admin_url}/services/{CHAT}", "Restate's admin API")
        if self._broker is not None:
            checks["streams"] = self._broker_is_there(self._broker)
        return dict(zip(checks, await asyncio.gather(*checks.values()), strict=True))

    async def close(self) -> None:
        """Close the connections."""
        if self._http is not None:
            await self._http.aclose()
            self._http = None

    async def _ingress_is_there(self, http: httpx.AsyncClient, addresses: Addresses) -> str:
        asked = (_asked(http, f"{url}/restate/health", "Restate's ingress") for url in addresses)
        said = await asyncio.gather(*asked)
        return _OK if _OK in said else said[0]

    async def _broker_is_there(self, broker: Broker) -> str:
        try:
            async with asyncio.timeout(_SECONDS):
                return _OK if await broker.is_there() else "Redis does not answer"
        except TimeoutError:
            return "Redis does not answer"


async def _asked(client: httpx.AsyncClient, url: str, what: str) -> str:
    try:
        answer = await client.get(url)
    except httpx.HTTPError as error:
        logger.warning("Not ready: no answer from %s at %s: %r", what, url, error)
        return f"{what} does not answer"
    if answer.status_code == httpx.codes.NOT_FOUND:
        return "not registered; adk-chat serve --register does that"
    return _OK if answer.is_success else f"{what} answers HTTP {answer.status_code}"
