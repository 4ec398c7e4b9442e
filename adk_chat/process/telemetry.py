"""Exports traces, metrics and logs over OTLP if the standard `OTEL_*` variables ask for it. Serves metrics too."""

import asyncio
import importlib
import importlib.util
import logging
import math
import os
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from typing import Any

from google.adk.telemetry.setup import maybe_set_otel_providers
from opentelemetry import _logs, metrics, trace
from opentelemetry.sdk._logs import LoggerProvider, LoggingHandler
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import MetricReader, PeriodicExportingMetricReader

from adk_chat.process.workers import worker_number
from adk_chat.protocol.errors import NoAnswerError
from adk_chat.restate_api import AdminApi, AdminError
from adk_chat.restate_api.invocations import SOURCE, STATUS, TURNS, status_of

BUCKETS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 900.0, 3600.0)
"""The boundaries of histograms of seconds. OpenTelemetry's default is for milliseconds."""
_QUERY_SECONDS = 2
_COUNTED_SECONDS = 1.0
"""How long the numbers of turns are cached: all gauges of one export come from one query."""
_STOP_SECONDS = 1.0
_SIGNALS = ("_TRACES", "_METRICS", "_LOGS")
_EXPORTER = "opentelemetry.exporter.otlp.proto.http"
_PROMETHEUS = "opentelemetry.exporter.prometheus"
_OF_EXPORTERS = ("opentelemetry.", "urllib3.", "requests.")
"""Loggers of the exporters."""
_STATES = {
    "queued": "Turns waiting for another turn of their session.",
    "waiting": "Turns waiting for one of Restate's slots.",
    "retrying": "Turns whose endpoint is unreachable, or whose handler fails.",
    "paused": "Turns that Restate has given up retrying. They block their sessions.",
}

_meter = metrics.get_meter("adk_chat")


class TelemetryError(Exception):
    """What the variables ask for is not possible."""


def is_asked_for(*signals: str) -> bool:
    """Returns whether a variable names an exporter's target, for any signal or for one of these."""
    return any(os.environ.get(f"OTEL_EXPORTER_OTLP{signal}_ENDPOINT") for signal in ("", *(signals or _SIGNALS)))


def check(metrics_port: int | None = None) -> None:
    """Checks that what is asked for is installed.

    Raises:
        TelemetryError: if it is not.
    """
    if metrics_port is not None and not _is_installed(_PROMETHEUS):
        raise TelemetryError(
            f"Metrics for Prometheus on port {metrics_port} need a package that is not installed: pip install "
            "'adk-chat[prometheus]'."
        )
    if is_asked_for() and not _is_installed(_EXPORTER):
        raise TelemetryError(
            "OTEL_EXPORTER_OTLP_ENDPOINT asks for telemetry, and the exporter is not installed: pip install "
            "'adk-chat[otel]', or opentelemetry-exporter-otlp-proto-http."
        )


def expose(host: str, port: int | None) -> None:
    """Serves metrics to Prometheus, at `http://host:port/metrics`, if there is a port.

    Of several worker processes, the one with number n uses port + n. ADK's server makes a provider of metrics if there
    is none, so this comes before it.

    Raises:
        TelemetryError: if the port is taken.
    """
    if port is None:
        return
    # Imported late: it is an extra.
    prometheus = importlib.import_module("prometheus_client")
    port += worker_number()
    try:
        prometheus.start_http_server(port, host)
    except OSError as error:
        raise TelemetryError(
            f"Metrics cannot be served on {host}:{port}: {error.strerror}. Choose another port with --metrics-port."
        ) from error
    # Without the scope's labels: they are the same for all of ours.
    reader: MetricReader = importlib.import_module(_PROMETHEUS).PrometheusMetricReader(scope_info_enabled=False)
    metrics.set_meter_provider(MeterProvider([reader, *_pushed()]))


def _pushed() -> list[MetricReader]:
    """Returns what exports metrics over OTLP, if that is asked for."""
    if not is_asked_for("_METRICS"):
        return []
    exporter: Any = importlib.import_module(f"{_EXPORTER}.metric_exporter")
    return [PeriodicExportingMetricReader(exporter.OTLPMetricExporter())]


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


def measure_turns(admin_url: str, headers: Mapping[str, str]) -> None:
    """Measures how many turns of the whole service wait, and for what, by asking Restate's admin API at each export."""
    counts = _Counts(AdminApi(admin_url, headers, seconds=_QUERY_SECONDS, attempts=1))
    for state, said in _STATES.items():
        _meter.create_observable_gauge(f"adk_chat.turns.{state}", [counts.of(state)], "{turn}", said)


class _Counts:
    """The numbers of turns by state, read at most once a second."""

    def __init__(self, admin: AdminApi) -> None:
        self._admin = admin
        self._read_at = -math.inf
        self._counts: Counter[str] | None = None

    def of(self, state: str) -> Callable[[metrics.CallbackOptions], Iterable[metrics.Observation]]:
        """Returns a callback that observes the number of turns in a state."""

        def observe(_: metrics.CallbackOptions) -> Iterable[metrics.Observation]:
            if time.monotonic() >= self._read_at + _COUNTED_SECONDS:
                self._counts = asyncio.run(self._read())  # the exporter calls this in its own thread
                self._read_at = time.monotonic()
            if self._counts is not None:
                yield metrics.Observation(self._counts[state])

        return observe

    async def _read(self) -> Counter[str] | None:
        """Returns None if nobody answers; then there are no data points this time."""
        try:
            rows = await self._admin.query(
                f"SELECT {STATUS}, count(*) AS number FROM {SOURCE} WHERE {TURNS} AND status != 'completed' GROUP BY 1"
            )
        except (NoAnswerError, AdminError):
            return None
        finally:
            await self._admin.close()
        counts: Counter[str] = Counter()
        for row in rows:
            counts[status_of(row["status"])] += row["number"]
        return counts


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


def _is_installed(package: str) -> bool:
    try:
        return importlib.util.find_spec(package) is not None
    except ModuleNotFoundError:
        return False
