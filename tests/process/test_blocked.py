"""Code that blocks the event loop."""

import asyncio
import logging
import time

import pytest

from adk_chat.process import blocked
from adk_chat.process.blocked import BlockedWatch
from tests.support import until


async def test_what_blocks_everybody_is_said_with_its_line(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(blocked, "LONG_SECONDS", 0.2)
    monkeypatch.setattr(blocked, "_LOOK_SECONDS", 0.05)
    caplog.set_level(logging.WARNING, "adk_chat.process.blocked")
    watch = BlockedWatch()
    watch.start()
    await asyncio.sleep(0.3)  # which waits, and blocks nobody
    assert not caplog.records

    def callback() -> None:
        time.sleep(0.5)

    callback()

    async def over() -> bool:
        return len(caplog.records) == 2

    await until(over)
    watch.stop()
    said, goes_on = (record.getMessage() for record in caplog.records)
    assert said.startswith("The event loop has been blocked for more than 0.2 s, and with it all turns of this process")
    assert said.endswith("in callback\n    time.sleep(0.5)")
    assert goes_on.startswith("The event loop continues after 0.")
