"""Running a command anew whenever files change."""

import asyncio
import importlib.util
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from watchfiles import Change, DefaultFilter, awatch

from adk_chat.process import guard

_GUARD = guard.__file__
_SUFFIXES = {".py", ".yaml", ".yml", ".env", ".json", ".md", ".txt"}


def directory_of(agent: str) -> Path | None:
    """Where the files of an agent are, by its name on the command line, without importing it; None if nowhere."""
    if Path(agent).is_dir():
        return Path(agent)
    sys.path.insert(0, str(Path.cwd()))
    top = agent.partition(":")[0].partition(".")[0]
    found = importlib.util.find_spec(top) if top else None
    if found is None or found.origin is None:
        return None
    return Path(found.origin).parent


async def reloading(
    arguments: Sequence[str], directory: Path, but: Path, stop: asyncio.Event, say: Callable[[str], None]
) -> None:
    """Run `adk-chat` with these arguments, and again whenever files of the directory change, until `stop` is set.

    What changes in `but` does not count: that is where the command itself writes.

    One that ends by itself, as with an agent that cannot be loaded, is run again at the next change. It never outlives
    this process.
    """
    running = await _start(arguments)
    try:
        async for changes in awatch(directory, watch_filter=_Sources(ignore_paths=[but]), stop_event=stop):
            names = sorted({Path(path).name for _, path in changes})
            say(f"Reloading, since there are changes: {', '.join(names[:3])}{', ...' if len(names) > 3 else ''}")
            await _end(running)
            running = await _start(arguments)
    finally:
        await _end(running)


class _Sources(DefaultFilter):
    def __call__(self, change: Change, path: str) -> bool:
        return super().__call__(change, path) and (Path(path).suffix in _SUFFIXES or Path(path).name == ".env")


async def _start(arguments: Sequence[str]) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        *(sys.executable, "-S", _GUARD, sys.executable, "-m", "adk_chat", *arguments),
        stdin=asyncio.subprocess.PIPE,
        # Ctrl-C in the terminal is for us.
        start_new_session=True,
    )


async def _end(process: asyncio.subprocess.Process) -> None:
    if process.stdin is not None:
        process.stdin.close()  # at which the guard asks the command to end, and in time makes it
    await process.wait()
