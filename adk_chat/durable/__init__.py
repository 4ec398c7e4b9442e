"""ADK under a journal: model calls, tool calls, ids and times that survive any crash and replay the same."""

from adk_chat.durable.install import install
from adk_chat.durable.journal import Journal, RestartError
from adk_chat.durable.plugin import RestatePlugin
from adk_chat.durable.retry import RetryPolicy
from adk_chat.durable.tool import restate_tool

__all__ = ["Journal", "RestartError", "RestatePlugin", "RetryPolicy", "install", "restate_tool"]
