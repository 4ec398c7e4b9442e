"""What keeps a command from starting is reported in one sentence."""

import asyncio
import os
import sys
import tempfile
from pathlib import Path

import pytest
from click.testing import CliRunner

from adk_chat.cli.main import main
from adk_chat.dev.server import RestateServer
from tests.conftest import plain


@pytest.mark.parametrize(
    ("agent", "said"),
    [
        ("no.such.module:app", "no.such.module:app cannot be loaded.\nModuleNotFoundError: No module named 'no'"),
        ("json:nothing", "json has no nothing."),
        ("json:dumps", "dumps is a function. It must be an ADK agent or App."),
        (".", " has no agent. Name a directory that has an agent.py"),
        ("tests.dev.test_start:unknown_model", "cannot be loaded.\nValueError: Model no-such-model not found."),
        (
            "tests.dev.test_start:keyless",
            "keyless uses gemini-2.5-flash, and there is no key for it: set GOOGLE_API_KEY",
        ),
        ("tests.dev.test_start:unset", '    os.environ["NO_SUCH_VARIABLE"]\n'),
        ("tests.dev.test_start:broken", '    raise ValueError("two\\nlines")\nValueError: two\nlines'),
    ],
)
def test_what_is_wrong_with_an_agent_is_said_clearly(monkeypatch: pytest.MonkeyPatch, agent: str, said: str) -> None:
    monkeypatch.setattr(os, "environ", {name: value for name, value in os.environ.items() if "GOOGLE" not in name})
    refused = CliRunner().invoke(main, ["dev", agent])
    assert refused.exit_code == 1
    assert said in refused.output
    assert "adk_chat/" not in refused.output


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ("dev --data-dir {file}/x", "cannot be used: Not a directory"),
        ("dev --data-dir {tmp}/" + "x" * 100, "bytes too long for restate-server's sockets"),
        ("dev --port 99999", "--port, or ADK_CHAT_PORT: Input should be less than or equal to 65535; it is 99999."),
        ("web --ingress-url localhost:8080", "It should look like http://localhost:8080"),
        ("serve --register localhost:9070", "--register: 'localhost:9070' is not a URL"),
        ("--version", "adk-chat "),
    ],
)
def test_what_is_wrong_with_an_option_is_said_in_a_line(arguments: str, said: str) -> None:
    # Not tmp_path: its length varies, and restate-server's sockets need a short path.
    with tempfile.TemporaryDirectory() as directory:
        file = Path(directory) / "file"
        file.touch()
        refused = CliRunner().invoke(main, arguments.format(file=file, tmp=directory).split())
    assert refused.exit_code == (0 if said == "adk-chat " else 1)
    assert said in refused.output
    assert len(refused.output.strip().splitlines()) == 1


def test_a_setting_that_is_misspelt_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("adk_chat_prot", "8001")
    refused = CliRunner().invoke(main, ["turns", "list", "--admin-url", "http://127.0.0.1:9"])
    said = "adk_chat_prot is not a setting of adk_chat. Did you mean ADK_CHAT_PORT? All settings are in .env.example."
    assert (refused.exit_code, refused.output) == (1, f"Error: {said}\n")


@plain
async def test_a_restate_with_another_key_is_said_in_a_line(server: RestateServer) -> None:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "adk_chat", "serve", "--endpoint-port", "0", "--register", server.admin_url),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        env={**os.environ, "ADK_CHAT_IDENTITY_KEYS": "publickeyv1_w7YHemBctH5Ck2nQRQ47iBBqhNHy4FV7t2Usbye2A6f"},
    )
    said, _ = await asyncio.wait_for(process.communicate(), 60)
    assert process.returncode == 1
    assert said.decode() == (
        f"Error: The Restate at {server.admin_url} does not sign its requests with a key of ADK_CHAT_IDENTITY_KEYS, so "
        "its requests are refused. It logs its public key when it starts.\n"
    )


def __getattr__(name: str) -> object:
    from google.adk.agents.llm_agent import LlmAgent

    if name == "unknown_model":
        return LlmAgent(name="unknown", model="no-such-model")
    if name == "keyless":
        return LlmAgent(name="keyless", model="gemini-2.5-flash")
    if name == "unset":
        os.environ["NO_SUCH_VARIABLE"]
    if name == "broken":
        raise ValueError("two\nlines")
    raise AttributeError(name)
