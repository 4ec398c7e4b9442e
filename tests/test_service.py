"""ChatService, put together from settings."""

import logging
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from google.adk.agents.llm_agent import LlmAgent
from google.adk.agents.readonly_context import ReadonlyContext
from google.adk.apps.app import App
from google.adk.auth.auth_credential import AuthCredential, AuthCredentialTypes
from google.adk.plugins.base_plugin import BasePlugin
from google.adk.runners import Runner
from google.adk.sessions.in_memory_session_service import InMemorySessionService
from google.adk.tools.base_tool import BaseTool
from google.adk.tools.base_toolset import BaseToolset
from google.genai import types
from pydantic import SecretStr

from adk_chat import ChatService, RestatePlugin
from adk_chat.cli.commands import _credential_key, warning_of_open_port
from adk_chat.cli.main import main
from adk_chat.service import ServiceUriError
from adk_chat.settings import Settings
from tests.support import scripted_app


def service(**settings: Any) -> ChatService:
    return ChatService(scripted_app("scripted"), settings=Settings(**settings))


async def test_two_processes_share_what_a_uri_names(tmp_path: Path) -> None:
    one, other = (service(artifact_service_uri=f"file://{tmp_path}") for _ in range(2))
    where: dict[str, Any] = {"app_name": "scripted", "user_id": "u", "session_id": "s", "filename": "a.txt"}
    await one.artifact_service.save_artifact(**where, artifact=types.Part(text="kept"))
    found = await other.artifact_service.load_artifact(**where)
    assert found is not None
    assert found.text == "kept"


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        ("sqlite:///memory.db", "sqlite:///{}/memory.db"),
        ("sqlite:////var/memory.db", "sqlite:////var/memory.db"),
        ("sqlite:///:memory:", "sqlite:///:memory:"),
        ("file:kept/here", "file:{}/kept/here"),
        ("file:///var/kept", "file:///var/kept"),
        ("gs://bucket", "gs://bucket"),
        ("memory://", "memory://"),
    ],
)
def test_what_settings_say_of_files_stays_where_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, given: str, meant: str
) -> None:
    monkeypatch.chdir(tmp_path)
    settings = Settings(memory_service_uri=given, artifact_service_uri=given)
    assert settings.data_dir == tmp_path / ".adk-chat"
    assert settings.memory_service_uri == settings.artifact_service_uri == meant.format(tmp_path)


def test_a_process_whose_directory_is_gone_has_settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    assert Settings().data_dir == Path(".adk-chat")


async def test_an_app_whose_model_cannot_be_made_stops_no_other(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("DEBUG", "adk_chat.service")
    unknown = LlmAgent(name="unknown", model="no-such-model")
    two = ChatService(scripted_app("scripted"), unknown, settings=Settings())
    await two.warm_up()
    assert "unknown cannot answer: Model no-such-model not found." in caplog.text


def test_a_program_is_refused_a_setting_that_is_misspelt(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ADK_CHAT_CREDENTAL_KEY", "x" * 32)
    with pytest.raises(ValueError, match=r"Did you mean ADK_CHAT_CREDENTIAL_KEY\?"):
        ChatService(scripted_app("scripted"))


async def test_advice_about_apps_is_not_given_when_they_are_closed(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)
    agents = [LlmAgent(name=name, model="demo") for name in ("left", "right")]
    agent = LlmAgent(name="nobody_asked", model="demo", sub_agents=[*agents])
    await ChatService(agent.model_copy(), settings=Settings()).close()
    assert "can transfer between agents" not in caplog.text
    Runner(app=App(name="asked", root_agent=agent), session_service=InMemorySessionService())
    assert "can transfer between agents" in caplog.text


def test_a_program_that_uses_the_library_keeps_its_redis_to_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REDIS_URL", "redis://somebody-elses")
    assert service().broker is None
    seen: list[Settings] = []
    monkeypatch.setattr("adk_chat.cli.commands.run", lambda command, settings, **more: seen.append(settings))
    assert CliRunner().invoke(main, ["serve"]).exit_code == 0
    assert seen[0].redis_url == "redis://somebody-elses"


def test_each_service_has_its_own_key_for_credentials() -> None:
    credential = AuthCredential(auth_type=AuthCredentialTypes.API_KEY, api_key="secret")
    one, other = (service(credential_key=SecretStr(letter * 32)) for letter in "ab")
    assert one._seal is not None
    assert other._seal is not None
    assert one._seal.unseal(one._seal.seal(credential)) == credential
    assert other._seal.unseal(one._seal.seal(credential)) is None
    with pytest.raises(ValueError, match="RestatePlugin: credential_key is shorter than 32 bytes"):
        RestatePlugin(credential_key="short")


def test_an_endpoint_that_serves_whoever_reaches_it_is_warned_of() -> None:
    assert warning_of_open_port(Settings()) is None
    assert warning_of_open_port(Settings(endpoint_host="0.0.0.0", identity_keys=["key"])) is None
    said = warning_of_open_port(Settings(endpoint_host="0.0.0.0"))
    assert said is not None
    assert "anyone who can reach port 9080 on 0.0.0.0 can run agents" in said


def test_the_key_of_dev_is_made_anew_where_a_process_was_killed_as_it_made_one(tmp_path: Path) -> None:
    (tmp_path / "credential.key").touch()
    made = _credential_key(tmp_path)
    assert len(made.get_secret_value()) >= 32
    assert _credential_key(tmp_path) == made
    assert (tmp_path / "credential.key").stat().st_mode & 0o077 == 0


@pytest.mark.parametrize("kind", ["artifact", "memory"])
def test_a_uri_that_means_nothing_is_said_clearly(kind: str) -> None:
    with pytest.raises(ServiceUriError, match=f"ADK knows no {kind} service for the URI 'ftp://somewhere'"):
        service(**{f"{kind}_service_uri": "ftp://somewhere"})


def test_a_uri_whose_package_is_not_installed_is_said_clearly() -> None:
    with pytest.raises(ServiceUriError, match=r"'gs://bucket' needs a package .* for gs:// it is google-cloud-storage"):
        service(artifact_service_uri="gs://bucket")


async def test_what_an_app_uses_is_closed_once_whatever_of_it_fails() -> None:
    closed: list[str] = []

    class Tools(BaseToolset):
        async def get_tools(self, readonly_context: ReadonlyContext | None = None) -> list[BaseTool]:
            return []

        async def close(self) -> None:
            closed.append("tools")

    class Analytics(BasePlugin):
        async def close(self) -> None:
            closed.append(self.name)
            raise RuntimeError(self.name)

    app = App(name="app", root_agent=LlmAgent(name="a", tools=[Tools()]), plugins=[Analytics("one"), Analytics("two")])
    await ChatService(app, settings=Settings()).close()
    assert closed == ["tools", "one", "two"]


PATCHED = """
import asyncio, sys
from google.adk.auth.exchanger.oauth2_credential_exchanger import OAuth2CredentialExchanger
from google.adk.flows.llm_flows.base_llm_flow import BaseLlmFlow
from google.adk.flows.llm_flows.extensions import _code_execution
from google.adk.flows.llm_flows.tools import _batch_executor, _caller
from google.adk.runners import Runner
from google.adk.sessions.state import State
from google.adk.tools.base_toolset import BaseToolset
from opentelemetry.sdk.trace import Tracer
from restate.vm import VMWrapper

def found():
    return [asyncio.Lock.acquire, asyncio.Semaphore.release, Runner._get_or_create_session, BaseLlmFlow._get_llm,
            _caller._call_tool_async, _batch_executor._execute_prepared_function_calls, _code_execution.asyncio,
            State.__setitem__, BaseToolset.get_tools_with_prefix, OAuth2CredentialExchanger.exchange,
            Tracer.start_span, VMWrapper.notify_input, VMWrapper.sys_input]

before = found()
import adk_chat, adk_chat.durable
from adk_chat import RestateSessionService
RestateSessionService("http://localhost:1")
assert found() == before, "importing patches"
assert not [name for name in sys.modules if name.startswith("adk_chat.gateway")], "importing imports the gateway"
from adk_chat import RestatePlugin
RestatePlugin()
after = found()
RestatePlugin()
assert not set(after) & set(before), "a plugin does not patch"
assert found() == after, "a second plugin patches again"
"""


def test_importing_changes_nothing_and_what_runs_turns_patches_once() -> None:
    ended = subprocess.run([sys.executable, "-W", "ignore", "-c", PATCHED], capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
