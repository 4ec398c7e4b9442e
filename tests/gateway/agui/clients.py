"""The clients of AG-UI on Node, each in a process of its own."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from tests.programs import AGUI_CLIENTS
from tests.support import Json

CLIENTS = ["client-1.0", "client-0.0"]
_SECONDS = 60


class Node:
    """An application around `HttpAgent`.

    Attributes:
        events: the events of the last run.
        text: what the agent says last in it.
        done: what the application has after it: messages, state, interrupts, error.
    """

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self._running = False
        self.events: list[Json] = []
        self.text = ""
        self.done: Json = {}

    def send(self, *messages: Json, **parameters: Any) -> None:
        """Begin a run, after adding messages."""
        assert not self._running
        assert self._process.stdin is not None
        self._running, self.events, self.text = True, [], ""
        command = {"add": messages, "run": parameters}
        self._process.stdin.write(json.dumps(command).encode() + b"\n")

    async def goes_on(self) -> bool:
        """Wait for the next event of the run. Returns whether there was one."""
        if not self._running:
            return False
        assert self._process.stdout is not None
        line: Json = json.loads(await asyncio.wait_for(self._process.stdout.readline(), _SECONDS))
        if "done" in line:
            self.done, self._running = line["done"], False
            return False
        event = line["event"]
        self.events.append(event)
        if event["type"] == "TEXT_MESSAGE_START":
            self.text = ""
        elif event["type"] == "TEXT_MESSAGE_CONTENT":
            self.text += event["delta"]
        return True


@asynccontextmanager
async def node(home: Path, client: str, url: str, thread: str) -> AsyncIterator[Node]:
    """An application with that client, such as `client-1.0`, for a thread at that URL."""
    module = home / "node_modules" / "@ag-ui" / client / "dist" / "index.mjs"
    process = await asyncio.create_subprocess_exec(
        *("node", str(AGUI_CLIENTS / "talk.mjs"), str(module), url, thread),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
        limit=2**24,
    )
    try:
        yield Node(process)
    finally:
        process.kill()
        await process.wait()
