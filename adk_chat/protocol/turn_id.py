"""Which turn is meant: the key of its Turn, and an id that says all that is needed to find it."""

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
        """The parts of a key.

        Raises:
            ValueError: it is none.
        """
        user_id, app_name, session_id = (unquote(part, errors="strict") for part in key.split("/"))
        return cls(user_id=user_id, app_name=app_name, session_id=session_id)


class TurnId(BaseModel):
    """The id of a turn: `<Restate invocation id>.<base64url of the Turn's key>`.

    It grants nothing. Whatever is looked up by it is looked up under the whole id: a running turn by its key and its
    Restate invocation, a stream by this text, events by the key's session.
    """

    model_config = ConfigDict(frozen=True)

    invocation_id: str
    key: TurnKey

    def __str__(self) -> str:
        return f"{self.invocation_id}.{urlsafe_b64encode(str(self.key).encode()).decode().rstrip('=')}"

    @classmethod
    def parse(cls, text: str) -> "TurnId":
        """The parts of an id, which has one spelling only.

        Raises:
            BadRequestError: it is not the id of any turn.
        """
        invocation_id, _, encoded = text.partition(".")
        try:
            key = urlsafe_b64decode(encoded + "=" * (-len(encoded) % 4)).decode()
            turn_id = cls(invocation_id=invocation_id, key=TurnKey.parse(key))
        except (binascii.Error, ValueError):
            raise BadRequestError(f"{text!r} is not the id of a turn.") from None
        if str(turn_id) != text or not _INVOCATION_ID.fullmatch(invocation_id):
            raise BadRequestError(f"{text!r} is not the id of a turn.")
        return turn_id

    def owns(self, event: Json) -> bool:
        """Whether a stored event came from this turn, be it in an ADK invocation of its own or in a resumed one."""
        mark = event_id_prefix(self.invocation_id)
        event_id = str(event.get("id", ""))
        # A later turn may go on with this one's ADK invocation, and brings forth events with ids of its own.
        of_another = _MADE_IN_A_TURN.fullmatch(event_id) is not None
        return event_id.startswith(mark) or (
            not of_another and str(event.get("invocationId", "")).startswith(f"e-{mark}")
        )


def event_id_prefix(invocation_id: str) -> str:
    """How the UUIDs begin that ADK is given in a turn, and by which its events are known in the store."""
    return str(uuid.uuid5(_EVENT_IDS, invocation_id))[:_PREFIX]
