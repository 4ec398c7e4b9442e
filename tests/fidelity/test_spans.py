"""Spans are as under ADK, and each is emitted once."""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor, TracerProvider

from tests.fidelity.harness import Service, run_under_adk, under_restate
from tests.fidelity.scenario import Scenario
from tests.fidelity.scenarios import SCENARIOS

CHOSEN = ("three_calls_in_one_response", "two_AgentTools_at_once", "functions_in_parallel__and_a_join", "Sequential")


class Collector(SpanProcessor):
    """Collects the spans that end while it is asked to."""

    def __init__(self) -> None:
        self._spans: list[ReadableSpan] | None = None

    def on_end(self, span: ReadableSpan) -> None:
        """See `SpanProcessor`."""
        if self._spans is not None:
            self._spans.append(span)

    @contextmanager
    def collecting(self) -> Iterator[list[ReadableSpan]]:
        """The spans that end meanwhile."""
        self._spans = []
        try:
            yield self._spans
        finally:
            self._spans = None


@pytest.fixture(scope="session")
def collector() -> Collector:
    """Where all spans of this process go; there can be only one."""
    provider = trace.get_tracer_provider()
    if not isinstance(provider, TracerProvider):
        provider = TracerProvider()
        trace.set_tracer_provider(provider)
    found = Collector()
    provider.add_span_processor(found)
    return found


def tree(spans: list[ReadableSpan]) -> Counter[tuple[str, str | None, tuple[str, ...]]]:
    """ADK's spans with the names of their parents and their attributes."""
    names = {span.context.span_id: span.name for span in spans}
    ids = [span.context.span_id for span in spans]
    assert len(ids) == len(set(ids)), "a span was emitted twice"
    return Counter(
        (span.name, names[span.parent.span_id] if span.parent else None, tuple(sorted(span.attributes or {})))
        for span in spans
    )


@pytest.mark.parametrize("scenario", [s for s in SCENARIOS if s.id in CHOSEN], ids=lambda scenario: scenario.id)
async def test_spans_are_those_of_adk(
    scenario: Scenario, service: Service, collector: Collector, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT", "SPAN_ONLY")
    with collector.collecting() as under:
        await run_under_adk(scenario, streaming=False)
    with collector.collecting() as emitted:
        await under_restate(scenario, service, streaming=False)
    models = [span for span in under if "gen_ai.request.model" in (span.attributes or {})]
    assert all("gen_ai.input.messages" in (span.attributes or {}) for span in models)
    assert under
    assert tree(emitted) == tree(under)
