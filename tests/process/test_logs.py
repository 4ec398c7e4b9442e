"""The log of the commands."""

import json
import logging
from collections.abc import Iterator

import pytest
from google.adk.errors.session_not_found_error import SessionNotFoundError

from adk_chat.gateway.turns import RefusedError
from adk_chat.process import logs
from adk_chat.process.logs import current_turn
from adk_chat.protocol.turn_id import TurnId, TurnKey
from adk_chat.settings import LogFormat, LogLevel

TURN = TurnId(invocation_id="inv_1x", key=TurnKey(user_id="ü", app_name="app", session_id="a b"))


@pytest.fixture(autouse=True)
def _turn() -> Iterator[None]:
    """A turn runs, and afterwards the loggers are as they were."""
    root, ours = logging.getLogger(), logging.getLogger("adk_chat")
    before, handlers = (root.level, ours.level), root.handlers[:]
    token = current_turn.set(TURN)
    yield
    current_turn.reset(token)
    root.setLevel(before[0])
    ours.setLevel(before[1])
    root.handlers[:] = handlers  # one that writes to this test's stderr would fail in all later ones


def configure(level: LogLevel, form: LogFormat) -> None:
    logging.getLogger().handlers[:] = []  # pytest adds its own again for the next test
    logs.configure(level, form)


def fail(logger: str, error: Exception) -> None:
    try:
        raise error
    except Exception:
        logging.getLogger(logger).exception("It failed: %s", 5)


def test_a_line_of_json_has_the_turn_and_what_was_raised(capsys: pytest.CaptureFixture[str]) -> None:
    configure("INFO", "json")
    fail("adk_chat.x", ValueError("no"))
    line = json.loads(capsys.readouterr().err)
    assert line["time"].endswith("+00:00")
    assert "ValueError: no" in line["exception"]
    del line["time"], line["exception"]
    assert line == {
        "level": "ERROR",
        "logger": "adk_chat.x",
        "message": "It failed: 5",
        "turn_id": str(TURN),
        "user_id": "ü",
        "app_name": "app",
        "session_id": "a b",
    }


@pytest.mark.parametrize("refusal", [SessionNotFoundError("no"), RefusedError(409, "no")])
def test_what_was_refused_to_a_client_is_not_logged_by_adk(
    capsys: pytest.CaptureFixture[str], refusal: Exception
) -> None:
    configure("INFO", "text")
    current_turn.set(None)
    fail("google_adk.google.adk.cli.api_server", refusal)
    assert capsys.readouterr().err == ""
    fail("google_adk.google.adk.cli.api_server", RefusedError(503, "away"))
    said = capsys.readouterr().err
    assert (said.count("\n"), "ERROR" in said) == (1, True)


def test_a_failure_of_a_turn_is_not_said_by_adk_as_well(capsys: pytest.CaptureFixture[str]) -> None:
    configure("INFO", "text")
    fail("google_adk.somewhere", ValueError("no"))
    logging.getLogger("httpx").info("asked")
    logging.getLogger("adk_chat.x").debug("details")
    assert capsys.readouterr().err == ""
    token = current_turn.set(None)
    fail("google_adk.somewhere", ValueError("no"))
    current_turn.reset(token)
    assert "Traceback" in capsys.readouterr().err
    configure("DEBUG", "text")
    logging.getLogger("google_adk.somewhere").warning("careful")
    said = capsys.readouterr().err
    assert said.endswith(" WARNING google_adk.somewhere [inv_1x %C3%BC/app/a%20b]: careful\n")
