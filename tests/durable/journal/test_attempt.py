"""Which tasks belong to an attempt."""

import asyncio
import sysconfig
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from adk_chat.durable.adk.state import at_once
from adk_chat.durable.journal import keys
from adk_chat.durable.journal.attempt import Attempt
from adk_chat.durable.journal.journal import Journal
from adk_chat.durable.journal.keys import Strand

SOURCE = """
import asyncio, sys

async def leave():
    sys.exit(3)

async def begin(code):
    return asyncio.create_task(code)
"""


def installed(module: str) -> dict[str, Callable[..., Any]]:
    """The functions of a module that is where packages are installed."""
    names: dict[str, Any] = {"__name__": module}
    path = Path(sysconfig.get_path("purelib"), *module.split(".")).with_suffix(".py")
    exec(compile(SOURCE, path, "exec"), names)
    return names


async def test_an_installed_agent_does_not_end_the_process() -> None:
    attempt = await Attempt.begin("inv", None)
    keys.enter(Strand(attempt=attempt))
    task = asyncio.create_task(installed("somebodys_agent.agent")["leave"]())
    with pytest.raises(Exception, match="3"):  # and not SystemExit, which would end the event loop
        await task
    assert task in attempt.tasks
    await attempt.close(well=True, again=False)


async def test_what_libraries_keep_is_not_the_attempts_nor_is_what_they_begin() -> None:
    attempt = await Attempt.begin("inv", None)
    keys.enter(Strand(attempt=attempt))
    of_agent, of_library = installed("somebodys_agent.agent"), installed("mcp.client.session")
    session = asyncio.create_task(of_library["begin"](asyncio.sleep(60)))
    begun = [await session, asyncio.create_task(of_agent["begin"](asyncio.sleep(60)))]
    begun.append(await begun[1])
    assert [task in attempt.tasks for task in (session, *begun)] == [False, False, True, True]
    await attempt.close(well=False, again=True)
    assert [task.cancelled() for task in begun] == [False, False, True]
    begun[0].cancel()


def test_strands_of_equal_paths_make_other_ids() -> None:
    strand = Strand()
    children = [strand.child("task") for _ in range(20_000)]
    assert len({child.path for child in children}) < len(children)
    journal: Any = SimpleNamespace(_id="inv", _wide=True, pump=SimpleNamespace(cancel_point=SimpleNamespace(name="")))
    assert len({Journal._seed(journal, child) for child in children}) == len(children)


def test_what_may_not_wait_is_seen_to() -> None:
    async def returns() -> int:
        return 1

    assert at_once(returns()) == 1
    with pytest.raises(RuntimeError, match="sleep waits, and adk_chat relies on it not to"):
        at_once(asyncio.sleep(0))
