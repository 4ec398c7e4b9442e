"""ADK's services under a journal: what an agent does with them outside a tool is done once.

A replay reads what was read before, whatever was written since.

The agent's code finds the same service object as under ADK: its methods are wrapped on the instance. If no journal is
open, or inside a tool (whose call is a step anyway), they behave as usual.
"""

from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

from google.adk.agents.llm_agent import LlmAgent
from google.adk.apps.base_events_summarizer import BaseEventsSummarizer
from google.adk.apps.llm_event_summarizer import LlmEventSummarizer
from google.adk.artifacts.base_artifact_service import ArtifactVersion, BaseArtifactService
from google.adk.events.event import Event
from google.adk.memory.base_memory_service import SearchMemoryResponse
from google.adk.runners import Runner
from google.genai import types
from pydantic import TypeAdapter, ValidationError
from typing_extensions import override

from adk_chat.durable.adk import seams
from adk_chat.durable.adk.run_once import run_once
from adk_chat.durable.journal.journal import Journal
from adk_chat.durable.journal.keys import digest

Method = Callable[..., Coroutine[Any, Any, Any]]

_MARK = "__adk_chat_durable__"
_NOTHING: TypeAdapter[Any] = TypeAdapter(None)
_METHODS: dict[str, TypeAdapter[Any]] = {
    "save_artifact": TypeAdapter(int),
    "delete_artifact": _NOTHING,
    "list_artifact_keys": TypeAdapter(list[str]),
    "list_versions": TypeAdapter(list[int]),
    "list_artifact_versions": TypeAdapter(list[ArtifactVersion]),
    "get_artifact_version": TypeAdapter(ArtifactVersion | None),
    "add_session_to_memory": _NOTHING,
    "add_events_to_memory": _NOTHING,
    "add_memory": _NOTHING,
    "delete_memory": _NOTHING,
    "search_memory": TypeAdapter(SearchMemoryResponse),
}
"""The methods that become steps, with the types of their results. Artifacts are not copied; see `_loading`."""


def make_service_durable(service: object) -> None:
    """Wraps the methods of a service so that they are journaled, unless that is done."""
    # With an agent as a tool, the artifact calls are journaled by the context of that tool.
    if service is None or _MARK in vars(service) or isinstance(service, seams.ForwardingArtifactService):
        return
    followed: dict[str, Any] = {_MARK: True}
    for name, gives in _METHODS.items():
        if (method := getattr(service, name, None)) is not None:
            followed[name] = _as_step(name.replace("_", " "), method, gives)
    if isinstance(service, BaseArtifactService):
        followed["load_artifact"] = _loading(service.load_artifact, service.list_versions)
    vars(service).update(followed)


def _loading(load: Method, list_versions: Method) -> Method:
    """Wraps `load_artifact`: a replay loads the version that was the newest then, or nothing if there was none."""

    async def load_artifact(*args: Any, filename: str, version: int | None = None, **options: Any) -> Any:
        if Journal.current() is None:
            return await load(*args, filename=filename, version=version, **options)
        loaded: list[types.Part | None] = []

        async def make() -> dict[str, Any]:
            read = version
            if version is None:
                try:
                    read = max(await list_versions(*args, filename=filename, **options), default=None)
                except Exception:  # a user's service need not support it
                    read = None
            loaded.append(await load(*args, filename=filename, version=read, **options))
            return {"version": read, "there": loaded[0] is not None}

        read = await _once("load artifact", digest(filename, version), make, _READ)
        if loaded or not read["there"]:
            return loaded[0] if loaded else None
        return await load(*args, filename=filename, version=read["version"], **options)

    return load_artifact


_READ: TypeAdapter[Any] = TypeAdapter(dict[str, Any])


def _as_step(name: str, method: Method, gives: TypeAdapter[Any]) -> Method:
    async def call(*args: Any, **options: Any) -> Any:
        about = digest(options.get("filename", options.get("query")))
        return await _once(name, about, lambda: method(*args, **options), gives)

    return call


async def _once(name: str, about: str, make: Callable[[], Awaitable[Any]], gives: TypeAdapter[Any]) -> Any:
    def dump(made: Any) -> Any:
        return gives.dump_python(made, mode="json", by_alias=True, exclude_none=True, fallback=repr)

    def load(kept: Any) -> Any:
        try:
            return gives.validate_python(kept)
        except ValidationError:  # a user's service may return something else than ADK's
            return kept

    return await run_once(name, about, make, dump, load)


_SUMMARY: TypeAdapter[Any] = TypeAdapter(Event | None)


class DurableSummarizer(BaseEventsSummarizer):
    """An ADK summarizer whose summaries are journaled. Without one, it uses ADK's own with the agent's model."""

    def __init__(self, inner: BaseEventsSummarizer | None, agent: object) -> None:
        self._inner = inner
        self._agent = agent

    @override
    async def maybe_summarize_events(self, *, events: list[Event]) -> Event | None:
        if self._inner is None and isinstance(self._agent, LlmAgent):
            self._inner = LlmEventSummarizer(llm=self._agent.canonical_model)
        if self._inner is None:
            raise ValueError("No LlmAgent model available for event compaction summarizer.")
        summarize = _as_step("summarize events", self._inner.maybe_summarize_events, _SUMMARY)
        summary: Event | None = await summarize(events=events)
        return summary


def make_durable(runner: Runner) -> None:
    """Makes the services and the summarizer of a Runner durable."""
    make_service_durable(runner.artifact_service)
    make_service_durable(runner.memory_service)
    app = runner.app
    compaction = app.events_compaction_config if app else None
    if app is not None and compaction is not None and not isinstance(compaction.summarizer, DurableSummarizer):
        compaction.summarizer = DurableSummarizer(compaction.summarizer, app.root_agent)
