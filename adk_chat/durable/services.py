"""ADK's services under a journal: what an agent's code does through them outside a tool is done once.

What code has saved in an earlier attempt is there already when it looks for it before it saves it: it is shown what was
there then.

Where no journal is open they do what they do without Restate; nor is one open in a tool, whose call is a step anyway.
"""

import copy
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from google.adk.agents.llm_agent import LlmAgent
from google.adk.apps.base_events_summarizer import BaseEventsSummarizer
from google.adk.apps.llm_event_summarizer import LlmEventSummarizer
from google.adk.artifacts.base_artifact_service import BaseArtifactService
from google.adk.events.event import Event
from google.adk.runners import Runner
from pydantic import TypeAdapter
from typing_extensions import override

from adk_chat.durable.journal import Journal
from adk_chat.durable.keys import digest
from adk_chat.durable.memory import run

S = TypeVar("S")
Method = Callable[..., Coroutine[Any, Any, Any]]

_SAVE = "save artifact"  # and which version that is, as the label of the step
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
    if isinstance(service, BaseArtifactService):
        vars(clone)["save_artifact"] = _saving(service)
        vars(clone)["load_artifact"] = _loading(service.load_artifact)
        vars(clone)["list_artifact_keys"] = _listing(service.list_artifact_keys)
    return clone


def _about(filename: object) -> str:
    return digest(filename)


def _saved_later(filename: object) -> int | None:
    """The first version of an artifact that this code has saved in an earlier attempt, and not in this one yet."""
    journal = Journal.current()
    found = [] if journal is None else journal.vm.memory.waiting(run(_SAVE), _about(filename))
    return min((int(saved.label) for saved in found), default=None)


def _saving(service: BaseArtifactService) -> Method:
    async def save_artifact(*args: Any, filename: str, **options: Any) -> Any:
        next_version = 0
        if Journal.current() is not None and _saved_later(filename) is None:
            of: dict[str, Any] = {key: options.get(key) for key in ("app_name", "user_id", "session_id")}
            next_version = max(await service.list_versions(filename=filename, **of), default=-1) + 1
        save = _as_step(_SAVE, service.save_artifact, _WRITES["save_artifact"], str(next_version))
        return await save(*args, filename=filename, **options)

    return save_artifact


def _loading(load: Method) -> Method:
    async def load_artifact(*args: Any, filename: str, version: int | None = None, **options: Any) -> Any:
        later = _saved_later(filename)
        if later is not None and version is None:
            if later == 0:
                return None
            version = later - 1
        return await load(*args, filename=filename, version=version, **options)

    return load_artifact


def _listing(names: Method) -> Method:
    async def list_artifact_keys(*args: Any, **options: Any) -> Any:
        return [name for name in await names(*args, **options) if _saved_later(name) != 0]

    return list_artifact_keys


def _as_step(name: str, method: Method, gives: TypeAdapter[Any], label: str = "") -> Method:
    async def call(*args: Any, **options: Any) -> Any:
        journal = Journal.current()
        if journal is None:
            return await method(*args, **options)

        async def step() -> bytes:
            return gives.dump_json(await method(*args, **options), by_alias=True, exclude_none=True)

        return gives.validate_json(await journal.step(name, step, _about(options.get("filename")), label))

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
