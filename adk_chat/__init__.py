"""adk_chat: durable, multi-session chat for Google ADK agents, on Restate."""

from adk_chat.durable import RestatePlugin, restate_tool
from adk_chat.service import ChatService
from adk_chat.sessions import RestateSessionService

__all__ = ["ChatService", "RestatePlugin", "RestateSessionService", "restate_tool"]
