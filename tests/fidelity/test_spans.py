"""Spans are as under ADK, and each is emitted once."""

from collections import Counter

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from tests.fidelity.harness import Service, under_adk, under_restate
from tests.fidelity.scenario import Scenario
from tests.fidelity.scenarios import SCENARIOS

CHOSEN = ("three_calls_in_one_response", "two_AgentTools_at_once", "functions_in_parallel__and_a_join", "Sequential")


@pytest.fixture(scope="module")
def exporter() -> InMemorySpanExporter:
    """Where all spans of this process go."""
    found = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(found))
    trace.set_tracer_provider(provider)
    return found


def tree(spans: tuple[ReadableSpan, ...]) -> Counter[tuple[str, str | None]]:
    """The spans of ADK with the names of their parents."""
    names = {span.context.span_id: span.name for span in spans}
    ids = [span.context.span_id for span in spans]
    assert len(ids) == len(set(ids)), "a span was emitted twice"
    return Counter((span.name, names[span.parent.span_id] if span.parent else None) for span in spans)


@pytest.mark.parametrize("scenario", [s for s in SCENARIOS if s.id in CHOSEN], ids=lambda scenario: scenario.id)
async def test_spans_are_those_of_adk(scenario: Scenario, service: Service, exporter: InMemorySpanExporter) -> None:
    exporter.clear()
    await under_adk(scenario, streaming=False)
    expected = tree(exporter.get_finished_spans())
    assert expected
    exporter.clear()
    await under_restate(scenario, *service, streaming=False)
    assert tree(exporter.get_finished_spans()) == expected
