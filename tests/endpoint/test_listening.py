"""Where a process listens."""

import contextlib
import socket

from adk_chat.endpoint import listen

CROWD = 1000
"""More connections than wait by default: 100 of hypercorn's, 128 of Python's."""


def test_a_crowd_may_wait_to_be_accepted() -> None:
    with contextlib.ExitStack() as stack:
        address = stack.enter_context(listen("127.0.0.1", 0)).getsockname()
        for _ in range(CROWD):  # one too many would be tried again after a second
            stack.enter_context(socket.create_connection(address, timeout=0.5))
