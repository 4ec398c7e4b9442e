"""What is exported over OTLP, as a collector receives it, with everything replayed at every await."""

import time
from collections import Counter
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pytest
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from adk_chat.dev.server import RestateServer
from adk_chat.endpoint import listen
from adk_chat.process import telemetry
from tests.conftest import free_port
from tests.gateway.town import Process
from tests.http_server import served
from tests.support import until

TRACE, CLIENT_SPAN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
NESTED = Counter(
    {
        ("POST /run", None): 1,
        ("invoke_workflow assistant", "POST /run"): 1,
        ("invoke_agent assistant", "invoke_workflow assistant"): 1,
        ("generate_content demo", "invoke_agent assistant"): 2,
        ("execute_tool current_time", "invoke_agent assistant"): 1,
    }
)
"""The spans of a turn, each with its parent, without FastAPI's own."""
WAITING = ("queued", "waiting", "retrying", "paused")
ENDED_SECONDS = 4.0


class Collector:
    """Keeps what it receives."""

    def __init__(self) -> None:
        self.spans: list[Any] = []
        self.metrics: dict[str, Any] = {}
        self.logs: list[str] = []
        paths = {"/v1/traces": self._traces, "/v1/metrics": self._metrics, "/v1/logs": self._logs}
        self.app = Starlette(routes=[Route(path, take, methods=["POST"]) for path, take in paths.items()])

    async def _traces(self, request: Request) -> Response:
        sent = ExportTraceServiceRequest.FromString(await request.body())
        self.spans += [span for of in sent.resource_spans for scope in of.scope_spans for span in scope.spans]
        return Response()

    async def _metrics(self, request: Request) -> Response:
        sent = ExportMetricsServiceRequest.FromString(await request.body())
        for metric in (one for of in sent.resource_metrics for scope in of.scope_metrics for one in scope.metrics):
            if metric.name.startswith("adk_chat."):
                self.metrics[metric.name] = metric
        return Response()

    async def _logs(self, request: Request) -> Response:
        sent = ExportLogsServiceRequest.FromString(await request.body())
        records = [record for of in sent.resource_logs for scope in of.scope_logs for record in scope.log_records]
        self.logs += [record.body.string_value for record in records]
        return Response()

    def nested(self, trace: str) -> Counter[tuple[str, str | None]]:
        """The spans of a trace, each with its parent."""
        spans = {span.span_id: span for span in self.spans if span.trace_id.hex() == trace}

        def shown(span: Any) -> bool:
            return not span.name.startswith("fastapi.")

        def around(span: Any) -> str | None:
            parent = spans.get(span.parent_span_id)
            return None if parent is None else parent.name if shown(parent) else around(parent)

        return Counter((span.name, around(span)) for span in spans.values() if shown(span))

    def roots(self, trace: str) -> set[str]:
        """The ids of the parents of a trace's spans that were not exported here."""
        spans = [span for span in self.spans if span.trace_id.hex() == trace]
        return {span.parent_span_id.hex() for span in spans} - {span.span_id.hex() for span in spans}

    def value(self, name: str, **attributes: str) -> int:
        """The sum of a counter's points with these attributes."""
        points = self.metrics[name].sum.data_points if name in self.metrics else []
        return sum(
            point.as_int
            for point in points
            if attributes.items() <= {pair.key: pair.value.string_value for pair in point.attributes}.items()
        )


class Exporting:
    """A service that exports to a collector."""

    def __init__(self, server: RestateServer, collector_url: str) -> None:
        environment = {"OTEL_EXPORTER_OTLP_ENDPOINT": collector_url, "OTEL_METRIC_EXPORT_INTERVAL": "100"}
        environment |= {"OTEL_BSP_SCHEDULE_DELAY": "100", "OTEL_BLRP_SCHEDULE_DELAY": "100", "GOOGLE_API_KEY": ""}
        port = str(free_port())
        over = ("--ingress-url", server.ingress_url, "--admin-url", server.admin_url)
        self.processes = [
            Process(environment, "serve", "--endpoint-port", "0", "--register", server.admin_url),
            Process(environment, "web", "--no-ui", "--port", port, *over),
        ]
        self.url = f"http://127.0.0.1:{port}"

    async def __aenter__(self) -> "Exporting":
        for process in self.processes:
            await process.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        for process in self.processes:
            await process.kill()


async def test_one_trace_each_thing_once_and_an_end_whoever_is_dead(binary: Path, tmp_path: Path) -> None:
    collector = Collector()
    async with (
        AsyncExitStack() as stack,
        RestateServer(binary, tmp_path, free_port(), free_port(), replay_always=True) as server,
    ):
        async with served(collector.app) as collector_url:
            exporting = await stack.enter_async_context(Exporting(server, collector_url))
            await run(exporting.url, traceparent=f"00-{TRACE}-{CLIENT_SPAN}-01")
            await is_exported(collector)
            assert_each_thing_once(collector)
            assert collector.nested(TRACE) == NESTED
            assert collector.roots(TRACE) == {CLIENT_SPAN}
            await run(exporting.url)
            for name in ("POST /run", "invoke_workflow assistant"):
                await until(partial(has_spans, collector, name, 2))
            (own,) = {span.trace_id.hex() for span in collector.spans if span.name == "POST /run"} - {TRACE}
            assert collector.nested(own) == NESTED, "of a client that brings no trace"
        await run(exporting.url)
        for process in exporting.processes:
            began = time.monotonic()
            process.terminate()
            assert await process.ended(10) == 0
            assert time.monotonic() - began < ENDED_SECONDS, process.arguments


async def test_dev_has_one_trace_as_well(binary: Path, tmp_path: Path) -> None:
    collector = Collector()
    async with served(collector.app) as collector_url:
        environment = {"OTEL_EXPORTER_OTLP_ENDPOINT": collector_url, "OTEL_BSP_SCHEDULE_DELAY": "100"}
        ports = {name: free_port() for name in ("port", "ingress-port", "admin-port", "endpoint-port")}
        given = [word for name, number in ports.items() for word in (f"--{name}", str(number))]
        environment |= {"GOOGLE_API_KEY": "", "RESTATE_SERVER_BIN": str(binary)}
        dev = Process(environment, "dev", *given, "--data-dir", str(tmp_path), begins=b"adk_chat is ready")
        try:
            await dev.start()
            await run(f"http://127.0.0.1:{ports['port']}")
            for name in ("POST /run", "invoke_workflow assistant"):
                await until(partial(has_spans, collector, name, 1))
            (trace,) = {span.trace_id.hex() for span in collector.spans if span.name == "POST /run"}
            assert collector.nested(trace) == NESTED
            dev.terminate()
            assert await dev.ended(10) == 0
        finally:
            await dev.kill()


async def run(url: str, **headers: str) -> None:
    """A turn with two model calls and a tool call."""
    message = {"parts": [{"text": "What time is it in Tokyo?"}]}
    body = {"appName": "assistant", "userId": "ada", "sessionId": "s", "newMessage": message}
    async with httpx.AsyncClient(base_url=url, timeout=60) as client:
        await client.post("/apps/assistant/users/ada/sessions", json={"sessionId": "s"})
        assert (await client.post("/run", json=body, headers=headers)).is_success


async def is_exported(collector: Collector) -> None:
    """Wait until everything about a turn is exported."""

    async def all_there() -> bool:
        return bool(
            collector.value("adk_chat.turns.ended", outcome="answered")
            and {f"adk_chat.turns.{state}" for state in WAITING} <= {*collector.metrics}
            and any("was answered" in line for line in collector.logs)
            and {"POST /run", "invoke_workflow assistant"} <= {span.name for span in collector.spans}
        )

    await until(all_there)


async def has_spans(collector: Collector, name: str, count: int) -> bool:
    """Whether this many spans of that name have arrived."""
    return [span.name for span in collector.spans].count(name) >= count


def assert_each_thing_once(collector: Collector) -> None:
    """For one turn, which was replayed at every await."""
    for waiting in WAITING:
        assert collector.metrics[f"adk_chat.turns.{waiting}"].gauge.data_points[0].as_int == 0
    assert collector.value("adk_chat.turns.ended") == 1
    assert collector.value("adk_chat.turns.running") == 0
    assert collector.value("adk_chat.tokens", type="output") > 0
    assert collector.metrics["adk_chat.turn.duration"].histogram.data_points[0].count == 1
    assert collector.metrics["adk_chat.turn.time_to_first_token"].histogram.data_points[0].count == 1
    assert [line for line in collector.logs if line.startswith("The turn starts")] == ["The turn starts."]


def test_metrics_for_prometheus_that_cannot_be_served_are_said(monkeypatch: pytest.MonkeyPatch) -> None:
    with listen("127.0.0.1", 0) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(telemetry.TelemetryError, match=f":{port}: Address already in use. .* --metrics-port"):
            telemetry.expose("127.0.0.1", port)
    monkeypatch.setattr(telemetry, "_PROMETHEUS", "opentelemetry.exporter.nowhere")
    telemetry.check()
    with pytest.raises(telemetry.TelemetryError, match=r"pip install 'adk-chat\[prometheus\]'"):
        telemetry.check(9464)


def test_an_exporter_that_is_not_installed_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(telemetry, "_EXPORTER", "opentelemetry.exporter.nowhere")
    telemetry.check()
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://localhost:4318")
    with pytest.raises(telemetry.TelemetryError, match=r"pip install 'adk-chat\[otel\]'"):
        telemetry.check()
