"""The processes that are measured: their CPU time and memory."""

import asyncio
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path


class Process:
    """A process, as Linux knows it."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self._directory = Path(f"/proc/{pid}")

    def children(self) -> list["Process"]:
        """The processes that it has started."""
        found = (self._directory / f"task/{self.pid}/children").read_text()
        return [Process(int(pid)) for pid in found.split()]

    def kill(self) -> None:
        """Ends it at once."""
        os.kill(self.pid, signal.SIGKILL)

    def seconds(self) -> float:
        """Seconds of CPU so far."""
        fields = (self._directory / "stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def megabytes(self) -> float:
        """Current megabytes of memory."""
        return int((self._directory / "statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6


@asynccontextmanager
async def started(said: str, *arguments: str, program: str | None = None, **environment: str) -> AsyncIterator[Process]:
    """A process that has said that it serves: a program, or what follows `python -m`."""
    process = await asyncio.create_subprocess_exec(
        *([program] if program else [sys.executable, "-m"]),
        *arguments,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
        env={**os.environ, "PYTHONUNBUFFERED": "1", **environment},
    )
    assert process.stdout is not None
    try:
        while said not in (line := (await process.stdout.readline()).decode()):
            assert line, f"{arguments} ended"
        yield Process(process.pid)
    finally:
        if process.returncode is None:
            process.terminate()
        try:
            async with asyncio.timeout(10):
                await process.wait()
        except TimeoutError:  # other servers may wait for kept-alive connections
            process.kill()
            await process.wait()


def free_port() -> int:
    """Returns a port that nobody uses now."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port: int = listening.getsockname()[1]
        return port
