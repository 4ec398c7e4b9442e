"""Sessions: the stored layout, ADK's contract over it, and the session service that is its client."""

from adk_chat.sessions.service import RestateSessionService

__all__ = ["RestateSessionService"]
