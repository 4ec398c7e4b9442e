"""OpenTelemetry spans of an agent that runs under a journal. Each is exported once, at the end of the turn.

Every attempt creates them again, with the same ids. Those of the last attempt are exported.
"""

import copy
import time
import weakref
from collections.abc import MutableMapping
from typing import Any

from google.adk.models.llm_request import LlmRequest
from opentelemetry import trace
from opentelemetry.sdk.trace import Tracer
from opentelemetry.sdk.trace.id_generator import IdGenerator
from opentelemetry.trace import Span
from typing_extensions import override

from adk_chat.durable.adk import seams
from adk_chat.durable.journal.journal import Journal

_NS = 1_000_000_000


class _JournalIds(IdGenerator):
    def __init__(self, journal: Journal) -> None:
        self._journal = journal

    @override
    def generate_trace_id(self) -> int:
        return self._journal.new_span_id().int

    @override
    def generate_span_id(self) -> int:
        return self._journal.new_span_id().int >> 64


def replayed_spans(start_span: Any) -> Any:
    """Makes `Tracer.start_span` start spans with the ids of the journal, which end once."""

    def start_replayed_span(self: Tracer, *args: Any, **options: Any) -> Span:
        journal = Journal.current()
        if journal is None:
            plain: Span = start_span(self, *args, **options)
            return plain
        tracer = copy.copy(self)
        tracer.id_generator = _JournalIds(journal)
        if journal.resumed:
            # A replay takes no time: the journal has the times at which things happened.
            options.setdefault("start_time", int(journal.time() * _NS))
        span: Span = start_span(tracer, *args, **options)
        end = span.end
        at_end = journal.at_end
        # A collector may keep a span, and what it holds, for a long time.
        attempt = weakref.ref(journal)

        def end_once(end_time: int | None = None) -> None:
            journal = attempt()
            replayed = journal is not None and journal.resumed
            now = end_time or (int(journal.time() * _NS) if journal is not None and replayed else time.time_ns())
            at_end.do(lambda: end(now))

        span.end = end_once  # type: ignore[method-assign]
        return span

    return start_replayed_span


def described_if_recorded(describe: Any) -> Any:
    """Makes ADK describe a model's request for spans and logs only if somebody records them."""

    def describe_if_recorded(attributes: MutableMapping[str, Any], request: LlmRequest) -> None:
        if trace.get_current_span().is_recording() or seams.logs_are_recorded():
            describe(attributes, request)

    return describe_if_recorded
