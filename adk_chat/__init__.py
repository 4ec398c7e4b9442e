"""adk_chat: durable, multi-session chat for Google ADK agents, on Restate."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from adk_chat.durable import RestatePlugin, restate_tool
    from adk_chat.service import ChatService
    from adk_chat.sessions import RestateSessionService

__all__ = ["ChatService", "RestatePlugin", "RestateSessionService", "restate_tool"]

_MODULES = {
    "ChatService": "adk_chat.service",
    "RestatePlugin": "adk_chat.durable",
    "RestateSessionService": "adk_chat.sessions",
    "restate_tool": "adk_chat.durable",
}


def __getattr__(name: str) -> Any:
    # Imported when they are asked for: ADK takes seconds, and `adk-chat chat` does without.
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_MODULES[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
