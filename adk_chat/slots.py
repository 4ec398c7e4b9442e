"""The engine's slots: it runs a bounded number of handlers at once, and says nothing when they are all taken."""

import asyncio
import logging
import time
from collections.abc import Mapping
from math import inf

import httpx

from adk_chat.direct import direct_client
from adk_chat.gateway.invocations import WITHOUT_SLOT

logger = logging.getLogger(__name__)

LOOK_SECONDS = 15.0
_SAY_SECONDS = 60.0
_QUERY_SECONDS = 5.0
# Handlers wait for a slot, and not only turns.
_WAITING = f"SELECT count(*) AS waiting FROM sys_invocation WHERE {WITHOUT_SLOT}"


async def watch_slots(admin_url: str, headers: Mapping[str, str]) -> None:
    """Say in the log, once a minute at most, that handlers wait because the engine runs all that it may.

    Runs until it is cancelled, and asks Restate's admin API every 15 s.
    """
    said = -inf
    headers = {**headers, "accept": "application/json"}
    async with direct_client(headers=headers, timeout=_QUERY_SECONDS) as client:
        while True:
            try:
                answer = await client.post(f"{admin_url}/query", json={"query": _WAITING})
                waiting = int(answer.json()["rows"][0]["waiting"])
            except (httpx.HTTPError, ValueError, LookupError):
                waiting = 0  # whether Restate is there is for others to say
            if waiting and time.monotonic() >= said + _SAY_SECONDS:
                said = time.monotonic()
                logger.warning(
                    "Restate runs all the handlers that it may, and %d wait for a slot. It may run more: "
                    "worker.invoker.concurrent-invocations-limit in its configuration, 1000 by default.",
                    waiting,
                )
            await asyncio.sleep(LOOK_SECONDS)
