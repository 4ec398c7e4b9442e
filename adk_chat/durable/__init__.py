"""ADK under a journal: model calls, tool calls, ids and times that survive any crash and are the same on a replay."""

from adk_chat.durable.adk.run import open_journal
from adk_chat.durable.adk.tool import restate_tool
from adk_chat.durable.journal.journal import Journal, JournalOptions, RestartError
from adk_chat.durable.journal.retry import RetryPolicy
from adk_chat.durable.patches import install
from adk_chat.durable.plugin import RestatePlugin

__all__ = [
    "Journal",
    "JournalOptions",
    "RestartError",
    "RestatePlugin",
    "RetryPolicy",
    "install",
    "open_journal",
    "restate_tool",
]
