"""ADK's session contract, each line against a real server, inside a handler and through the ingress."""

from collections.abc import AsyncIterator, Callable
from typing import Any

import httpx
import pytest
import pytest_asyncio
from google.adk.agents.base_agent import BaseAgent
from google.adk.errors import StaleSessionError
from google.adk.errors.already_exists_error import AlreadyExistsError
from google.adk.errors.session_not_found_error import SessionNotFoundError
from google.adk.events.event import Event
from google.adk.events.event_actions import EventActions
from google.adk.runners import Runner
from google.adk.sessions.base_session_service import BaseSessionService, GetSessionConfig
from google.adk.sessions.in_memory_session_service import InMemorySessionService
from google.adk.sessions.session import Session
from google.genai import types

from adk_chat import RestateSessionService
from adk_chat.dev.server import RestateServer
from adk_chat.protocol.errors import BadRequestError
from adk_chat.protocol.sessions import CreateSession
from tests.sessions.probe import Check, checks
from tests.support import unique


def contract(check: Check) -> Check:
    """Register a line of the contract."""
    checks[check.__name__] = check
    return check


def event(text: str = "hello", time: float = 1.0, **fields: Any) -> Event:
    content = types.Content(role="user", parts=[types.Part(text=text)])
    return Event(author="user", invocation_id="i", content=content, timestamp=time, **fields)


def delta(**state: Any) -> EventActions:
    return EventActions(state_delta={key.replace("__", ":"): value for key, value in state.items()})


def texts(session: Session | None) -> list[str]:
    assert session is not None
    return [part.text or "" for e in session.events if e.content for part in e.content.parts or []]


async def get(sessions: RestateSessionService, like: Session, **config: Any) -> Session:
    found = await sessions.get_session(
        app_name=like.app_name,
        user_id=like.user_id,
        session_id=like.id,
        config=GetSessionConfig(**config) if config else None,
    )
    assert found is not None
    return found


@contract
async def ids_are_stripped(sessions: RestateSessionService, app: str, user: str) -> None:
    made = await sessions.create_session(app_name=app, user_id=user, session_id="  padded ")
    assert made.id == "padded"
    assert (await sessions.get_session(app_name=app, user_id=user, session_id=" padded")) is not None


@contract
async def a_blank_id_is_made_up(sessions: RestateSessionService, app: str, user: str) -> None:
    made = [await sessions.create_session(app_name=app, user_id=user, session_id=given) for given in (None, "", "  ")]
    assert all(session.id.strip() for session in made)
    assert len({session.id for session in made}) == 3


@contract
async def a_duplicate_is_refused(sessions: RestateSessionService, app: str, user: str) -> None:
    await sessions.create_session(app_name=app, user_id=user, session_id="s", state={"first": True})
    for same in ("s", " s "):
        with pytest.raises(AlreadyExistsError, match="already exists"):
            await sessions.create_session(app_name=app, user_id=user, session_id=same, state={"app:x": 1, "user:x": 1})
    found = await sessions.get_session(app_name=app, user_id=user, session_id="s")
    assert found is not None
    assert found.state == {"first": True}


@contract
async def same_id_elsewhere_is_another_session(sessions: RestateSessionService, app: str, user: str) -> None:
    here = await sessions.create_session(app_name=app, user_id=user, session_id="s", state={"at": "here"})
    there = await sessions.create_session(app_name=app + "2", user_id=user, session_id="s", state={"at": "app"})
    other = await sessions.create_session(app_name=app, user_id=user + "2", session_id="s", state={"at": "user"})
    await sessions.append_event(there, event())
    assert [(await get(sessions, s)).state["at"] for s in (here, there, other)] == ["here", "app", "user"]
    assert [len((await get(sessions, s)).events) for s in (here, there, other)] == [0, 1, 0]


@contract
async def scoped_state_is_shared_and_merged(sessions: RestateSessionService, app: str, user: str) -> None:
    state = {"app:a": 1, "user:u": 2, "temp:t": 3, "s": 4}
    first = await sessions.create_session(app_name=app, user_id=user, session_id="1", state=state)
    assert first.state == {"app:a": 1, "user:u": 2, "s": 4}
    second = await sessions.create_session(app_name=app, user_id=user, session_id="2")
    assert second.state == {"app:a": 1, "user:u": 2}
    other = await sessions.create_session(app_name=app, user_id=user + "2", session_id="1")
    assert other.state == {"app:a": 1}
    await sessions.append_event(second, event(actions=delta(app__a=10, user__u=20, s=40)))
    assert (await get(sessions, first)).state == {"app:a": 10, "user:u": 20, "s": 4}
    assert (await get(sessions, other)).state == {"app:a": 10}


@contract
async def last_update_time_follows(sessions: RestateSessionService, app: str, user: str) -> None:
    session = await sessions.create_session(app_name=app, user_id=user)
    assert session.last_update_time > 1_700_000_000
    assert (await get(sessions, session)).last_update_time == session.last_update_time
    await sessions.append_event(session, event(time=1_900_000_000.5))
    assert session.last_update_time == (await get(sessions, session)).last_update_time == 1_900_000_000.5


@contract
async def a_missing_session_is_none(sessions: RestateSessionService, app: str, user: str) -> None:
    for missing in ("nope", "", " "):
        assert await sessions.get_session(app_name=app, user_id=user, session_id=missing) is None


@contract
async def parts_of_the_history_can_be_read(sessions: RestateSessionService, app: str, user: str) -> None:
    session = await sessions.create_session(app_name=app, user_id=user, state={"k": "v"})
    for number in range(1, 6):
        await sessions.append_event(session, event(str(number), time=float(number)))
    none = await get(sessions, session, num_recent_events=0)
    assert (none.events, none.state) == ([], {"k": "v"})
    assert texts(await get(sessions, session, num_recent_events=2)) == ["4", "5"]
    assert texts(await get(sessions, session, num_recent_events=9)) == ["1", "2", "3", "4", "5"]
    assert texts(await get(sessions, session, after_timestamp=3.0)) == ["3", "4", "5"]
    assert texts(await get(sessions, session, after_timestamp=6.0)) == []
    assert texts(await get(sessions, session, num_recent_events=4, after_timestamp=4.0)) == ["4", "5"]
    assert texts(await get(sessions, session, num_recent_events=1, after_timestamp=2.0)) == ["5"]
    await sessions.append_event(none, event("6", time=6.0))
    assert texts(await get(sessions, session)) == ["1", "2", "3", "4", "5", "6"]
    with pytest.raises(ValueError, match="num_recent_events"):
        GetSessionConfig(num_recent_events=-1)


@contract
async def a_returned_session_is_a_copy(sessions: RestateSessionService, app: str, user: str) -> None:
    session = await sessions.create_session(app_name=app, user_id=user, state={"list": [1]})
    session.state["list"].append(2)
    session.state["more"] = True
    session.events.append(event())
    found = await get(sessions, session)
    assert (found.state, found.events) == ({"list": [1]}, [])


@contract
async def lists_are_in_order_and_without_events(sessions: RestateSessionService, app: str, user: str) -> None:
    made = {}
    for number, time in (("b", 3.0), ("a", 3.0), ("c", 2.0)):
        made[number] = await sessions.create_session(app_name=app, user_id=user, session_id=number, state={"n": number})
        await sessions.append_event(made[number], event(time=time, actions=delta(user__u=1, app__a=2)))
    await sessions.create_session(app_name=app + "2", user_id=user, session_id="elsewhere")
    listed = (await sessions.list_sessions(app_name=app, user_id=user)).sessions
    assert [session.id for session in listed] == ["c", "a", "b"]
    assert [session.state for session in listed] == [{"n": n, "user:u": 1, "app:a": 2} for n in ("c", "a", "b")]
    assert all(session.events == [] and session.user_id == user for session in listed)
    assert (await sessions.list_sessions(app_name=app, user_id=user + "nobody")).sessions == []


@contract
async def deleting_is_scoped_and_idempotent(sessions: RestateSessionService, app: str, user: str) -> None:
    state = {"app:a": 1, "user:u": 2}
    here = await sessions.create_session(app_name=app, user_id=user, session_id="s", state=state)
    there = await sessions.create_session(app_name=app + "2", user_id=user, session_id="s")
    for _ in range(2):
        await sessions.delete_session(app_name=app, user_id=user, session_id=" s ")
    await sessions.delete_session(app_name=app, user_id=user, session_id="never was")
    assert await sessions.get_session(app_name=app, user_id=user, session_id="s") is None
    assert (await sessions.list_sessions(app_name=app, user_id=user)).sessions == []
    assert (await get(sessions, there)).id == "s"
    again = await sessions.create_session(app_name=app, user_id=user, session_id=here.id)
    assert again.state == state


@contract
async def partial_events_are_not_stored(sessions: RestateSessionService, app: str, user: str) -> None:
    session = await sessions.create_session(app_name=app, user_id=user)
    await sessions.append_event(session, event(partial=True))
    unknown = Session(id="unknown", app_name=app, user_id=user)
    await sessions.append_event(unknown, event(partial=True))
    assert session.events == unknown.events == (await get(sessions, session)).events == []


@contract
async def an_append_to_nothing_brings_nothing_back(sessions: RestateSessionService, app: str, user: str) -> None:
    deleted = await sessions.create_session(app_name=app, user_id=user, session_id="deleted")
    await sessions.delete_session(app_name=app, user_id=user, session_id="deleted")
    for gone in (deleted, Session(id="unknown", app_name=app, user_id=user)):
        with pytest.raises(SessionNotFoundError):
            await sessions.append_event(gone, event(actions=delta(user__u=1)))
        assert await sessions.get_session(app_name=app, user_id=user, session_id=gone.id) is None
        assert gone.events == []
    assert await sessions.get_user_state(app_name=app, user_id=user) == {}


@contract
async def temp_state_lives_once_and_is_not_stored(sessions: RestateSessionService, app: str, user: str) -> None:
    session = await sessions.create_session(app_name=app, user_id=user)
    appended = await sessions.append_event(session, event(actions=delta(temp__t=1, s=2)))
    assert session.state == {"temp:t": 1, "s": 2}
    assert appended.actions.state_delta == session.events[0].actions.state_delta == {"s": 2}
    found = await get(sessions, session)
    assert (found.state, found.events[0].actions.state_delta) == ({"s": 2}, {"s": 2})


@contract
async def a_delta_is_a_plain_update(sessions: RestateSessionService, app: str, user: str) -> None:
    session = await sessions.create_session(app_name=app, user_id=user, state={"d": {"x": 1}, "gone": 1, "kept": 1})
    await sessions.append_event(session, event(actions=delta(d={"y": 2}, gone=None)))
    assert (await get(sessions, session)).state == {"d": {"y": 2}, "gone": None, "kept": 1}


@contract
async def an_equal_event_is_stored_once(sessions: RestateSessionService, app: str, user: str) -> None:
    session = await sessions.create_session(app_name=app, user_id=user)
    once = event("same", id="id", time=5.0, actions=delta(n=1))
    await sessions.append_event(session, once.model_copy(deep=True))
    await sessions.append_event(session, event("between", time=6.0, actions=delta(n=2)))
    await sessions.append_event(session, once.model_copy(deep=True))
    await sessions.append_event(session, event("different", id="id", time=7.0))
    assert texts(await get(sessions, session)) == texts(session) == ["same", "between", "different"]
    assert (await get(sessions, session)).state == {"n": 2}


@contract
async def a_session_is_imported_whole(sessions: RestateSessionService, app: str, user: str) -> None:
    events = [event(str(number), time=float(number)) for number in range(60)]
    events[7].actions = delta(n=1, user__u=1, app__a=1, temp__t=1)
    events[9].actions = delta(n=2)
    started = {"n": 0, "kept": True}
    made = await sessions.import_session(
        app_name=app, user_id=user, state=started, session_id="s", events=[*events, event("part", partial=True)]
    )
    found = await get(sessions, made)
    assert texts(found) == texts(made) == [str(number) for number in range(60)]
    assert (found.state, found.last_update_time) == ({"n": 2, "kept": True, "user:u": 1, "app:a": 1}, 59.0)
    assert "temp:t" not in found.events[7].actions.state_delta
    with pytest.raises(AlreadyExistsError):
        await sessions.import_session(app_name=app, user_id=user, session_id="s", events=events)
    await sessions.append_event(made, event("after", time=60.0))
    assert texts(await get(sessions, made)) == [*texts(found), "after"]


@contract
async def an_outdated_copy_is_refused(sessions: RestateSessionService, app: str, user: str) -> None:
    session = await sessions.create_session(app_name=app, user_id=user)
    other = await get(sessions, session)
    reread = Session.model_validate_json((await get(sessions, session)).model_dump_json())
    await sessions.append_event(session, event("first", time=5.0))
    await sessions.append_event(session, event("second", time=6.0))
    for outdated in (other, reread):
        with pytest.raises(StaleSessionError):
            await sessions.append_event(outdated, event("late", actions=delta(s=1, user__u=1, app__a=1)))
        assert (outdated.events, outdated.state) == ([], {})
    found = await get(sessions, session)
    assert (texts(found), found.state) == (["first", "second"], {})
    await sessions.append_event(Session.model_validate_json(found.model_dump_json()), event("third", time=7.0))
    assert texts(await get(sessions, session)) == ["first", "second", "third"]


@contract
async def order_is_append_order(sessions: RestateSessionService, app: str, user: str) -> None:
    session = await sessions.create_session(app_name=app, user_id=user)
    for text, time in (("late", 9.0), ("early", 1.0), ("middle", 5.0)):
        await sessions.append_event(session, event(text, time=time))
    assert texts(await get(sessions, session)) == ["late", "early", "middle"]


@contract
async def user_state_has_no_prefixes(sessions: RestateSessionService, app: str, user: str) -> None:
    assert await sessions.get_user_state(app_name=app, user_id=user) == {}
    await sessions.create_session(app_name=app, user_id=user, state={"user:color": "blue", "other": 1})
    assert await sessions.get_user_state(app_name=app, user_id=user) == {"color": "blue"}
    assert await sessions.get_user_state(app_name=app + "2", user_id=user) == {}


@contract
async def rich_events_come_back_equal(sessions: RestateSessionService, app: str, user: str) -> None:
    session = await sessions.create_session(app_name=app, user_id=user)
    parts = [
        types.Part(text="thinking", thought=True, thought_signature=b"\x00\xffsig"),
        types.Part.from_bytes(data=b"\xff\x00\xfe binary", mime_type="image/png"),
        types.Part(function_call=types.FunctionCall(id="c", name="f", args={"none": None, "deep": [{"x": 1.5}]})),
    ]
    rich = Event(
        author="model",
        invocation_id="i",
        branch="a.b",
        content=types.Content(role="model", parts=parts),
        long_running_tool_ids={"c"},
        custom_metadata={"k": {"none": None, "list": [1, "zwei", True]}},
        usage_metadata=types.GenerateContentResponseUsageMetadata(prompt_token_count=7),
        grounding_metadata=types.GroundingMetadata(web_search_queries=["q"]),
        error_code="E",
        error_message="said",
        actions=EventActions(artifact_delta={"file": 1}, transfer_to_agent="other", state_delta={"üñï": "✓ 日本"}),
    )
    await sessions.append_event(session, rich)
    assert (await get(sessions, session)).events == [rich]


@contract
async def any_ids_are_kept_apart(sessions: RestateSessionService, app: str, user: str) -> None:
    ids = ["a", "a::b", "a%3A%3Ab", "a/b", "ä ö", "0", "a::0", "'; --", "session_store::x"]
    for number, session_id in enumerate(ids):
        made = await sessions.create_session(app_name=app, user_id=f"{user}/ü %", session_id=session_id)
        await sessions.append_event(made, event(str(number), time=float(number)))
    for number, session_id in enumerate(ids):
        found = await sessions.get_session(app_name=app, user_id=f"{user}/ü %", session_id=session_id)
        assert found is not None
        assert found.id == session_id
        assert texts(found) == [str(number)]
    listed = (await sessions.list_sessions(app_name=app, user_id=f"{user}/ü %")).sessions
    assert [session.id for session in listed] == ids


@pytest_asyncio.fixture(params=["handler", "ingress"])
async def run(request: pytest.FixtureRequest, server: RestateServer) -> AsyncIterator[Callable[[str, str, str], Any]]:
    """Runs a check of the contract in one of the two forms of the service."""
    outside = RestateSessionService(server.ingress_url, admin_url=server.admin_url)

    async def in_handler(name: str, app: str, user: str) -> None:
        async with httpx.AsyncClient(base_url=server.ingress_url, timeout=60) as http:
            answer = await http.post(f"/Probe/{unique('probe')}/check", json=[name, app, user])
        assert answer.is_success, answer.text
        assert not answer.json(), answer.json()

    async def through_ingress(name: str, app: str, user: str) -> None:
        await checks[name](outside, app, user)

    yield in_handler if request.param == "handler" else through_ingress


@pytest.mark.parametrize("name", list(checks))
async def test_contract(run: Callable[[str, str, str], Any], name: str) -> None:
    await run(name, unique("app"), unique("user"))


async def test_no_more_events_are_taken_than_can_be_checked_while_others_wait() -> None:
    with pytest.raises(ValueError, match=r"20001 events are too many\. Send at most 20000 at once"):
        CreateSession.model_validate({"events": [{}] * 20_001})
    sessions = RestateSessionService("http://127.0.0.1:9")
    with pytest.raises(BadRequestError):
        await sessions.import_session(app_name="app", user_id="user", events=[event()] * 20_001)


async def test_a_rewind_leaves_a_key_as_it_was(server: RestateServer) -> None:
    """ADK's own writes None, and does not know the session's initial state."""
    sessions = RestateSessionService(server.ingress_url)
    rewound = await rewind(sessions)
    assert rewound.state == {"mood": "fine", "color": "red", "n": 1, "user:name": "Ada"}
    await sessions.append_event(rewound, Event(author="a", actions=EventActions(state_delta={"n": None})))
    at: dict[str, Any] = {"app_name": rewound.app_name, "user_id": rewound.user_id, "session_id": "s"}
    assert (await sessions.get_session(**at) or rewound).state["n"] is None
    own = (await rewind(InMemorySessionService())).state
    assert own == {"mood": None, "color": None, "new": None, "n": 1, "user:name": "Ada"}, "ADK has mended issue 4933"


async def rewind(sessions: BaseSessionService) -> Session:
    """A session of two invocations, without the second."""
    at: dict[str, Any] = {"app_name": unique("app"), "user_id": unique("user"), "session_id": "s"}
    session = await sessions.create_session(**at, state={"mood": "fine", "color": "red"})
    for invocation, delta in (("one", {"n": 1}), ("two", {"n": 2, "new": 1, "mood": "bad", "user:name": "Ada"})):
        event = Event(invocation_id=invocation, author="a", actions=EventActions(state_delta=delta))
        await sessions.append_event(session, event)
    runner = Runner(app_name=at["app_name"], agent=BaseAgent(name="a"), session_service=sessions)
    await runner.rewind_async(user_id=at["user_id"], session_id="s", rewind_before_invocation_id="two")
    rewound = await sessions.get_session(**at)
    assert rewound is not None
    return rewound


async def test_all_users_are_listed_through_the_admin_api(server: RestateServer) -> None:
    sessions = RestateSessionService(server.ingress_url, admin_url=server.admin_url)
    app, users = unique("app"), sorted(f"{unique('user')} %41/é" for _ in range(3))
    for number, user in enumerate(reversed(users)):
        made = await sessions.create_session(app_name=app, user_id=user, session_id=str(number))
        await sessions.append_event(made, event(time=5.0))
    listed = (await sessions.list_sessions(app_name=app)).sessions
    assert [session.user_id for session in listed] == users


async def test_outside_a_handler_the_service_asks_for_the_ingress() -> None:
    with pytest.raises(RuntimeError, match="outside a Restate handler"):
        await RestateSessionService().get_session(app_name="a", user_id="u", session_id="s")


async def test_nobody_at_the_ingress_is_said_clearly() -> None:
    with pytest.raises(ConnectionError, match="Is restate-server running"):
        await RestateSessionService("http://127.0.0.1:1").get_session(app_name="a", user_id="u", session_id="s")
