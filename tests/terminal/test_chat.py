"""The terminal chat, on ADK's own server and on a gateway that breaks."""

import asyncio
from collections.abc import AsyncIterator

import httpx
import pytest
import pytest_asyncio
from google.adk.cli.fast_api import get_fast_api_app

from adk_chat.endpoint import listen
from tests.http_server import served
from tests.support import gates, unique
from tests.terminal.chatting import piped, terminal
from tests.terminal.fake_gateway import FakeGateway

AGENT = "from tests.support import scripted_app\napp = scripted_app({name!r})\n"


@pytest_asyncio.fixture(scope="module")
async def adk(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[str]:
    """ADK's own server, with two apps."""
    agents = tmp_path_factory.mktemp("agents")
    for name in ("first", "second"):
        (agents / name).mkdir()
        (agents / name / "agent.py").write_text(AGENT.format(name=name))
    app = get_fast_api_app(
        agents_dir=str(agents),
        web=False,
        use_local_storage=False,
        session_service_uri="memory://",
        artifact_service_uri="memory://",
    )
    async with served(app) as url:
        yield url


@pytest_asyncio.fixture
async def fake() -> AsyncIterator[tuple[FakeGateway, str]]:
    gateway = FakeGateway()
    async with served(gateway.app) as url:
        yield gateway, url


async def test_lines_from_a_pipe_are_messages_and_tools_are_shown(adk: str) -> None:
    session = unique("session")
    lines = f"hello\ntool {'x' * 200}\n\nstream one two\n"
    code, said, complained = await piped(lines, "first", "--url", adk, "--session", session)
    assert (code, complained) == (0, "")
    told = said.splitlines()
    assert told[0] == "echo hello"
    assert told[1].startswith('-> note(text="xxx')
    assert told[2].startswith('<- note: {"noted": "xxx')
    assert max(len(line) for line in told[1:3]) == 100
    assert told[3].startswith("got {'noted'")
    assert told[4:] == ["one two "]


async def test_sessions_are_begun_listed_switched_and_read(adk: str) -> None:
    user = unique("user")
    lines = "hello\n/new My title\nsecond\n/sessions\n/switch 2\n/history\n/switch nowhere\n/nonsense\n/help\nlast\n"
    code, said, complained = await piped(lines, "second", "--url", adk, "--user", user)
    told = said.splitlines()
    assert told[0] == "echo hello"
    assert told[1].startswith("Session ")
    begun = told[1].removeprefix("Session ").rstrip(".")
    assert told[3].startswith("*  1  ")
    assert told[3].endswith(f"{begun}  My title")
    assert told[4].startswith("   2  ")
    older = told[4].split()[-1]
    assert told[5:8] == [f"Session {older}.", "> hello", "echo hello"]
    assert told[-1] == "echo last"
    assert code == 0
    assert complained.splitlines() == [
        "There is no session nowhere. /sessions lists them.",
        "Unknown command. /help lists them.",
    ]
    async with httpx.AsyncClient(base_url=adk) as client:
        path = f"/apps/second/users/{user}/sessions/{older}"
        texts = [event["content"]["parts"][0]["text"] for event in (await client.get(path)).json()["events"]]
    assert texts == ["hello", "echo hello", "last", "echo last"]


async def test_the_exit_code_is_that_of_the_last_answer(adk: str) -> None:
    code, _, complained = await piped("hello\nerror\n", "first", "--url", adk)
    assert code == 1
    assert "the model is out of order" in complained
    assert (await piped("error\nhello\n/quit\nerror\n", "first", "--url", adk))[0] == 0


async def test_what_cannot_be_reached_is_said_in_a_sentence(adk: str) -> None:
    with listen("127.0.0.1", 0) as listening:
        nobody = f"http://127.0.0.1:{listening.getsockname()[1]}"
    sentences = {
        ("--url", nobody): f"No gateway answers at {nobody}. Start one with `adk-chat dev`",
        ("--url", adk): "first, second. Choose one: adk-chat chat NAME",
        ("third", "--url", adk): "no app 'third'; it has: first, second",
        ("--url", "nonsense"): "nonsense is not the URL of a gateway",
    }
    ends = await asyncio.gather(*(piped("hello\n", *arguments) for arguments in sentences))
    for (code, said, complained), sentence in zip(ends, sentences.values(), strict=True):
        assert (code, said) == (1, "")
        assert sentence in complained
        assert len(complained.splitlines()) == 1


async def test_text_appears_as_it_comes_and_once(adk: str) -> None:
    gate = unique("gate")
    gates[gate] = asyncio.Event()
    async with terminal("first", "--url", adk, NO_COLOR="1") as chat:
        await chat.shows("> ")
        chat.type(f"stream one @{gate} two")
        await chat.shows(".\none ")
        gates[gate].set()
        await chat.shows("one two \n> ")
        chat.type("/quit")
        assert await chat.code() == 0
    assert "\x1b" not in chat.screen


async def test_colour_is_for_terminals_that_want_it(adk: str) -> None:
    async with terminal("first", "--url", adk, NO_COLOR="") as chat:
        chat.type("tool a")
        await chat.shows("\x1b[2m-> note")
        chat.type("/quit")
        await chat.code()


async def test_a_restarted_answer_is_told_and_printed_again(fake: tuple[FakeGateway, str]) -> None:
    _, url = fake
    async with terminal("--url", url, NO_COLOR="1") as chat:
        chat.type("restart")
        await chat.shows("once \n(answer restarted)\ntwice upon\n")
        assert chat.screen.count("twice") == 1
        chat.type("again")
        await chat.shows("once upon a time\n")
        assert chat.screen.count("restarted") == 1
        assert "Session s.\n" in chat.screen
    assert await piped("restart\n", "--url", url) == (0, "twice upon\n", "")


async def test_a_broken_connection_is_taken_up_where_it_broke(fake: tuple[FakeGateway, str]) -> None:
    gateway, url = fake
    async with terminal("--url", url, NO_COLOR="1") as chat:
        chat.type("broken")
        await chat.shows("one two three\n")
        assert "restarted" not in chat.screen
    assert gateway.came_back == ["2", "2"]


async def test_ctrl_c_cancels_the_turn_and_what_was_said_stays(fake: tuple[FakeGateway, str]) -> None:
    gateway, url = fake
    async with terminal("--url", url, NO_COLOR="1") as chat:
        chat.type("slow")
        await chat.shows("wait ")
        chat.interrupt()
        await chat.shows("(cancelled)\n> ")
        assert gateway.cancelled.is_set()
        assert chat.screen.count("wait ") == 1
        chat.type("/quit")
        assert await chat.code() == 1


async def test_a_second_ctrl_c_leaves(fake: tuple[FakeGateway, str]) -> None:
    gateway, url = fake
    async with terminal("--url", url) as chat:
        chat.type("stubborn")
        await chat.shows("never ")
        chat.interrupt()
        await chat.shows("again leaves")
        chat.interrupt()
        assert await chat.code() == 1
    assert gateway.cancelled.is_set()


async def test_cancel_from_elsewhere_and_errors_of_a_turn(fake: tuple[FakeGateway, str]) -> None:
    gateway, url = fake
    code, said, complained = await piped("failed\n/cancel\n", "--url", url)
    assert (code, said, complained) == (1, "Cancelled 1.\n", "The model is out of order.\n")
    assert gateway.cancelled.is_set()


async def test_what_a_model_says_cannot_command_the_terminal(fake: tuple[FakeGateway, str]) -> None:
    _, url = fake
    async with terminal("--url", url, NO_COLOR="1") as chat:
        chat.type("rude")
        await chat.shows("]0;title[2Jhello")
