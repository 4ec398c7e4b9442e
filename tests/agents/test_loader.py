"""Loads whatever `adk web` loads."""

import os
from pathlib import Path

import pytest
from google.adk.cli.utils import envs

from adk_chat.agents.assistant import GEMINI_SETTINGS
from adk_chat.agents.loader import AgentError, load

MODEL = """
from google.adk.agents.llm_agent import LlmAgent
from google.adk.models.base_llm import BaseLlm

class Silent(BaseLlm):
    async def generate_content_async(self, llm_request, stream=False):
        return
        yield

def agent(name):
    return LlmAgent(name=name, model=Silent(model="silent"))
"""
FILES = {
    "silent_{n}.py": MODEL,
    "module_{n}/agent.py": "import os\nfrom silent_{n} import agent\nroot_agent = agent(os.environ['NAME_{n}'])",
    "module_{n}/.env": "NAME_{n}=beside",
    "package_{n}/__init__.py": "from silent_{n} import agent\nroot_agent = agent('package')",
    "yaml_{n}/root_agent.yaml": "name: from_yaml\nmodel: gemini-2.5-flash\ninstruction: Be brief.",
    "other_{n}/agent.py": """
from google.adk.apps.app import App
from silent_{n} import agent
app = App(name="of_another_name_{n}", root_agent=agent("other"))
""",
    "inside_{n}/agent.py": """
import asyncio
from silent_{n} import agent
asyncio.get_running_loop()
root_agent = agent("inside")
""",
    "loop_{n}/agent.py": """
import asyncio
from silent_{n} import agent
asyncio.run(asyncio.sleep(0))
root_agent = agent("beside")
""",
    "services.py": "import os\nos.environ['SERVICES'] = 'loaded'",
}


def written(directory: Path, number: int, *but: str) -> Path:
    for name, text in FILES.items():
        path = directory / name.replace("{n}", str(number))
        if not any(path.is_relative_to(directory / f"{left_out}_{number}") for left_out in but):
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text.replace("{n}", str(number)))
    return directory


@pytest.mark.filterwarnings("ignore")
async def test_a_directory_of_agents_is_loaded_as_by_adk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in GEMINI_SETTINGS:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("SERVICES", "")
    loaded = await load(str(written(tmp_path, 1, "loop")))
    names = {app.name: getattr(app.root_agent, "name", None) for app in loaded.apps}
    assert names == {
        "inside_1": "inside",
        "module_1": "beside",
        "of_another_name_1": "other",
        "package_1": "package",
        "yaml_1": "from_yaml",
    }
    assert loaded.aliases == {"other_1": "of_another_name_1"}
    assert os.environ["SERVICES"] == "loaded"


@pytest.mark.parametrize("name", ["module", "package", "other", "loop"])
async def test_one_of_them_is_loaded_as_by_adk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    (tmp_path / ".env").write_text("NAME_2=here")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("NAME_2", "here")  # as by the `.env` of the current directory
    envs._get_explicit_env_keys.cache_clear()  # ADK looks only once per process
    loaded = await load(str(written(tmp_path, 2) / f"{name}_2"))
    assert name != "module" or getattr(loaded.apps[0].root_agent, "name", None) == "beside"
    assert [app.name for app in loaded.apps] == ["of_another_name_2" if name == "other" else f"{name}_2"]


async def test_one_that_is_broken_is_left_out_unless_it_is_the_only_one(tmp_path: Path) -> None:
    directory = written(tmp_path, 3, "yaml", "loop")
    broken = {
        "raises": ("1 / 0", "ZeroDivisionError"),
        "exits": ("import sys; sys.exit('set A_KEY')", "SystemExit: set A_KEY"),
        "parses": (
            "import argparse; p = argparse.ArgumentParser(); p.add_argument('x'); p.parse_args([])",
            "SystemExit",
        ),
        "interrupts": ("raise KeyboardInterrupt", "KeyboardInterrupt"),
    }
    for name, (text, _) in broken.items():
        (directory / name).mkdir()
        (directory / name / "agent.py").write_text(text)
    names = {app.name for app in (await load(str(directory))).apps}
    assert "inside_3" in names
    assert names.isdisjoint(broken)
    for name, (_, said) in broken.items():
        with pytest.raises(AgentError, match=said):
            await load(str(directory / name))
    (tmp_path / "nothing").mkdir()
    with pytest.raises(AgentError, match="nothing has no agent"):
        await load(str(tmp_path / "nothing"))


async def test_a_link_has_a_name_of_its_own(tmp_path: Path) -> None:
    directory = written(tmp_path, 4)
    for name, target in (("link", "package_4"), ("linked_app", "other_4")):
        (directory / name).symlink_to(directory / target)
    (app,) = (await load(str(directory / "link"))).apps
    assert app.name == "link"
    linked = await load(str(directory / "linked_app"))
    assert linked.aliases == {"linked_app": "of_another_name_4"}


async def test_two_apps_of_one_name_go_by_those_of_their_directories(tmp_path: Path) -> None:
    (tmp_path / "silent_5.py").write_text(MODEL)
    for name, called in (("one", "two"), ("two", "three"), ("four", "five"), ("six", "five")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "agent.py").write_text(
            "from google.adk.apps.app import App\nfrom silent_5 import agent\n"
            f"app = App(name='{called}', root_agent=agent('{name}'))"
        )
    loaded = await load(str(tmp_path))
    names = {app.name: getattr(app.root_agent, "name", None) for app in loaded.apps}
    assert names == {"one": "one", "three": "two", "four": "four", "six": "six"}
    assert loaded.aliases == {"two": "three"}


async def test_an_agent_without_a_key_stops_nobody_who_can_answer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    for name in GEMINI_SETTINGS:
        monkeypatch.delenv(name, raising=False)
    caplog.set_level("WARNING")
    (tmp_path / "silent_6.py").write_text(MODEL)
    (tmp_path / "agent.py").write_text("from silent_6 import agent\nroot_agent = agent('root')\n")
    with (tmp_path / "agent.py").open("a") as file:
        file.write("from google.adk.agents.llm_agent import LlmAgent\n")
        file.write("root_agent.sub_agents = [LlmAgent(name='helper', model='gemini-2.5-flash')]\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    (app,) = (await load(str(tmp_path))).apps
    assert getattr(app.root_agent, "name", None) == "root"
    assert "helper of" in caplog.text
    assert "there is no key for it" in caplog.text
