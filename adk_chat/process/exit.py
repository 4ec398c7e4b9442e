"""How one of our processes ends, even if a part of it does not."""

import asyncio
import logging
import os
import sys
import threading
import warnings
from collections.abc import Coroutine
from typing import Any

from adk_chat.process import telemetry

_LEFT_SECONDS = 0.2


class ProcessEnd:
    """Ends the process even if something of an agent does not: a thread, or a task that ignores cancellation.

    Nothing is lost: Restate runs unfinished work again.
    """

    def __init__(self) -> None:
        self._timer: threading.Timer | None = None

    async def of(self, command: Coroutine[Any, Any, None]) -> None:
        """Runs the command. What is left afterwards has a moment to end."""
        try:
            await command
        finally:
            await asyncio.to_thread(telemetry.stop)
        # What it says while it is being ended helps nobody.
        asyncio.get_running_loop().set_exception_handler(lambda *_: None)
        warnings.simplefilter("ignore")
        self._timer = threading.Timer(_LEFT_SECONDS, os._exit, (0,))
        self._timer.daemon = True
        self._timer.start()

    def leave(self) -> None:
        """Exits without waiting for threads, or for Python to take all of ADK apart. The loop is closed by now."""
        if self._timer is not None:
            logging.shutdown()
            sys.stdout.flush()
            os._exit(0)
