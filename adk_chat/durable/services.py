"""ADK's services under a journal: what an agent's code does through them outside a tool is done once.

Where no journal is open they do what they do without Restate; nor is one open in a tool, whose call is a step anyway.
"""

import copy
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from google.adk.agents.llm_agent import LlmAgent
from google.adk.apps.base_events_summarizer import BaseEventsSummarizer
from google.adk.apps.llm_event_summarizer import LlmEventSummarizer
from google.adk.events.event import Event
from google.adk.runners import Runner
from pydantic import TypeAdapter
from typing_extensions import override

from adk_chat.durable.journal import Journal
from adk_chat.durable.keys import digest

S = TypeVar("S")
Method = Callable[..., Coroutine[Any, Any, Any]]

_MARK = "__adk_chat_durable__"
_NOTHING: TypeAdapter[Any] = TypeAdapter(None)
_WRITES: dict[str, TypeAdapter[Any]] = {
    "save_artifact": TypeAdapter(int),
    "delete_artifact": _NOTHING,
    "add_session_to_memory": _NOTHING,
    "add_events_to_memory": _NOTHING,
    "add_memory": _NOTHING,
    "delete_memory": _NOTHING,
}
"""The methods that change something, with what they give."""


def durable_service(service: S) -> S:
    """`service` with its writes as journaled steps; itself if they are."""
    if service is None or _MARK in vars(service):
        return service
    clone = copy.copy(service)
    vars(clone)[_MARK] = True
    for name, gives in _WRITES.items():
        if (write := getattr(service, name, None)) is not None:
            vars(clone)[name] = _as_step(name.replace("_", " "), write, gives)
    return clone


def _as_step(name: str, method: Method, gives: TypeAdapter[Any]) -> Method:
    async def call(*args: Any, **options: Any) -> Any:
        journal = Journal.current()
        if journal is None:
            return await method(*args, **options)

        async def step() -> bytes:
            return gives.dump_json(await method(*args, **options), by_alias=True, exclude_none=True)

        return gives.validate_json(await journal.step(name, step, digest(options.get("filename"))))

    return call


class DurableSummarizer(BaseEventsSummarizer):
    """A summarizer of ADK whose summaries are journaled steps; without one, ADK's own with the agent's model."""

    def __init__(self, inner: BaseEventsSummarizer | None, agent: object) -> None:
        self._inner = inner
        self._agent = agent

    @override
    async def maybe_summarize_events(self, *, events: list[Event]) -> Event | None:
        if self._inner is None and isinstance(self._agent, LlmAgent):
            self._inner = LlmEventSummarizer(llm=self._agent.canonical_model)
        if self._inner is None:
            raise ValueError("No LlmAgent model available for event compaction summarizer.")
        summarize = _as_step("summarize events", self._inner.maybe_summarize_events, TypeAdapter(Event | None))
        summary: Event | None = await summarize(events=events)
        return summary


def make_durable(runner: Runner) -> None:
    """Give a Runner durable services, and its app a durable summarizer."""
    runner.artifact_service = durable_service(runner.artifact_service)
    runner.memory_service = durable_service(runner.memory_service)
    app = runner.app
    compaction = app.events_compaction_config if app else None
    if app is not None and compaction is not None and not isinstance(compaction.summarizer, DurableSummarizer):
        compaction.summarizer = DurableSummarizer(compaction.summarizer, app.root_agent)
