"""OpenTelemetry spans of an agent that runs under a journal: each is emitted once, and not again on a replay.

Ids of spans are the same in each attempt, so those of a later one belong to what an earlier one has emitted.
"""

import copy
import weakref
from typing import Any

from opentelemetry.sdk.trace import Tracer
from opentelemetry.sdk.trace.id_generator import IdGenerator
from opentelemetry.trace import Span
from typing_extensions import override

from adk_chat.durable.journal import Journal

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
    span = _start_span(tracer, *args, **options)
    end = span.end
    # Whoever collects spans may keep them for long.
    attempt = weakref.ref(journal)

    def end_unless_replaying(end_time: int | None = None) -> None:
        # An attempt that is over will be made again, and comes here again.
        journal = attempt()
        if journal is not None and not journal.is_replaying:
            end(end_time)

    span.end = end_unless_replaying  # type: ignore[method-assign]
    return span


Tracer.start_span = start_span  # type: ignore[method-assign]
