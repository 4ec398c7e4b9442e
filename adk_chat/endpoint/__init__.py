"""Serving Restate handlers over HTTP/2, and draining on SIGTERM."""

from adk_chat.endpoint.listening import PortTakenError, listen, stop_event
from adk_chat.endpoint.server import FEW_STREAMS, STREAMS, IdentityKeyError, ServerMissingError, check_server, serve

__all__ = [
    "FEW_STREAMS",
    "STREAMS",
    "IdentityKeyError",
    "PortTakenError",
    "ServerMissingError",
    "check_server",
    "listen",
    "serve",
    "stop_event",
]
