"""Checks the private parts of ADK's server that the gateway uses, and says which moved."""

import inspect

from google.adk.auth import auth_credential
from google.adk.cli import api_server
from google.adk.cli.api_server import ApiServer, InMemoryExporter, RunAgentRequest
from google.adk.cli.dev_server import DevServer
from google.adk.events import _internal_metadata
from google.adk.runners import Runner
from uvicorn.protocols.http.auto import AutoHTTPProtocol

from adk_chat.gateway import seams
from adk_chat.gateway.runner import TurnRunner


def test_the_server_makes_its_runners_where_we_replace_them() -> None:
    assert list(inspect.signature(ApiServer._create_runner).parameters) == ["self", "agentic_app", "app_name"]
    assert DevServer._create_runner is ApiServer._create_runner


def test_the_server_creates_sessions_where_we_look_at_what_went_wrong() -> None:
    asked = ["self", "app_name", "user_id", "session_id", "state"]
    assert list(inspect.signature(ApiServer._create_session).parameters) == asked
    assert "await self._create_session(" in inspect.getsource(ApiServer._register_production_endpoints)


def test_our_runner_takes_what_adks_takes() -> None:
    ours, theirs = [inspect.signature(kind.run_async).parameters for kind in (TurnRunner, Runner)]
    assert list(ours) == list(theirs), "Runner.run_async has other arguments now"
    asked = {"app_name", "user_id", "session_id", "new_message", "streaming", "state_delta", "invocation_id"}
    asked |= {"function_call_event_id", "custom_metadata", "service_tier"}
    assert set(RunAgentRequest.model_fields) == asked, "/run takes something else now; does TurnRunner pass it on?"


def test_events_are_shown_as_adks_server_shows_them() -> None:
    assert list(inspect.signature(auth_credential._redact_credential_secrets).parameters) == ["value"]
    assert list(inspect.signature(_internal_metadata.public_event).parameters) == ["event"]


def test_a_session_with_events_is_created_as_adks_server_does() -> None:
    assert list(inspect.signature(_internal_metadata.mark_restored).parameters) == ["event"]
    assert list(inspect.signature(api_server._validate_session_initialization_events).parameters) == ["events"]
    made = inspect.getsource(ApiServer._register_production_endpoints)
    for done in ("_validate_session_initialization_events(req.events)", "session=session, event=mark_restored(event)"):
        assert done in made, (
            "ADK's server creates sessions with events in another way; see adk_chat/gateway/imports.py."
        )


def test_the_dev_ui_is_where_it_was() -> None:
    assert "</body>" in (seams.DEV_UI / "index.html").read_text()


def test_the_server_keeps_its_traces_where_we_let_go_of_them() -> None:
    assert (ApiServer._serves_debug_trace_endpoints, DevServer._serves_debug_trace_endpoints) == (False, True)
    made = inspect.getsource(ApiServer.get_fast_api_app)
    assert "self._trace_dict = trace_dict" in made
    assert "self._session_trace_dict = session_trace_dict" in made
    assert "self._memory_exporter = memory_exporter" in made
    exporter = InMemoryExporter({})
    assert exporter._spans == []
    assert "self._spans.extend(spans)" in inspect.getsource(InMemoryExporter.export)


def test_uvicorn_times_idle_connections_where_we_stop_the_timer() -> None:
    made = inspect.getsource(AutoHTTPProtocol)
    assert "self.timeout_keep_alive_task = self.loop.call_later(" in made, (
        "uvicorn sets its keep-alive timer in another way; see Connection in adk_chat/gateway/seams.py, which may no "
        "longer be needed."
    )
