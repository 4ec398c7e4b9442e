"""A process that can be killed and frozen."""

import asyncio
import signal


class Killable:
    """Base class of the servers in tests; `start` of a subclass makes the process."""

    _process: asyncio.subprocess.Process | None = None

    @property
    def pid(self) -> int:
        """Its process id."""
        assert self._process is not None
        return self._process.pid

    @property
    def dead(self) -> bool:
        """Whether it was killed."""
        return self._process is not None and self._process.returncode is not None

    async def kill(self) -> None:
        """SIGKILL, unless it is dead already."""
        if self._process is not None and self._process.returncode is None:
            self._process.kill()
            await self._process.wait()

    def terminate(self) -> None:
        """SIGTERM."""
        assert self._process is not None
        self._process.terminate()

    async def ended(self, seconds: float) -> int:
        """Its exit code, once it has ended.

        Raises:
            TimeoutError: if it runs for longer than that.
        """
        assert self._process is not None
        return await asyncio.wait_for(self._process.wait(), seconds)

    async def freeze(self, seconds: float) -> None:
        """SIGSTOP for this many seconds."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)
        try:
            await asyncio.sleep(seconds)
        finally:
            self._process.send_signal(signal.SIGCONT)
