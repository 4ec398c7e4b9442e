"""How a process of ours ends, whatever of it does not."""

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
    """Ends the process where something of an agent's does not: a thread, or a task that does not heed cancellation.

    Nothing is lost by that: what was not done is begun again by Restate.
    """

    def __init__(self) -> None:
        self._timer: threading.Timer | None = None

    async def of(self, command: Coroutine[Any, Any, None]) -> None:
        """Run the command; what then is left has a moment to end."""
        try:
            await command
        finally:
            await asyncio.to_thread(telemetry.stop)
        # What it says while it is ended is of no use to anybody.
        asyncio.get_running_loop().set_exception_handler(lambda *_: None)
        warnings.simplefilter("ignore")
        self._timer = threading.Timer(_LEFT_SECONDS, os._exit, (0,))
        self._timer.daemon = True
        self._timer.start()

    def leave(self) -> None:
        """The event loop is closed: leave, without waiting for threads, nor for Python to take all of ADK apart."""
        if self._timer is not None:
            logging.shutdown()
            sys.stdout.flush()
            os._exit(0)
