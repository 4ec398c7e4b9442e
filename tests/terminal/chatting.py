"""`adk-chat chat` as a program of its own, with pipes or at a terminal."""

import asyncio
import os
import pty
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from tests.support import until

COMMAND = (sys.executable, "-m", "adk_chat", "chat")


async def piped(text: str, *arguments: str) -> tuple[int, str, str]:
    """Send lines through a pipe. Returns the exit code, the output and the errors."""
    process = await asyncio.create_subprocess_exec(
        *(*COMMAND, *arguments),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    said, complained = await process.communicate(text.encode())
    return process.returncode or 0, said.decode(), complained.decode()


class Terminal:
    """A terminal with the program in it."""

    def __init__(self, process: asyncio.subprocess.Process, master: int) -> None:
        self.screen = ""
        self._process = process
        self._master = master
        asyncio.get_running_loop().add_reader(master, self._read)

    def type(self, line: str) -> None:
        """Type a line."""
        os.write(self._master, f"{line}\n".encode())

    def interrupt(self) -> None:
        """Press Ctrl-C."""
        self._process.send_signal(signal.SIGINT)

    async def shows(self, text: str) -> None:
        """Wait until the screen shows a text."""

        async def shown() -> bool:
            return text in self.screen

        try:
            await until(shown)
        except TimeoutError:
            raise AssertionError(f"{text!r} is not in {self.screen!r}") from None

    async def code(self) -> int:
        """Wait for the end. Returns the exit code."""
        return await asyncio.wait_for(self._process.wait(), 20)

    def _read(self) -> None:
        try:
            self.screen += os.read(self._master, 65536).decode().replace("\r\n", "\n")
        except OSError:
            asyncio.get_running_loop().remove_reader(self._master)


@asynccontextmanager
async def terminal(*arguments: str, **environment: str) -> AsyncIterator[Terminal]:
    """The program at a terminal of its own."""
    master, slave = pty.openpty()
    process = await asyncio.create_subprocess_exec(
        *(*COMMAND, *arguments),
        stdin=slave,
        stdout=slave,
        stderr=slave,
        env={**os.environ, "TERM": "dumb", **environment},
        start_new_session=True,
    )
    os.close(slave)
    try:
        yield Terminal(process, master)
    finally:
        asyncio.get_running_loop().remove_reader(master)
        if process.returncode is None:
            process.kill()
            await process.wait()
        os.close(master)
