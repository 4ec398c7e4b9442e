"""The traces that ADK's server keeps for its dev UI. ADK keeps all of them; this keeps the newest."""

from collections import deque
from collections.abc import MutableMapping
from typing import Any

from google.adk.cli.api_server import ApiServer
from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor, TracerProvider
from typing_extensions import override

from adk_chat.gateway import seams

_MOST_BYTES = 8 * 1024 * 1024
"""The limit for the texts of all spans. At 29 KB per short turn, these are the newest 250 turns, fewer with long
sessions."""
_SPAN_BYTES = 2048
"""What a span takes beside its texts, about."""
_MOST_TRACES = 200
"""Per session."""


class NewestTraces(SpanProcessor):
    """Drops the oldest spans as new ones end.

    Args:
        spans: all spans that were kept, the oldest first.
        events: attributes of spans, by event id.
        sessions: trace ids, by session id.
        most_bytes: the limit.
    """

    def __init__(
        self,
        spans: list[ReadableSpan],
        events: MutableMapping[str, Any],
        sessions: MutableMapping[str, list[int]],
        most_bytes: int = _MOST_BYTES,
    ) -> None:
        self._spans = spans
        self._events = events
        self._sessions = sessions
        self._most_bytes = most_bytes
        self._sizes: deque[int] = deque()
        self._bytes = 0

    @override
    def on_end(self, span: ReadableSpan) -> None:
        """Called when a span has ended. It is kept by now."""
        said = (span.attributes or {}).values()
        self._sizes.append(_SPAN_BYTES + sum(len(text) for text in said if isinstance(text, str)))
        self._bytes += self._sizes[-1]
        while self._bytes > self._most_bytes:
            self._bytes -= self._sizes.popleft()
        del self._spans[: -len(self._sizes)]
        # Neither has more entries than there are spans.
        for kept in (self._events, self._sessions):
            while len(kept) > len(self._sizes):
                del kept[next(iter(kept))]
        attributes = span.attributes or {}
        session = attributes.get("gcp.vertex.agent.session_id") or attributes.get("gen_ai.conversation.id")
        if (traces := self._sessions.get(str(session))) is not None:
            del traces[:-_MOST_TRACES]


def keep_newest(server: ApiServer) -> None:
    """Makes an ADK server that keeps traces keep only the newest."""
    provider = trace.get_tracer_provider()
    if seams.keeps_traces(server) and isinstance(provider, TracerProvider):
        provider.add_span_processor(NewestTraces(*seams.kept_traces(server)))
