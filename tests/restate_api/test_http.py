"""HTTP requests to a Restate, from more than one event loop."""

import asyncio
import gc
import weakref
from concurrent.futures import ThreadPoolExecutor

from adk_chat.restate_api import AdminApi


def test_loops_that_were_closed_are_freed() -> None:
    admin = AdminApi("http://127.0.0.1:9", attempts=1)
    loops = []

    async def ask() -> None:
        loops.append(weakref.ref(asyncio.get_running_loop()))
        assert not await admin.is_up()

    with ThreadPoolExecutor(1) as thread:  # as an exporter of metrics asks, and ADK's `Runner.run`
        for _ in range(4):
            thread.submit(asyncio.run, ask()).result()
    gc.collect()
    assert sum(loop() is not None for loop in loops) <= 1
