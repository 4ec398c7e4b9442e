"""The private parts of ADK's server that the gateway uses, all of them; `tests/gateway/test_seams.py` holds them."""

from pathlib import Path

import google.adk.cli
from google.adk.auth.auth_credential import _redact_credential_secrets
from google.adk.events._internal_metadata import public_event
from google.adk.events.event import Event

from adk_chat.sessions.contract import Json

DEV_UI = Path(google.adk.cli.__file__).parent / "browser"
"""The files of ADK's dev UI."""


def public_json(event: Event) -> Json:
    """An event as ADK's server shows it: without secrets, and without what ADK keeps for itself."""
    shown: Json = _redact_credential_secrets(
        public_event(event).model_dump(exclude_none=True, by_alias=True, mode="json")
    )
    return shown
