"""Patching is a decision of the process: importing this package changes nothing."""

from functools import cache

from adk_chat.durable import code, context_vars, credentials, locks, order, plugin, seams, spans, state, tool, toolsets
from adk_chat.durable.model import durable


@cache
def install() -> None:
    """Make ADK's runs durable where a journal is open, keep the journals of Restate's SDK, and follow asyncio's locks.

    Does so once in a process. Called by what runs durable turns: `ChatService` and `RestatePlugin`. Where no journal
    is open, everything does what it does without.
    """
    seams.keep_entries()
    seams.wrap_models(durable)
    tool.install()
    order.install()
    code.install()
    credentials.install()
    toolsets.install()
    plugin.install()
    spans.install()
    state.install()
    locks.install()
    context_vars.install()
