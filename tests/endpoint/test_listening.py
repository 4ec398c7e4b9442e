"""Where a process listens, and what ends it."""

import contextlib
import signal
import socket
import subprocess
import sys

import pytest

from adk_chat.endpoint import listen

CROWD = 1000
"""More connections than the default backlogs: 100 of hypercorn, 128 of Python."""


def test_a_crowd_may_wait_to_be_accepted() -> None:
    with contextlib.ExitStack() as stack:
        address = stack.enter_context(listen("127.0.0.1", 0)).getsockname()
        for _ in range(CROWD):  # one too many would be retried after a second
            stack.enter_context(socket.create_connection(address, timeout=0.5))


DEAF = """
import asyncio
from adk_chat.endpoint import listening, stop_event

async def main():
    stop = stop_event()
    print("ready", flush=True)
    await stop.wait()
    print("told", flush=True)
    await asyncio.Event().wait()

listening._ONE_STOP_SECONDS = 0.3
asyncio.run(main())
"""


@pytest.mark.parametrize(("again", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_what_does_not_end_is_ended_by_a_second_signal(again: signal.Signals, code: int) -> None:
    with subprocess.Popen([sys.executable, "-c", DEAF], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            assert process.stdout.readline() == "ready\n"
            process.terminate()
            assert process.stdout.readline() == "told\n"
            process.terminate()  # as its starter may send it at the same time
            with pytest.raises(subprocess.TimeoutExpired):
                process.wait(0.5)
            process.send_signal(again)
            assert process.wait(10) == code
        finally:
            process.kill()
