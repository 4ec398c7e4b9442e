"""OpenTelemetry spans of an agent that runs under a journal: each is emitted once, at the end of the turn.

Every attempt makes them again, with the same ids; those of the one that comes to the end are emitted.
"""

import copy
import time
import weakref
from typing import Any

from opentelemetry import trace
from opentelemetry.sdk.trace import Tracer
from opentelemetry.sdk.trace.id_generator import IdGenerator
from opentelemetry.trace import Span
from typing_extensions import override

from adk_chat.durable import seams
from adk_chat.durable.journal import Journal

_NS = 1_000_000_000
_start_span = Tracer.start_span


class _JournalIds(IdGenerator):
    def __init__(self, journal: Journal) -> None:
        self._journal = journal

    @override
    def generate_trace_id(self) -> int:
        return self._journal.new_span_id().int

    @override
    def generate_span_id(self) -> int:
        return self._journal.new_span_id().int >> 64


def start_span(self: Tracer, *args: Any, **options: Any) -> Span:
    """See `Tracer.start_span`."""
    journal = Journal.current()
    if journal is None:
        return _start_span(self, *args, **options)
    tracer = copy.copy(self)
    tracer.id_generator = _JournalIds(journal)
    if journal.resumed:
        # What is replayed takes no time: the times of the journal are those at which it happened.
        options.setdefault("start_time", int(journal.time() * _NS))
    span = _start_span(tracer, *args, **options)
    end = span.end
    at_end = journal.at_end
    # Whoever collects spans may keep them for long, and what they hold with them.
    attempt = weakref.ref(journal)

    def end_once(end_time: int | None = None) -> None:
        journal = attempt()
        replayed = journal is not None and journal.resumed
        now = end_time or (int(journal.time() * _NS) if journal is not None and replayed else time.time_ns())
        at_end.do(lambda: end(now))

    span.end = end_once  # type: ignore[method-assign]
    return span


def are_recorded() -> bool:
    """Whether anybody records the span that the caller is in, or what is logged about it."""
    return trace.get_current_span().is_recording() or seams.logs_are_recorded()


def install() -> None:
    """Let OpenTelemetry's SDK make spans by way of a journal, and ADK describe requests only to who records them."""
    Tracer.start_span = start_span  # type: ignore[method-assign]
    seams.describe_requests_if(are_recorded)
