"""Whether a process can do its work: what it needs, and what of that is there."""

import asyncio
import contextlib
import logging
import time
from collections.abc import Awaitable, Collection, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

import httpx
from starlette.responses import JSONResponse

from adk_chat.direct import direct_client
from adk_chat.gateway.invocations import WITHOUT_SLOT
from adk_chat.sessions.addresses import Addresses
from adk_chat.sessions.contract import CHAT
from adk_chat.streaming import Broker

logger = logging.getLogger(__name__)

_SECONDS = 2.0
_HANDLERS_SECONDS = 3.0
"""How long an answer of the handlers is good for, so that probes of many gateways cost next to nothing."""
_WATCH_SECONDS = 15.0
_OK = "ok"
_NO_REDIS = "Redis does not answer"
FULL = "Restate runs all the handlers that it may; others wait for a slot"
_NOT_REGISTERED = "not registered; adk-chat serve --register does that"
_USER = "adk_chat.ready"
"""Whose Chat is asked; nothing is stored for it."""


@dataclass(frozen=True)
class Check:
    """What became of looking at one thing.

    Args:
        said: "ok", or what is wrong.
        needed: whether nothing goes on without it; otherwise the process does its work, but not all of it.
    """

    said: str = _OK
    needed: bool = True


class Readiness:
    """Looks at what a gateway or an endpoint needs. An answer takes two seconds at most.

    Args:
        ingress_url: Restate's ingress, if this process uses it; several, separated by commas, where any will do.
        admin_url: Restate's admin API, if it is known here.
        headers: sent to either.
        broker: what live streams go through.
        apps: those that are shown here, which the handlers should serve.
    """

    def __init__(
        self,
        ingress_url: str | None = None,
        admin_url: str | None = None,
        headers: Mapping[str, str] | None = None,
        broker: Broker | None = None,
        apps: Collection[str] = (),
    ) -> None:
        self._addresses = Addresses(ingress_url) if ingress_url is not None else None
        self._admin_url = admin_url
        self._headers = headers
        self._broker = broker
        self._apps = apps
        self._http: httpx.AsyncClient | None = None
        self._asking: asyncio.Task[Check] | None = None
        self._asked_at = -_HANDLERS_SECONDS

    async def answer(self, *, draining: bool = False) -> JSONResponse:
        """What was looked at, and its `status` in one word.

        `ok` and `degraded` are 200: turns go on, and where it is degraded something that they can do without does not.
        `unavailable` is 503: nothing can be served here, or nothing new since the process drains.
        """
        if draining:
            return JSONResponse({"status": "unavailable", "draining": "yes"}, 503)
        checks = await self._check()
        missing = [check for check in checks.values() if check.said != _OK]
        unavailable = any(check.needed for check in missing)
        status = "unavailable" if unavailable else "degraded" if missing else _OK
        said = {name: check.said for name, check in checks.items()}
        return JSONResponse({"status": status, **said}, 503 if unavailable else 200)

    async def handlers(self) -> Check:
        """Whether the handlers answer, asked anew where the last answer is older than three seconds.

        A question that has not been answered yet is not asked again.
        """
        over = self._asking is None or self._asking.done()
        if over and time.monotonic() - self._asked_at >= _HANDLERS_SECONDS:
            self._asking = asyncio.create_task(self._ask_handlers())
            self._asked_at = time.monotonic()
        assert self._asking is not None
        done, _ = await asyncio.wait([self._asking], timeout=_SECONDS)
        return self._asking.result() if done else await self._unanswered()

    async def watch(self) -> None:
        """Say in the log when the handlers do not answer, or serve other apps than are shown here.

        Looks every 15 s, until it is cancelled.
        """
        before = _OK
        while True:
            said = (await self.handlers()).said
            if said not in (before, FULL):  # of which `watch_slots` speaks
                logger.warning("The handlers are there again." if said == _OK else f"The handlers: {said}.")
                before = said
            await asyncio.sleep(_WATCH_SECONDS)

    async def close(self) -> None:
        """Close the connections."""
        if self._asking is not None:
            self._asking.cancel()
        if self._http is not None:
            await self._http.aclose()
            self._http = None

    async def _check(self) -> dict[str, Check]:
        checks: dict[str, Awaitable[Check]] = {}
        if self._addresses is not None:
            checks["restate"] = self._ingress(self._addresses)
            checks["handlers"] = self.handlers()
        elif self._admin_url is not None:
            checks["registered"] = self._registered()
        if self._broker is not None:
            checks["streams"] = self._streams(self._broker)
        return dict(zip(checks, await asyncio.gather(*checks.values()), strict=True))

    async def _ingress(self, addresses: Addresses) -> Check:
        answers = await asyncio.gather(*(self._get(f"{url}/restate/health") for url in addresses))
        if any(answer is not None and answer.is_success for answer in answers):
            return Check()
        answered = next((answer for answer in answers if answer is not None), None)
        return Check(f"Restate's ingress {_how(answered)}")

    async def _registered(self) -> Check:
        """Of an endpoint, which can do its work wherever it is registered, and is to answer before it is."""
        answer = await self._get(f"{self._admin_url}/services/{CHAT}")
        if answer is not None and answer.status_code == httpx.codes.NOT_FOUND:
            return Check(_NOT_REGISTERED, needed=False)
        if answer is None or not answer.is_success:
            return Check(f"Restate's admin API {_how(answer)}", needed=False)
        return Check()

    async def _streams(self, broker: Broker) -> Check:
        try:
            async with asyncio.timeout(_SECONDS):
                return Check(_OK if await broker.is_there() else _NO_REDIS, needed=False)
        except TimeoutError:
            return Check(_NO_REDIS, needed=False)

    async def _ask_handlers(self) -> Check:
        """Ask one that reads nothing, and is not begun again where it fails."""
        assert self._addresses is not None
        url = next(iter(self._addresses))
        try:
            answer = await self._client().post(f"{url}/{CHAT}/{quote(_USER)}/list_apps", json={}, timeout=10 * _SECONDS)
        except httpx.HTTPError:
            self._addresses.failed(url)
            return Check("Restate's ingress does not answer")
        said = answer.text
        if answer.status_code == httpx.codes.NOT_FOUND:
            # Those of an earlier version have no such handler.
            return Check() if f"{CHAT}/list_apps" in said or "handler" in said else Check(_NOT_REGISTERED)
        if not answer.is_success:
            logger.debug("The handlers answer HTTP %d: %s", answer.status_code, said)
            return Check(f"{await self._endpoint()} does not answer")
        with contextlib.suppress(ValueError, KeyError, TypeError):
            return self._serves(answer.json())
        return Check(f"{await self._endpoint()} answers something else")

    def _serves(self, answer: Any) -> Check:
        served = {*answer["apps"], *answer["aliases"]}
        absent = sorted({*self._apps} - served)
        if not absent:
            return Check()
        return Check(f"serve {', '.join(sorted(served))}, and not {', '.join(absent)}, shown here", needed=False)

    async def _unanswered(self) -> Check:
        """Nobody has answered in time: the endpoint, or Restate, since it has no slot for the handler."""
        answer = None
        if self._admin_url is not None:
            query = f"SELECT count(*) AS waiting FROM sys_invocation WHERE {WITHOUT_SLOT}"
            with contextlib.suppress(httpx.HTTPError, ValueError, LookupError):
                answer = await self._client().post(f"{self._admin_url}/query", json={"query": query})
                if answer.json()["rows"][0]["waiting"]:
                    return Check(FULL, needed=False)
        return Check(f"{await self._endpoint()} does not answer")

    async def _endpoint(self) -> str:
        """What Restate calls when it calls Chat, in words."""
        with contextlib.suppress(httpx.HTTPError, ValueError, LookupError, TypeError):
            if self._admin_url is not None:
                chat = await self._client().get(f"{self._admin_url}/services/{CHAT}")
                deployment = await self._client().get(f"{self._admin_url}/deployments/{chat.json()['deployment_id']}")
                return f"the endpoint at {deployment.json()['uri'].rstrip('/')}"
        return "the endpoint of the handlers"

    async def _get(self, url: str) -> httpx.Response | None:
        try:
            return await self._client().get(url)
        except httpx.HTTPError as error:
            logger.debug("No answer from %s: %r", url, error)
            return None

    def _client(self) -> httpx.AsyncClient:
        if self._http is None:  # made once: that takes longer than asking
            headers = {**(self._headers or {}), "accept": "application/json"}
            self._http = direct_client(headers=headers, timeout=_SECONDS)
        return self._http


def _how(answer: httpx.Response | None) -> str:
    return "does not answer" if answer is None else f"answers HTTP {answer.status_code}"
