"""What a program imports from the package itself."""

import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest

import adk_chat
from adk_chat import ChatService, Settings
from tests.support import scripted_app


def test_every_public_name_is_there_and_importing_the_package_imports_nothing_else() -> None:
    assert adk_chat.__version__ == version("adk-chat")
    assert [name for name in adk_chat.__all__ if getattr(adk_chat, name).__name__ != name] == []
    assert {*adk_chat.__all__} <= {*dir(adk_chat)}
    with pytest.raises(AttributeError, match="has no attribute 'Chat'"):
        _ = adk_chat.Chat
    loaded = "import adk_chat, sys; print([name for name in sys.modules if name.startswith('google.adk')])"
    done = subprocess.run([sys.executable, "-c", loaded], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_the_reference_has_every_public_name() -> None:
    page = (Path(__file__).parents[1] / "docs" / "reference.md").read_text()
    assert [name for name in adk_chat.__all__ if f".{name}\n" not in page] == ["Settings"], "which has its own page"


def test_the_package_is_typed_and_runs_as_a_module() -> None:
    assert (Path(adk_chat.__file__).parent / "py.typed").is_file()
    done = subprocess.run([sys.executable, "-m", "adk_chat", "--version"], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == f"adk-chat {adk_chat.__version__}"


def test_settings_are_those_of_the_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("ADK_CHAT_PORT=1\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("ADK_CHAT_PORT", raising=False)
    assert Settings().port == 8000, "a .env is for the command line"
    monkeypatch.setenv("ADK_CHAT_PORT", "2")
    assert Settings().port == 2


async def test_a_service_has_the_same_objects_each_time_and_closes_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    closed: list[str] = []
    async with ChatService(scripted_app("one"), settings=Settings()) as chat:
        assert chat.objects is chat.objects
        assert [one.name for one in chat.objects] == ["Chat", "Turn", "AppState"]
        monkeypatch.setattr(type(chat._outside), "close", lambda self: _note(closed))
    assert closed == ["closed"]


async def _note(closed: list[str]) -> None:
    closed.append("closed")
