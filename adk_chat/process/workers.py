"""Several processes on one port: started one after the other, restarted when one dies, and ended together."""

import asyncio
import os
import socket
import sys
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence

import click

from adk_chat.process import guard

_SERVING, _SERVING_JSON = b"Serving", b'"message":"Serving'
_CHUNK = 65536
_WORKER = "ADK_CHAT_WORKER"
"""The variable that tells a process its number."""
_SOON_SECONDS = 10.0
"""A process that dies sooner than this is restarted after a pause that grows each time."""
_PAUSE_SECONDS, _MOST_SECONDS = 0.5, 30.0


def worker_number() -> int:
    """Returns the number of this process among those that share a port; 0 for the first, and for one that is alone."""
    return int(os.environ.get(_WORKER, "0"))


def is_first_worker() -> bool:
    """Returns whether this process is the one that reports what is served."""
    return worker_number() == 0


class WorkerError(Exception):
    """The first process ended before it served; it has said why."""


class Workers:
    """Processes that run `adk-chat` with the same arguments and accept the connections of one socket.

    None outlives this process, whatever kills it.

    Args:
        listening: the socket.
        count: how many processes.
        arguments: of each process.
        first: extra arguments of the first process.
        environment: extra variables for all processes.
        grace_seconds: how long a process may take to end.
        say: is told what happens to them. Their own output goes to stdout unchanged.
    """

    def __init__(
        self,
        listening: socket.socket,
        count: int,
        arguments: Sequence[str],
        *,
        first: Sequence[str] = (),
        environment: Mapping[str, str] | None = None,
        grace_seconds: float,
        say: Callable[[str], None],
    ) -> None:
        self._listening = listening
        self._count = count
        self._arguments = arguments
        self._first = first
        self._environment = {**os.environ, **(environment or {})}
        self._grace = grace_seconds
        self._say = say

    async def run(self, stop: asyncio.Event) -> None:
        """Keeps the processes running until `stop` is set, then lets all of them end.

        Raises:
            WorkerError: if the first one does not start to serve.
        """
        serving = asyncio.Event()
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._keep(0, stop, serving))
                await serving.wait()
                for number in range(1, self._count):
                    group.create_task(self._keep(number, stop, serving))
        except* WorkerError as errors:
            raise errors.exceptions[0] from None

    async def _keep(self, number: int, stop: asyncio.Event, serving: asyncio.Event) -> None:
        pause = _PAUSE_SECONDS
        stopped = asyncio.create_task(stop.wait())
        while not stop.is_set():
            process = await self._start(number)
            began = time.monotonic()
            said = asyncio.create_task(self._listen(number, process, serving))
            ended = asyncio.create_task(process.wait())
            await asyncio.wait([ended, stopped], return_when=asyncio.FIRST_COMPLETED)
            if stop.is_set() and process.stdin is not None:
                process.stdin.write(b"end\n")  # the guard then asks it to end, and kills it in time
                process.stdin.close()
            code = await ended
            await said
            if stop.is_set():
                serving.set()
                return
            if not serving.is_set():
                raise WorkerError("No process is serving: the first one has ended.")
            self._say(f"Process {number + 1} of {self._count} ended with code {code} and is being restarted.")
            pause = min(_MOST_SECONDS, 2 * pause) if time.monotonic() - began < _SOON_SECONDS else _PAUSE_SECONDS
            await asyncio.wait([stopped], timeout=pause)

    async def _start(self, number: int) -> asyncio.subprocess.Process:
        descriptor = self._listening.fileno()
        more = self._first if number == 0 else []
        return await asyncio.create_subprocess_exec(
            # Without us nobody restarts a process, and whoever is started in our place needs the port.
            *(sys.executable, "-S", guard.__file__, "--grace", str(self._grace), "--orphaned", "0"),
            *(sys.executable, "-m", "adk_chat", *self._arguments, *more, "--fd", str(descriptor)),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            pass_fds=[descriptor],
            env={**self._environment, _WORKER: str(number)},
            start_new_session=True,  # Ctrl-C in the terminal is for us
        )

    async def _listen(self, number: int, process: asyncio.subprocess.Process, serving: asyncio.Event) -> None:
        """Passes on a process's output line by line, and notices when the first process serves."""
        assert process.stdout is not None
        async for line in _lines(process.stdout):
            again = number > 0 or serving.is_set()
            is_first = line.startswith(_SERVING) or _SERVING_JSON in line
            if is_first and number == 0:
                serving.set()
            if not again or not is_first:
                click.echo(line.decode(errors="replace"))


async def _lines(stream: asyncio.StreamReader) -> AsyncIterator[bytes]:
    """Yields the lines of a stream, however long; `StreamReader.readline` accepts at most 64 KiB."""
    line = bytearray()
    while chunk := await stream.read(_CHUNK):
        first, *rest = chunk.split(b"\n")
        line += first
        for following in rest:
            yield bytes(line)
            line = bytearray(following)
    if line:
        yield bytes(line)
