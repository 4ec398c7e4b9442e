"""Runs a check of the session contract inside a Restate handler, where the service calls Chat through the context."""

import traceback
from collections.abc import Awaitable, Callable

import restate

from adk_chat import RestateSessionService

Check = Callable[[RestateSessionService, str, str], Awaitable[None]]

checks: dict[str, Check] = {}

probe = restate.VirtualObject("Probe")


@probe.handler()
async def check(ctx: restate.ObjectContext, names: list[str]) -> str:
    """Run a check. Returns what failed, or nothing."""
    name, app, user = names
    try:
        await checks[name](RestateSessionService(), app, user)
    except Exception:
        return traceback.format_exc()
    return ""


@probe.handler(kind="shared")
async def echo(ctx: restate.ObjectSharedContext, text: str) -> str:
    """Return the text."""
    return text
