"""Runs a scenario under ADK's own InMemoryRunner and under the service, and says what either made of it."""

import json
from dataclasses import dataclass
from typing import Any

import httpx
from google.adk.events.event import Event
from google.adk.runners import InMemoryRunner

from tests.fidelity import run
from tests.fidelity.scenario import Scenario
from tests.support import Json, unique, until

_SESSION = "session"
_SCOPES = ("app:", "user:")


@dataclass
class Outcome:
    """What a scenario came to, with ids numbered and without times."""

    events: list[Json]
    """Those that are stored, in order."""
    state: Json
    failed: list[bool]
    """Whether each message was answered with an error."""
    callbacks: dict[str, list[str]]
    executions: dict[str, int]
    asked: Json

    def compared(self, parallel: bool) -> Json:
        """What has to be equal."""
        events = self.events
        if parallel:
            events = sorted(events, key=lambda event: event.get("branch", ""))
        return {**vars(self), "events": events}


async def under_adk(scenario: Scenario, streaming: bool) -> Outcome:
    """Run it as ADK runs it."""
    user = unique("user")
    noted = run.runs[user] = run.Run()
    runner = InMemoryRunner(app=scenario.app)
    service = runner.session_service
    app = scenario.app.name
    await service.create_session(app_name=app, user_id=user, session_id=_SESSION)
    failed = []
    for number, say in enumerate(scenario.messages):
        noted.begin(str(number))
        session = await service.get_session(app_name=app, user_id=user, session_id=_SESSION)
        assert session is not None
        events = session.events
        try:
            async for _ in runner.run_async(
                user_id=user,
                session_id=_SESSION,
                invocation_id=events[-1].invocation_id if say.resume else None,
                new_message=say.content(events),
                state_delta=say.state_delta,
                run_config=say.config(streaming),
            ):
                pass
            failed.append(False)
        except Exception:
            failed.append(True)
    session = await service.get_session(app_name=app, user_id=user, session_id=_SESSION)
    assert session is not None
    await runner.close()
    return _outcome(noted, failed, [_json(event) for event in session.events], session.state)


async def under_restate(
    scenario: Scenario, http: httpx.AsyncClient, streaming: bool, fail: tuple[int, int] | None = None
) -> tuple[Outcome, run.Run]:
    """Run it as a client of the service would.

    Args:
        scenario: the scenario.
        http: a client of the Restate ingress.
        streaming: whether the models stream.
        fail: in which turn the first attempt is to fail, and after how many journal entries.
    """
    user = unique("user")
    noted = run.runs[user] = run.Run(fail=fail)
    where = {"session_id": _SESSION, "app_name": scenario.app.name}
    failed = []
    for say in scenario.messages:
        session = (await http.post(f"/Chat/{user}/get_session", json=where)).json()
        events = [Event.model_validate(event) for event in (session or {}).get("events", [])]
        body: Json = {**where, "parts": _json(say.content(events))["parts"]}
        config = say.config(streaming).model_dump(mode="json", exclude_unset=True)
        body |= {"run_config": config} if config else {}
        body |= {"state_delta": say.state_delta} if say.state_delta else {}
        body |= {"invocation_id": events[-1].invocation_id} if say.resume else {}
        answer = await http.post(f"/Chat/{user}/message", json=body)
        failed.append(not answer.is_success)
    # The reply is given when it is stored, and a turn may fail after that.
    await until(noted.ended)
    answer = await http.post(f"/Chat/{user}/get_session", json=where)
    session = answer.json()
    assert session is not None, "nothing was stored"
    plain = [_json(Event.model_validate(event)) for event in session["events"]]
    return _outcome(noted, failed, plain, session["state"]), noted


def _json(model: Any) -> Json:
    dumped: Json = model.model_dump(mode="json", by_alias=True, exclude_none=True)
    return dumped


def _outcome(noted: run.Run, failed: list[bool], events: list[Json], state: Json) -> Outcome:
    for event in events:
        event.pop("timestamp")
    events = json.loads(run.normalized(json.dumps(events)))
    for event in events:
        if "longRunningToolIds" in event:
            event["longRunningToolIds"].sort()
    return Outcome(
        events=events,
        state=state,
        failed=failed,
        callbacks=noted.callbacks(),
        executions=dict(noted.executions),
        asked=noted.asked,
    )
