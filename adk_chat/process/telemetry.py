"""Exports traces, metrics and logs over OTLP if the standard `OTEL_*` variables ask for it."""

import asyncio
import importlib
import importlib.util
import logging
import os
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress

from google.adk.telemetry.setup import maybe_set_otel_providers
from opentelemetry import _logs, metrics, trace
from opentelemetry.sdk._logs import LoggerProvider, LoggingHandler

from adk_chat.protocol.errors import NoAnswerError
from adk_chat.restate_api import AdminApi, AdminError
from adk_chat.restate_api.invocations import SOURCE, TURNS, WAITING

_QUERY_SECONDS = 2
_STOP_SECONDS = 1.0
_ENDPOINTS = ("", "_TRACES", "_METRICS", "_LOGS")
_EXPORTER = "opentelemetry.exporter.otlp.proto.http"
_OF_EXPORTERS = ("opentelemetry.", "urllib3.", "requests.")
"""Loggers of the exporters."""


class TelemetryError(Exception):
    """What the variables ask for is not possible."""


def is_asked_for() -> bool:
    """Returns whether a variable names an exporter's target."""
    return any(os.environ.get(f"OTEL_EXPORTER_OTLP{signal}_ENDPOINT") for signal in _ENDPOINTS)


def check() -> None:
    """Checks that what is asked for is installed.

    Raises:
        TelemetryError: if it is not.
    """
    if is_asked_for() and not _is_installed():
        raise TelemetryError(
            "OTEL_EXPORTER_OTLP_ENDPOINT asks for telemetry, and the exporter is not installed: pip install "
            "'adk-chat[otel]', or opentelemetry-exporter-otlp-proto-http."
        )


def start(*, beside_adk: bool) -> None:
    """Starts to export spans, metrics and log records, if that is asked for.

    Args:
        beside_adk: whether ADK's own server in this process already exports the first two.
    """
    if not is_asked_for():
        return
    if not beside_adk:
        maybe_set_otel_providers()
        with suppress(ImportError):  # as ADK's server does
            google_genai = importlib.import_module("opentelemetry.instrumentation.google_genai")
            google_genai.GoogleGenAiSdkInstrumentor().instrument()
    provider = _logs.get_logger_provider()
    if isinstance(provider, LoggerProvider):
        handler = LoggingHandler(logger_provider=provider)
        # Exporting what an exporter logs about its own failure would fail too, and never end.
        handler.addFilter(lambda record: not record.name.startswith(_OF_EXPORTERS))
        logging.getLogger().addHandler(handler)


def measure_waiting(admin_url: str, headers: Mapping[str, str]) -> None:
    """Measures how many turns wait, and for what, by asking Restate's admin API at each export."""

    def counted(condition: str) -> Callable[[metrics.CallbackOptions], Iterable[metrics.Observation]]:
        def count(_: metrics.CallbackOptions) -> Iterable[metrics.Observation]:
            with suppress(NoAnswerError, AdminError):  # then there is no data point this time
                turns = admin.count(f"{SOURCE} WHERE {TURNS} AND {condition}")
                yield metrics.Observation(asyncio.run(turns))  # the exporter calls this in its own thread

        return count

    if is_asked_for():
        admin = AdminApi(admin_url, headers, seconds=_QUERY_SECONDS, attempts=1)
        gauge = metrics.get_meter("adk_chat").create_observable_gauge
        queued, waiting = counted("status = 'pending'"), counted(WAITING)
        gauge("adk_chat.turns.queued", [queued], "{turn}", "Turns waiting for another turn of their session.")
        gauge("adk_chat.turns.waiting", [waiting], "{turn}", "Turns waiting for one of Restate's slots.")


def stop() -> None:
    """Exports what is left. Returns within a second: what a collector has not taken by then is dropped.

    The SDK does not keep to its timeouts, so each provider is shut down in a thread that nobody waits for.
    """
    threads = [
        threading.Thread(target=shutdown, daemon=True)
        for provider in (trace.get_tracer_provider(), metrics.get_meter_provider(), _logs.get_logger_provider())
        if (shutdown := getattr(provider, "shutdown", None)) is not None
    ]
    end = time.monotonic() + _STOP_SECONDS
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(max(0.0, end - time.monotonic()))


def _is_installed() -> bool:
    try:
        return importlib.util.find_spec(_EXPORTER) is not None
    except ModuleNotFoundError:
        return False
