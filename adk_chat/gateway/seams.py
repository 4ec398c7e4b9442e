"""The private parts of ADK's server and of uvicorn that the gateway uses.

`tests/gateway/test_seams.py` checks each of them.
"""

from pathlib import Path
from typing import Any

import google.adk.cli
from google.adk.auth.auth_credential import _redact_credential_secrets
from google.adk.cli.api_server import ApiServer, _validate_session_initialization_events
from google.adk.events._internal_metadata import mark_restored, public_event
from google.adk.events.event import Event
from opentelemetry.sdk.trace import ReadableSpan
from uvicorn.protocols.http.auto import AutoHTTPProtocol

from adk_chat.protocol.json import Json

DEV_UI = Path(google.adk.cli.__file__).parent / "browser"
"""The files of ADK's dev UI."""


def public_json(event: Event) -> Json:
    """Returns an event as ADK's server shows it: without secrets, and without ADK's internal fields."""
    shown: Json = _redact_credential_secrets(
        public_event(event).model_dump(exclude_none=True, by_alias=True, mode="json")
    )
    return shown


def restored(events: list[Event]) -> list[Event]:
    """Returns the events that a client wants a session to start with, marked as such.

    Raises:
        HTTPException: 400, if one claims to be what only ADK makes.
    """
    _validate_session_initialization_events(events)
    return [mark_restored(event) for event in events]


def keeps_traces(server: ApiServer) -> bool:
    """Returns whether a server keeps traces for the dev UI."""
    return server._serves_debug_trace_endpoints


def kept_traces(server: ApiServer) -> tuple[list[ReadableSpan], dict[str, Any], dict[str, list[int]]]:
    """Returns what it keeps: spans, their attributes by event id, and trace ids by session id."""
    return server._memory_exporter._spans, server._trace_dict, server._session_trace_dict


class Connection(AutoHTTPProtocol):  # type: ignore[misc,valid-type]
    """A connection. uvicorn's own stays in memory until the keep-alive timeout if the client resets it."""

    def connection_lost(self, exc: Exception | None) -> None:
        """See `asyncio.Protocol`."""
        super().connection_lost(exc)
        if self.timeout_keep_alive_task is not None:
            self.timeout_keep_alive_task.cancel()
