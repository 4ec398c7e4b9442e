"""Tickets for a browser's EventSource, which cannot send a bearer token."""

import secrets
import time

import jwt
from pydantic import BaseModel, Field, SecretStr

from adk_chat.gateway.auth.tokens import AuthError, TokenError
from adk_chat.protocol.turn_id import TurnId

_SECONDS = 300
_AUDIENCE = "adk_chat:ticket"
_KEY_BYTES = 32


class Ticket(BaseModel):
    """Opens the events of one turn for a while, and nothing else. Unlike a token it may be part of a URL."""

    ticket: str
    expires_in: int = Field(serialization_alias="expiresIn", description="Seconds. Streams that are open then stay so.")


class Tickets:
    """Issues and verifies tickets.

    Args:
        key: the secret, the same for all copies of the gateway, 32 bytes or more; by default one of this process.

    Raises:
        AuthError: if the key is too short.
    """

    def __init__(self, key: SecretStr | None = None) -> None:
        self._key = key.get_secret_value().encode() if key else secrets.token_bytes(_KEY_BYTES)
        if len(self._key) < _KEY_BYTES:
            raise AuthError(f"ADK_CHAT_TICKET_KEY is shorter than {_KEY_BYTES} bytes: a key so short can be guessed.")

    def issue(self, turn_id: str) -> Ticket:
        """Returns a ticket for a turn."""
        claims = {"turn": turn_id, "aud": _AUDIENCE, "exp": int(time.time()) + _SECONDS}
        return Ticket(ticket=jwt.encode(claims, self._key, "HS256"), expires_in=_SECONDS)

    def subject(self, turn_id: TurnId, ticket: str) -> str:
        """Returns the user whose turn a ticket opens.

        Raises:
            TokenError: if it has expired, or is for another turn.
        """
        try:
            claims = jwt.decode(ticket, self._key, ["HS256"], audience=_AUDIENCE, options={"require": ["exp", "turn"]})
        except jwt.PyJWTError as error:
            raise TokenError(f"The ticket is invalid: {str(error).rstrip('.')}. Ask for a new one.") from None
        if claims["turn"] != str(turn_id):
            raise TokenError("The ticket is for another turn.")
        return turn_id.key.user_id
