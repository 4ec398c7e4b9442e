"""Restarts a command when files change."""

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
    """Returns the directory of an agent's files without importing it; None if it has none."""
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
    """Runs `adk-chat`, and restarts it when files of the directory change, until `stop` is set.

    Changes in `but` are ignored: the command itself writes there. A command that ends by itself, for example because
    the agent cannot be loaded, is restarted at the next change. It never outlives this process.
    """
    running = await _start(arguments)
    try:
        async for changes in awatch(directory, watch_filter=_Sources(ignore_paths=[but]), stop_event=stop):
            names = sorted({Path(path).name for _, path in changes})
            say(f"Reloading after changes: {', '.join(names[:3])}{', ...' if len(names) > 3 else ''}")
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
        # Ctrl-C in the terminal is for this process.
        start_new_session=True,
    )


async def _end(process: asyncio.subprocess.Process) -> None:
    if process.stdin is not None:
        process.stdin.close()  # the guard then asks the command to end, and kills it if that takes too long
    await process.wait()
