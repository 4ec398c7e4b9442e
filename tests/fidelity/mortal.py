"""An endpoint with the composed agents whose process can be killed any number of times: another takes over.

The slow part is done once. Each process is forked from here, and its id is printed.

    python -m tests.fidelity.mortal PORT ADMIN_URL
"""

import asyncio
import os
import signal
import sys

import uvloop

from adk_chat import ChatService
from adk_chat.endpoint import listen, serve
from adk_chat.settings import Settings
from tests.fidelity import run
from tests.fidelity.scenarios.composed import COMPOSED


def main() -> None:
    """Fork until one is not killed."""
    listening = listen("127.0.0.1", int(sys.argv[1]))
    run.current.set(run.Attempt(run.Run(), ""))
    settings = Settings(admin_url=sys.argv[2])
    service = ChatService(*(scenario.app for scenario in COMPOSED), settings=settings)
    asyncio.run(service.warm_up())
    while True:
        child = os.fork()
        if child == 0:
            uvloop.run(serve(service.objects, listening, asyncio.Event(), drain_seconds=1))
            return
        print(child, flush=True)  # noqa: T201
        _, status = os.waitpid(child, 0)
        if not os.WIFSIGNALED(status) or os.WTERMSIG(status) != signal.SIGKILL:
            return


if __name__ == "__main__":
    main()
