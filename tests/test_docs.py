"""The docs: their links, and their programs with the commands that start and call them."""

import asyncio
import re
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import pytest

from adk_chat.dev.server import RestateServer
from tests.conftest import free_port
from tests.support import until

ROOT = Path(__file__).parents[1]
TOP = ("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "SECURITY.md")
PAGES = [*(ROOT / name for name in TOP), *sorted((ROOT / "docs").glob("*.md"))]
PROGRAMS = (ROOT / "docs" / "your-program.md").read_text()


def program(name: str) -> str:
    """The program that begins with its name."""
    found = re.search(rf"```python\n(# {re.escape(name)}\n.*?)```", PROGRAMS, re.DOTALL)
    assert found, name
    return found[1]


def command(start: str) -> str:
    """The line of a command."""
    (line,) = commands(start)
    return line


def commands(start: str) -> list[str]:
    """The command lines that begin so."""
    return re.findall(rf"^    ({re.escape(start)}.*)$", PROGRAMS, re.MULTILINE)


class Ports:
    """The usual ports of the docs, and their replacements here."""

    def __init__(self) -> None:
        self.of = {
            "8080": str(free_port()),
            "9070": str(free_port()),
            "9080": str(free_port()),
            "9090": str(free_port()),
            "8000": str(free_port()),
        }

    def moved(self, text: str) -> str:
        """The text with the replaced ports."""
        return re.sub(r"\b(8080|9070|9080|9090|8000)\b", lambda port: self.of[port[0]], text)


@asynccontextmanager
async def running(directory: Path, *arguments: str) -> AsyncIterator[None]:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, *arguments), cwd=directory, stdout=asyncio.subprocess.DEVNULL
    )
    yield
    process.terminate()
    assert await asyncio.wait_for(process.wait(), 20) in (0, -signal.SIGTERM)  # which ADK exits on


async def shell(line: str) -> str:
    """The output of a command."""
    process = await asyncio.create_subprocess_shell(
        line.replace("curl ", "curl --silent --max-time 20 "), stdout=asyncio.subprocess.PIPE
    )
    return (await process.communicate())[0].decode()


def listens(port: str) -> bool:
    from adk_chat.endpoint import PortTakenError, listen

    try:
        listen("127.0.0.1", int(port)).close()
    except PortTakenError:
        return True
    return False


@pytest.fixture
async def ports(binary: Path, tmp_path: Path) -> AsyncIterator[Ports]:
    """A running restate-server."""
    ports = Ports()
    (tmp_path / "data").mkdir()
    async with RestateServer(binary, tmp_path / "data", int(ports.of["8080"]), int(ports.of["9070"])):
        yield ports


async def test_a_program_of_ones_own_and_adk_on_its_sessions(ports: Ports, tmp_path: Path) -> None:
    for name in ("my_chat.py", "my_service.py"):
        (tmp_path / name).write_text(ports.moved(program(name)))
    agents = tmp_path / "agents"
    (agents / "helper").mkdir(parents=True)
    (agents / "services.py").write_text(program("services.py"))
    (agents / "helper" / "agent.py").write_text(
        "from google.adk.agents import LlmAgent\nfrom adk_chat.agents.demo_model import DemoModel\n"
        'root_agent = LlmAgent(name="helper", model=DemoModel())\n'
    )
    adk = ports.moved(command("adk web")).replace("adk web", "api_server").replace("path/to/agents", str(agents))
    async with (
        running(tmp_path, *command("python my_chat.py").split()[1:]),
        running(tmp_path, *command("python my_service.py").split()[1:]),
    ):

        async def serving() -> bool:
            return listens(ports.of["9080"]) and listens(ports.of["9090"])

        await until(serving)
        service, chat = commands("curl localhost:9070/deployments")
        assert "Chat" in await shell(ports.moved(chat))
        assert "Chat" not in await shell(ports.moved(service)), "it would be taken away from what serves it"
        assert "the journal knows" in await shell(ports.moved(command("curl localhost:8080/Poet/ada")))
        assert "You said" in await shell(ports.moved(command("curl localhost:8080/Chat/ada/")))
        async with (
            running(tmp_path, "-m", "google.adk.cli", *adk.split(), "--port", ports.of["8000"]),
            httpx.AsyncClient(base_url=f"http://127.0.0.1:{ports.of['8000']}", timeout=30) as client,
        ):

            async def adk_serves() -> bool:
                return listens(ports.of["8000"])

            await until(adk_serves, 60)
            # The session of the service's turn is there, and a turn that ADK runs goes into the same store.
            body = {
                "appName": "helper",
                "userId": "ada",
                "sessionId": "s",
                "newMessage": {"parts": [{"text": "again"}]},
            }
            answer = await client.post("/run", json=body)
            assert "That was message 2" in answer.text, answer.text
        history = await shell(f"curl localhost:{ports.of['8080']}/Chat/ada/get_history --json '\"s\"'")
        assert history.count('"author"') == 4


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text()):
        path, _, anchor = target.partition("#")
        if re.match(r"[a-z]+:", target):
            continue
        linked = (page.parent / path).resolve() if path else page
        assert linked.is_file(), f"{page.name} links to {target}"
        headings = re.findall(r"^#+ (.*)$", linked.read_text(), re.MULTILINE) if anchor else []
        anchors = [re.sub(r"[^a-z0-9 -]", "", heading.lower()).replace(" ", "-") for heading in headings]
        assert not anchor or anchor in anchors, f"{page.name} links to {target}; there are {anchors}"


def test_every_page_is_reached_from_the_readme() -> None:
    assert not [page.name for page in PAGES[1:] if f"({page.relative_to(ROOT)})" not in PAGES[0].read_text()]


def test_the_readme_is_short() -> None:
    assert len(PAGES[0].read_text().split()) <= 1200


def test_every_setting_is_shown() -> None:
    from adk_chat.settings import Settings

    shown = (ROOT / ".env.example").read_text()
    missing = [name for name in Settings.model_fields if f"#ADK_CHAT_{name.upper()}=" not in shown]
    assert not missing
