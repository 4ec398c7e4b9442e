"""Restate's slots: it runs a bounded number of handlers at once, and does not say when all slots are taken."""

import asyncio
import logging
import time
from collections.abc import Mapping
from math import inf

from adk_chat.protocol.errors import NoAnswerError
from adk_chat.restate_api import AdminApi, AdminError
from adk_chat.restate_api.invocations import WITHOUT_SLOT

logger = logging.getLogger(__name__)

LOOK_SECONDS = 15.0
_SAY_SECONDS = 60.0
_QUERY_SECONDS = 5.0


async def watch_slots(admin_url: str, headers: Mapping[str, str]) -> None:
    """Logs, once a minute at most, that handlers wait because Restate runs as many as it may.

    It asks the admin API every 15 s, and runs until it is cancelled.
    """
    said = -inf
    admin = AdminApi(admin_url, headers, seconds=_QUERY_SECONDS, attempts=1)
    try:
        while True:
            try:
                # Handlers of any kind wait for a slot, not only turns.
                waiting = await admin.count(f"sys_invocation WHERE {WITHOUT_SLOT}")
            except (NoAnswerError, AdminError):
                waiting = 0  # others report that Restate is unreachable
            if waiting and time.monotonic() >= said + _SAY_SECONDS:
                said = time.monotonic()
                logger.warning(
                    "Restate runs as many handlers as it may, and %d wait for a slot. To let it run more, raise "
                    "worker.invoker.concurrent-invocations-limit in its configuration, 1000 by default.",
                    waiting,
                )
            await asyncio.sleep(LOOK_SECONDS)
    finally:
        await admin.close()
