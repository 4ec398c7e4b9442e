"""adk_chat: durable, multi-session chat for Google ADK agents, on Restate."""

from importlib import import_module
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from adk_chat.durable import RestatePlugin, restate_tool
    from adk_chat.endpoint import IdentityKeyError, PortTakenError, ServerMissingError, listen, serve, stop_event
    from adk_chat.gateway.auth.origins import OriginError
    from adk_chat.gateway.auth.tokens import AuthError
    from adk_chat.protocol.errors import AnswerError, BadRequestError, NoAnswerError, TooLargeError
    from adk_chat.service import ChatService, ServiceUriError
    from adk_chat.sessions import RestateSessionService
    from adk_chat.settings import Settings
    from adk_chat.streaming import BrokerError, MemoryBroker

__all__ = [
    "AnswerError",
    "AuthError",
    "BadRequestError",
    "BrokerError",
    "ChatService",
    "IdentityKeyError",
    "MemoryBroker",
    "NoAnswerError",
    "OriginError",
    "PortTakenError",
    "RestatePlugin",
    "RestateSessionService",
    "ServerMissingError",
    "ServiceUriError",
    "Settings",
    "TooLargeError",
    "listen",
    "restate_tool",
    "serve",
    "stop_event",
]

__version__ = version("adk-chat")

_NAMES = {
    "durable": ("RestatePlugin", "restate_tool"),
    "endpoint": ("IdentityKeyError", "PortTakenError", "ServerMissingError", "listen", "serve", "stop_event"),
    "gateway.auth.origins": ("OriginError",),
    "gateway.auth.tokens": ("AuthError",),
    "protocol.errors": ("AnswerError", "BadRequestError", "NoAnswerError", "TooLargeError"),
    "service": ("ChatService", "ServiceUriError"),
    "sessions": ("RestateSessionService",),
    "settings": ("Settings",),
    "streaming": ("BrokerError", "MemoryBroker"),
}
_MODULES = {name: f"adk_chat.{module}" for module, names in _NAMES.items() for name in names}


def __getattr__(name: str) -> Any:
    # Imported on first use: ADK takes seconds to import, and `adk-chat chat` does without it.
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_MODULES[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
