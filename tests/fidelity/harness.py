"""Runs a scenario under ADK's own InMemoryRunner and under the service, and returns both outcomes."""

import copy
import json
import re
from dataclasses import dataclass
from typing import Any, NamedTuple

import httpx
from google.adk.events.event import Event
from google.adk.runners import InMemoryRunner, Runner

from adk_chat import RestateSessionService
from adk_chat.dev.server import RestateServer
from adk_chat.protocol.events import APPENDED, TURN_FAILED
from adk_chat.protocol.stream import AnyEntry, Complete, Partial, Start, parse
from adk_chat.streaming.memory import MemoryBroker
from tests.fidelity import run
from tests.fidelity.scenario import Scenario
from tests.support import Json, unique, until


class Streams(MemoryBroker):
    """A broker that remembers everything."""

    def __init__(self) -> None:
        super().__init__()
        self._published: dict[str, list[AnyEntry]] = {}

    def publish(self, stream: str, data: bytes, *, last: bool = False) -> None:
        """See `Broker`."""
        self._published.setdefault(stream.partition(".")[0], []).append(parse(data))
        super().publish(stream, data, last=last)

    def shown(self, turn: str) -> list[Json]:
        """The events that a reader has seen at the end of a turn, including partial responses of its last attempt."""
        entries = self._published.pop(turn, [])
        attempt = [entry.attempt for entry in entries if isinstance(entry, Start)][-1:]
        seen: dict[str, Json] = {}
        for number, entry in enumerate(entries):
            if isinstance(entry, Complete):
                seen.setdefault(f"complete {entry.number}", entry.event)
            elif isinstance(entry, Partial) and [entry.attempt] == attempt:
                seen[f"partial {number}"] = entry.event
        return [_json(Event.model_validate(event)) for event in seen.values()]


class Service(NamedTuple):
    """The service under test: a client of its Restate ingress, what it publishes, and its server."""

    http: httpx.AsyncClient
    streams: Streams
    server: RestateServer


_SESSION = "session"


@dataclass
class Outcome:
    """The outcome of a scenario."""

    events: list[Json]
    """The stored events, in order."""
    state: Json
    failed: list[bool]
    """Whether each message was answered with an error."""
    callbacks: dict[str, list[str]]
    executions: dict[str, int]
    asked: Json
    shown: list[Json]
    """The events seen live, including partial ones if the models stream."""

    def compared(self, scenario: Scenario) -> Json:
        """What must be equal: ids are numbered, and times and our own marks left out."""
        found = dict(vars(self))
        if scenario.parallel:
            # What the branches said is history to those after them, in the order in which it happened.
            for question in (question for questions in self.asked.values() for question in questions):
                question.pop("contents", None)
        for name in ("events", "shown"):
            events = [event for event in found[name] if TURN_FAILED not in event.get("customMetadata", {})]
            if scenario.parallel:
                events.sort(key=lambda event: str(event.get("branch", "")))
            if scenario.one_branch:
                events.sort(key=lambda event: str(event["author"]))
            found[name] = json.loads(run.normalized(json.dumps(events)))
            for event in found[name]:
                event.get("longRunningToolIds", []).sort()
                if event.get("customMetadata", {}).pop(APPENDED, False) and not event["customMetadata"]:
                    del event["customMetadata"]
        return found

    def forget_versions(self) -> None:
        """Ignore the versions of artifacts."""
        self.asked, self.events = (
            json.loads(re.sub(r'("[a-z]+\.txt"|"version"): \d+', r"\1: 0", json.dumps(found)))
            for found in (self.asked, self.events)
        )


_under_adk: dict[tuple[str, bool], Outcome] = {}


async def under_adk(scenario: Scenario, streaming: bool) -> Outcome:
    """The outcome under ADK alone, computed once."""
    asked = scenario.name, streaming
    if asked not in _under_adk:
        _under_adk[asked] = await run_under_adk(scenario, streaming)
    return copy.deepcopy(_under_adk[asked])


async def run_under_adk(scenario: Scenario, streaming: bool) -> Outcome:
    """Run it as ADK runs it."""
    user = unique("user")
    noted = run.runs[user] = run.Run()
    runner = InMemoryRunner(app=scenario.app)
    service = runner.session_service
    app = scenario.app.name
    await service.create_session(app_name=app, user_id=user, session_id=_SESSION)
    failed, shown = [], []
    for number, say in enumerate(scenario.messages):
        noted.begin(str(number))
        session = await service.get_session(app_name=app, user_id=user, session_id=_SESSION)
        assert session is not None
        events = session.events
        if say.rewind:
            await _rewind(runner, user, events)
        try:
            async for event in runner.run_async(
                user_id=user,
                session_id=_SESSION,
                invocation_id=events[-1].invocation_id if say.resume else None,
                new_message=say.content(events),
                state_delta=say.state_delta,
                run_config=say.config(streaming),
            ):
                shown.append(_json(event))  # noqa: PERF401  those before an exception count
            failed.append(bool(shown and shown[-1].get("errorCode")))
        except Exception:
            failed.append(True)
    session = await service.get_session(app_name=app, user_id=user, session_id=_SESSION)
    assert session is not None
    await runner.close()
    stored = [_json(event) for event in session.events]
    del run.runs[user]
    return _outcome(noted, failed, stored, session.state, shown if streaming else [])


async def under_restate(
    scenario: Scenario,
    service: Service,
    streaming: bool,
    breaks: run.Breaks | None = None,
) -> tuple[Outcome, run.Run]:
    """Run it as a client of the service would.

    Args:
        scenario: the scenario.
        service: the service.
        streaming: whether the models stream.
        breaks: where attempts at each turn break off, except for the last turn, which is the same in all scenarios.
    """
    user = unique("user")
    http, streams, _ = service
    noted = run.runs[user] = run.Run(breaks=breaks)
    where = {"session_id": _SESSION, "app_name": scenario.app.name}
    failed = []
    for number, say in enumerate(scenario.messages):
        events = []
        if breaks is not None and number == len(scenario.messages) - 1:
            await until(noted.ended)  # a turn may go on after it is answered
            noted.breaks = None
        if number:
            session = (await http.post(f"/Chat/{user}/get_session", json=where)).json()
            events = [Event.model_validate(event) for event in (session or {}).get("events", [])]
        if say.rewind:
            sessions = RestateSessionService(str(http.base_url))
            await _rewind(Runner(app=scenario.app, session_service=sessions), user, events)
        body: Json = {**where, "parts": _json(say.content(events))["parts"]}
        config = say.config(streaming).model_dump(mode="json", exclude_unset=True)
        body |= {"run_config": config} if config else {}
        body |= {"state_delta": say.state_delta} if say.state_delta else {}
        body |= {"invocation_id": events[-1].invocation_id} if say.resume else {}
        answer = await http.post(f"/Chat/{user}/message", json=body)
        failed.append(not answer.is_success)
    # The reply is sent once it is stored, and a turn may fail after that.
    await until(noted.ended)
    answer = await http.post(f"/Chat/{user}/get_session", json=where)
    session = answer.json()
    assert session is not None, "nothing was stored"
    plain = [_json(Event.model_validate(event)) for event in session["events"]]
    shown = [event for turn in noted.turns for event in streams.shown(turn)] if streaming else []
    del run.runs[user]
    return _outcome(noted, failed, plain, session["state"], shown), noted


async def _rewind(runner: Runner, user: str, events: list[Event]) -> None:
    await runner.rewind_async(user_id=user, session_id=_SESSION, rewind_before_invocation_id=events[-1].invocation_id)


def _json(model: Any) -> Json:
    dumped: Json = model.model_dump(mode="json", by_alias=True, exclude_none=True)
    return dumped


def _outcome(noted: run.Run, failed: list[bool], events: list[Json], state: Json, shown: list[Json]) -> Outcome:
    return Outcome(
        events=events,
        shown=shown,
        state=state,
        failed=failed,
        callbacks=noted.callbacks(),
        executions=dict(noted.executions),
        asked={model: [question for _, question in asked] for model, asked in noted.questions.items()},
    )
