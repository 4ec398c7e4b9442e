"""Whether a process can do its work: what it needs, and what of that is there."""

import asyncio
import contextlib
import logging
import time
from collections.abc import Awaitable, Collection, Mapping
from dataclasses import dataclass
from typing import Any

from pydantic_core import to_json
from starlette.responses import JSONResponse

from adk_chat.gateway.invocations import WITHOUT_SLOT
from adk_chat.sessions.contract import CHAT
from adk_chat.sessions.transport import SECONDS, Answer, IngressTransport, UnansweredError
from adk_chat.streaming import Broker

logger = logging.getLogger(__name__)

_SECONDS = 1.0
"""How long one thing is waited for."""
_HANDLERS_SECONDS = 3.0
"""How long an answer of the handlers is good for, so that probes of many gateways cost next to nothing."""
_GONE_SECONDS = 5.0
"""After so long handlers that have not answered are gone, and not just busy."""
_WATCH_SECONDS = 15.0
_OK = "ok"
_NO_REDIS = "Redis does not answer"
FULL = "Restate runs all the handlers that it may; others wait for a slot"
_BUSY = "no answer yet; Restate's admin API does not say why"
_NOT_REGISTERED = "not registered; adk-chat serve --register does that"
_NO_INGRESS = "Restate's ingress does not answer"
_NOT_FOUND = 404
_ASK = f"/{CHAT}/adk_chat.ready/list_apps"
"""Asks Chat of a user that there is not; nothing is stored for that."""
_JSON = {"content-type": "application/json", "accept": "application/json"}


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
        self._ingress = IngressTransport(ingress_url, headers) if ingress_url is not None else None
        self._admin = IngressTransport(admin_url, headers) if admin_url is not None else None
        self._broker = broker
        self._apps = apps
        self._asking: asyncio.Task[Check] | None = None
        self._asked_at = -_HANDLERS_SECONDS
        self._answered = Check()
        """What the handlers answered last."""

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
        """Whether the handlers answer, asked anew where they were last asked more than three seconds ago.

        A question that has not been answered is not asked again. Until it is, the last answer holds, for five seconds.
        """
        over = self._asking is None or self._asking.done()
        if over and time.monotonic() - self._asked_at >= _HANDLERS_SECONDS:
            self._asking = asyncio.create_task(self._ask())
            self._asked_at = time.monotonic()
        assert self._asking is not None
        done, _ = await asyncio.wait([self._asking], timeout=_SECONDS)
        if done:
            return self._asking.result()
        if time.monotonic() - self._asked_at < _GONE_SECONDS:
            return self._answered
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_SECONDS):
                return await self._unanswered()
        return Check(_BUSY, needed=False)

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
        for transport in (self._ingress, self._admin):
            if transport is not None:
                await transport.close()

    async def _check(self) -> dict[str, Check]:
        checks: dict[str, Awaitable[Check]] = {}
        if self._ingress is not None:
            checks["restate"] = self._restate(self._ingress)
            checks["handlers"] = self.handlers()
        elif self._admin is not None:
            checks["registered"] = self._registered()
        if self._broker is not None:
            checks["streams"] = self._streams(self._broker)
        return dict(zip(checks, await asyncio.gather(*checks.values()), strict=True))

    async def _restate(self, ingress: IngressTransport) -> Check:
        return Check(_OK if await ingress.is_there() else _NO_INGRESS)

    async def _registered(self) -> Check:
        """Of an endpoint, which can do its work wherever it is registered, and is to answer before it is."""
        answer = await self._ask_admin("GET", f"/services/{CHAT}")
        if answer is not None and answer.status == _NOT_FOUND:
            return Check(_NOT_REGISTERED, needed=False)
        if answer is None or not answer.is_success:
            return Check("Restate's admin API does not answer", needed=False)
        return Check()

    async def _streams(self, broker: Broker) -> Check:
        try:
            async with asyncio.timeout(2 * _SECONDS):
                return Check(_OK if await broker.is_there() else _NO_REDIS, needed=False)
        except TimeoutError:
            return Check(_NO_REDIS, needed=False)

    async def _ask(self) -> Check:
        self._answered = await self._ask_handlers()
        return self._answered

    async def _ask_handlers(self) -> Check:
        """Ask one that reads nothing, and is not begun again where it fails."""
        assert self._ingress is not None
        try:
            answer = await self._ingress.attempt("POST", _ASK, b"{}", dict(_JSON), SECONDS)
        except UnansweredError as error:
            if error.timed_out:
                return await self._unanswered()
            registered = await self._registered()  # of which the ingress says no more than that it is not ready
            return Check(_NOT_REGISTERED if registered.said == _NOT_REGISTERED else _NO_INGRESS)
        if answer.status == _NOT_FOUND and answer.said_by("ingress") is not None:
            return Check()  # those of an earlier version have no such handler
        if answer.is_success:
            with contextlib.suppress(ValueError, KeyError, TypeError):
                return self._serves(answer.json())
        logger.debug("The handlers answer HTTP %d: %s", answer.status, answer.text)
        return Check(f"{await self._endpoint()} does not answer")

    def _serves(self, answer: Any) -> Check:
        served = {*answer["apps"], *answer["aliases"]}
        absent = sorted({*self._apps} - served)
        if not absent:
            return Check()
        return Check(f"serve {', '.join(sorted(served))}, and not {', '.join(absent)}, shown here", needed=False)

    async def _unanswered(self) -> Check:
        """Nobody has answered for long: the endpoint, or Restate, since it has no slot for the handler."""
        query = {"query": f"SELECT count(*) AS waiting FROM sys_invocation WHERE {WITHOUT_SLOT}"}
        answer = await self._ask_admin("POST", "/query", query)
        with contextlib.suppress(ValueError, LookupError, TypeError):
            if answer is not None and answer.json()["rows"][0]["waiting"]:
                return Check(FULL, needed=False)
        return Check(f"{await self._endpoint()} does not answer")

    async def _endpoint(self) -> str:
        """What Restate calls when it calls Chat, in words."""
        chat = await self._ask_admin("GET", f"/services/{CHAT}")
        with contextlib.suppress(ValueError, LookupError, TypeError):
            if chat is not None:
                deployment = await self._ask_admin("GET", f"/deployments/{chat.json()['deployment_id']}")
                if deployment is not None:
                    return f"the endpoint at {deployment.json()['uri'].rstrip('/')}"
        return "the endpoint of the handlers"

    async def _ask_admin(self, method: str, path: str, body: Any = None) -> Answer | None:
        if self._admin is None:
            return None
        try:
            return await self._admin.attempt(
                method, path, None if body is None else to_json(body), dict(_JSON), _SECONDS
            )
        except UnansweredError:
            return None
