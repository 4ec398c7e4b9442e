"""Whether a process can do its work: what it needs, and what of that is missing."""

import asyncio
import contextlib
import logging
import time
from collections.abc import Awaitable, Collection, Mapping
from dataclasses import dataclass
from typing import Any

from opentelemetry import metrics
from starlette.responses import JSONResponse

from adk_chat.protocol.errors import NoAnswerError
from adk_chat.protocol.sessions import CHAT
from adk_chat.restate_api import AdminApi, AdminError, Ingress, UnansweredError
from adk_chat.restate_api.invocations import WITHOUT_SLOT
from adk_chat.streaming import Broker

logger = logging.getLogger(__name__)

_answering = metrics.get_meter("adk_chat").create_gauge(
    "adk_chat.handlers.answering", description="1 if the handlers answer the gateway, 0 if they do not."
)

_SECONDS = 1.0
"""How long to wait for each part."""
_HANDLERS_SECONDS = 3.0
"""How long an answer of the handlers is cached, so that probes of many gateways cost next to nothing."""
_GONE_SECONDS = 5.0
"""Handlers that have not answered for so long are gone, not busy."""
_WATCH_SECONDS = 15.0
_OK = "ok"
_NO_REDIS = "Redis does not answer"
_NO_ADMIN = "Restate's admin API does not answer"
FULL = "Restate runs as many handlers as its limit allows; others wait for a slot"
_BUSY = "no answer yet; Restate's admin API gives no reason"
_NOT_REGISTERED = "not registered; adk-chat serve --register registers them"
_NO_INGRESS = "Restate's ingress does not answer"
_NOT_FOUND = 404
_NOBODY, _HANDLER = "adk_chat.ready", "list_apps"
"""A user that does not exist, so that nothing is stored, and a handler that reads nothing."""


@dataclass(frozen=True)
class Check:
    """The state of one part.

    Args:
        said: "ok", or what is wrong.
        needed: whether nothing works without it. If False, the process does part of its work.
    """

    said: str = _OK
    needed: bool = True


class Readiness:
    """Checks what a gateway or an endpoint needs. A check takes two seconds at most.

    Args:
        ingress_url: Restate's ingress, or several separated by commas, if this process uses it.
        admin_url: Restate's admin API, if it is known here.
        headers: sent to either.
        broker: the broker of live streams.
        apps: the apps that this process shows, which the handlers should serve.
    """

    def __init__(
        self,
        ingress_url: str | None = None,
        admin_url: str | None = None,
        headers: Mapping[str, str] | None = None,
        broker: Broker | None = None,
        apps: Collection[str] = (),
    ) -> None:
        self._ingress = Ingress(ingress_url, headers) if ingress_url is not None else None
        self._admin = AdminApi(admin_url, headers, seconds=_SECONDS, attempts=1) if admin_url is not None else None
        self._broker = broker
        self._apps = apps
        self._asking: asyncio.Task[Check] | None = None
        self._asked_at = -_HANDLERS_SECONDS
        self._answered = Check()
        """The last answer of the handlers."""

    async def answer(self, *, draining: bool = False) -> JSONResponse:
        """Returns the state of each part, and of the whole as `status`.

        `ok` and `degraded` are 200: turns run, but if it is degraded something else does not work. `unavailable` is
        503: nothing can be served here, or nothing new because the process drains.
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
        """Returns whether the handlers answer. The answer is cached for three seconds.

        At most one question is open at a time. Until it is answered the last answer counts, for five seconds.
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

    async def diagnosis(self) -> str:
        """Returns why Restate may not have answered in time, as the end of a sentence."""
        return f". Its handlers: {(await self.handlers()).said}"

    async def watch(self) -> None:
        """Logs when the handlers do not answer, or do not serve the apps that this process shows.

        It checks every 15 s and runs until it is cancelled.
        """
        before = _OK
        while True:
            check = await self.handlers()
            said = check.said
            _answering.set(int(said == _OK or not check.needed))
            if said not in (before, FULL):  # `watch_slots` reports that one
                logger.warning("The handlers answer again." if said == _OK else f"The handlers: {said}.")
                before = said
            await asyncio.sleep(_WATCH_SECONDS)

    async def close(self) -> None:
        """Closes the connections."""
        if self._asking is not None:
            self._asking.cancel()
        if self._ingress is not None:
            await self._ingress.close()
        if self._admin is not None:
            await self._admin.close()

    async def _check(self) -> dict[str, Check]:
        checks: dict[str, Awaitable[Check]] = {}
        if self._ingress is not None:
            checks["restate"] = self._restate(self._ingress)
            checks["handlers"] = self.handlers()
        elif self._admin is not None:
            checks["registered"] = self._registered(self._admin)
        if self._broker is not None:
            checks["streams"] = self._streams(self._broker)
        return dict(zip(checks, await asyncio.gather(*checks.values()), strict=True))

    async def _restate(self, ingress: Ingress) -> Check:
        return Check(_OK if await ingress.is_up() else _NO_INGRESS)

    async def _registered(self, admin: AdminApi) -> Check:
        """Checks the registration of an endpoint, which has to be ready before it is registered."""
        try:
            registered = await admin.endpoint_of(CHAT) is not None
        except (NoAnswerError, AdminError):
            return Check(_NO_ADMIN, needed=False)
        return Check() if registered else Check(_NOT_REGISTERED, needed=False)

    async def _streams(self, broker: Broker) -> Check:
        try:
            async with asyncio.timeout(2 * _SECONDS):
                return Check(_OK if await broker.is_up() else _NO_REDIS, needed=False)
        except TimeoutError:
            return Check(_NO_REDIS, needed=False)

    async def _ask(self) -> Check:
        self._answered = await self._ask_handlers()
        return self._answered

    async def _ask_handlers(self) -> Check:
        """Calls a handler that reads nothing and is not retried."""
        assert self._ingress is not None
        try:
            answer = await self._ingress.call_once(CHAT, _NOBODY, _HANDLER, b"{}")
        except UnansweredError as error:
            if error.timed_out:
                return await self._unanswered()
            # The ingress only says that it is not ready; the admin API knows whether Chat is registered.
            registered = Check() if self._admin is None else await self._registered(self._admin)
            return Check(_NOT_REGISTERED if registered.said == _NOT_REGISTERED else _NO_INGRESS)
        if answer.status == _NOT_FOUND and answer.error_from("ingress") is not None:
            return Check()  # handlers of version 0.1 before 2026-11-28 do not have this one
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
        return Check(f"serve {', '.join(sorted(served))}, but not {', '.join(absent)}", needed=False)

    async def _unanswered(self) -> Check:
        """Says who has not answered: the endpoint, or Restate because it has no slot for the handler."""
        if self._admin is not None:
            with contextlib.suppress(NoAnswerError, AdminError):
                if await self._admin.count(f"sys_invocation WHERE {WITHOUT_SLOT}"):
                    return Check(FULL, needed=False)
        return Check(f"{await self._endpoint()} does not answer")

    async def _endpoint(self) -> str:
        """Names the endpoint of Chat."""
        if self._admin is not None:
            with contextlib.suppress(NoAnswerError, AdminError, ValueError, KeyError):
                if (url := await self._admin.endpoint_of(CHAT)) is not None:
                    return f"the endpoint at {url}"
        return "the endpoint of the handlers"
