"""Which turn is meant: the key of its Turn, and an id that is enough to find it."""

import binascii
import re
import uuid
from base64 import urlsafe_b64decode, urlsafe_b64encode
from urllib.parse import quote, unquote

from pydantic import BaseModel, ConfigDict

from adk_chat.protocol.errors import BadRequestError
from adk_chat.protocol.json import Json
from adk_chat.protocol.sessions import SessionId

_EVENT_IDS = uuid.UUID("0b1f3c52-7d0e-5f5c-8a3c-9a4e2d6c1f70")
_PREFIX = len("xxxxxxxx-xxxx")
_MADE_IN_A_TURN = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-5[0-9a-f]{3}-[0-9a-f]{4}-[0-9a-f]{12}")  # UUIDs of version 5
_INVOCATION_ID = re.compile(r"inv_[A-Za-z0-9]+")


class TurnKey(BaseModel):
    """The key of a Turn: whose session it runs."""

    model_config = ConfigDict(frozen=True)

    user_id: str
    app_name: str
    session_id: SessionId

    def __str__(self) -> str:
        return "/".join(quote(part, safe="") for part in (self.user_id, self.app_name, self.session_id))

    @classmethod
    def parse(cls, key: str) -> "TurnKey":
        """Returns the parts of a key.

        Raises:
            ValueError: if it is not a key.
        """
        user_id, app_name, session_id = (unquote(part, errors="strict") for part in key.split("/"))
        return cls(user_id=user_id, app_name=app_name, session_id=session_id)


class TurnId(BaseModel):
    """The id of a turn: `<Restate invocation id>.<base64url of the Turn's key>`.

    It grants nothing. Everything is looked up by the whole id: a running turn by its key and its Restate invocation, a
    stream by this text, events by the key's session.
    """

    model_config = ConfigDict(frozen=True)

    invocation_id: str
    key: TurnKey

    def __str__(self) -> str:
        return f"{self.invocation_id}.{urlsafe_b64encode(str(self.key).encode()).decode().rstrip('=')}"

    @classmethod
    def parse(cls, text: str) -> "TurnId":
        """Returns the parts of an id. Each id has exactly one spelling.

        Raises:
            BadRequestError: if it is not a turn id.
        """
        invocation_id, _, encoded = text.partition(".")
        try:
            key = urlsafe_b64decode(encoded + "=" * (-len(encoded) % 4)).decode()
            turn_id = cls(invocation_id=invocation_id, key=TurnKey.parse(key))
        except (binascii.Error, ValueError):
            raise BadRequestError(f"{text!r} is not a turn id.") from None
        if str(turn_id) != text or not _INVOCATION_ID.fullmatch(invocation_id):
            raise BadRequestError(f"{text!r} is not a turn id.")
        return turn_id

    def owns(self, event: Json) -> bool:
        """Returns whether a stored event came from this turn, in its own ADK invocation or in a resumed one."""
        mark = event_id_prefix(self.invocation_id)
        event_id = str(event.get("id", ""))
        # A later turn may resume this one's ADK invocation. Its events have ids of their own.
        of_another = _MADE_IN_A_TURN.fullmatch(event_id) is not None
        return event_id.startswith(mark) or (
            not of_another and str(event.get("invocationId", "")).startswith(f"e-{mark}")
        )


def event_id_prefix(invocation_id: str) -> str:
    """Returns the beginning of the UUIDs that ADK gets in a turn. It identifies the turn's events in the store."""
    return str(uuid.uuid5(_EVENT_IDS, invocation_id))[:_PREFIX]
