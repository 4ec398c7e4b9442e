"""The clients of AG-UI on Node, each in a process of its own."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from tests.programs import AGUI_CLIENTS
from tests.support import Json

SECONDS = 60


class Node:
    """An application around `HttpAgent`."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self.events: list[Json] = []
        """The events of the last run."""

    def send(self, *messages: Json, **parameters: Any) -> None:
        """Begin a run, after adding messages."""
        self.events = []
        assert self._process.stdin is not None
        command = {"add": messages, "run": parameters}
        self._process.stdin.write(json.dumps(command).encode() + b"\n")

    async def until_words(self, count: int) -> None:
        """Wait until the run has streamed that many words."""
        said = ""
        while len(said.split()) < count:
            event = (await self._line())["event"]
            said += event["delta"] if event["type"] == "TEXT_MESSAGE_CONTENT" else ""

    async def done(self) -> Json:
        """What the application has when the run has ended: messages, state, interrupts, error."""
        while "done" not in (line := await self._line()):
            pass
        done: Json = line["done"]
        return done

    async def run(self, *messages: Json, **parameters: Any) -> Json:
        """A whole run."""
        self.send(*messages, **parameters)
        return await self.done()

    async def _line(self) -> Json:
        assert self._process.stdout is not None
        line: Json = json.loads(await asyncio.wait_for(self._process.stdout.readline(), SECONDS))
        if "event" in line:
            self.events.append(line["event"])
        return line


@asynccontextmanager
async def node(home: Path, client: str, url: str, thread: str, headers: Json | None = None) -> AsyncIterator[Node]:
    """An application with that client, such as `client-1.0`, for a thread at that URL."""
    module = home / "node_modules" / "@ag-ui" / client / "dist" / "index.mjs"
    arguments = [str(AGUI_CLIENTS / "talk.mjs"), str(module), url, thread, json.dumps(headers or {})]
    process = await asyncio.create_subprocess_exec(
        "node",
        *arguments,
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


def said(message: str, text: str) -> Json:
    """A message of the user."""
    return {"id": message, "role": "user", "content": text}


def texts(done: Json) -> list[str]:
    """What the agent said, in order."""
    return [one["content"] for one in done["messages"] if one["role"] == "assistant" and one.get("content")]
