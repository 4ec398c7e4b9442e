"""The traces that are kept for the dev UI."""

from typing import Any

from google.adk.cli.api_server import ApiServerSpanExporter, InMemoryExporter
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor

from adk_chat.gateway.traces import NewestTraces


def test_only_the_newest_are_kept() -> None:
    events: dict[str, Any] = {}
    sessions: dict[str, list[int]] = {}
    kept = InMemoryExporter(sessions)
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(ApiServerSpanExporter(events)))
    provider.add_span_processor(SimpleSpanProcessor(kept))
    provider.add_span_processor(NewestTraces(kept._spans, events, sessions, most_bytes=100_000))
    for number in range(300):
        said = {"session_id": f"s{number // 3 if number else 0}", "event_id": f"e{number}", "llm_request": "x" * 8_000}
        attributes = {f"gcp.vertex.agent.{name}": text for name, text in said.items()}
        provider.get_tracer("test").start_span("call_llm", attributes=attributes).end()
    assert (len(kept._spans), len(events)) == (9, 9)
    assert len(sessions) <= 9
    assert list(events)[-1] == "e299"
    assert len(kept.get_finished_spans("s99")) == 3
