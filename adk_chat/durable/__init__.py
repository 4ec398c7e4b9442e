"""ADK under a journal: model calls, tool calls, ids and times that survive any crash and replay the same."""

from adk_chat.durable import concurrency, model, spans, tool
from adk_chat.durable.journal import Journal, RestartError, record
from adk_chat.durable.plugin import RestatePlugin
from adk_chat.durable.retry import RetryPolicy
from adk_chat.durable.tool import restate_tool

__all__ = [
    "Journal",
    "RestartError",
    "RestatePlugin",
    "RetryPolicy",
    "concurrency",
    "model",
    "record",
    "restate_tool",
    "spans",
    "tool",
]
