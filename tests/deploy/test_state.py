"""What an older version of adk_chat has stored, with turns under way, goes on under this one.

state.tar.gz was made by commit 9ca4a14, of 2026-11-28, on restate-server 1.7.12; see state/make.py.
"""

import shutil
import tarfile
from pathlib import Path

import httpx

from tests.deploy.state import make
from tests.gateway.town import Process
from tests.support import until

STATE = Path(make.__file__).parent


async def test_sessions_and_turns_of_an_older_version_go_on(binary: Path, tmp_path: Path) -> None:
    with tarfile.open(STATE / "state.tar.gz") as archive:
        archive.extractall(tmp_path)
    (tmp_path / "state").mkdir()
    shutil.copy(STATE / "agent.py", tmp_path / "state")
    environment = {"STATE_DIR": str(tmp_path), "RESTATE_SERVER_BIN": str(binary)}
    dev = Process(environment, *make.dev(directory=tmp_path), begins=b"adk_chat is ready")
    await dev.start()
    try:
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{make.INGRESS_PORT}/Chat/ada", timeout=30) as chat:

            async def texts(session: str) -> list[str]:
                events = (await chat.post("/get_history", json=session)).json()
                return [part["text"] for event in events for part in event["content"]["parts"] if "text" in part]

            assert await texts("talk") == ["hello", "hello: message 1", "again", "again: message 2"]
            (tmp_path / "go").touch()

            async def ended() -> bool:
                return "after work: message 2" in await texts("working")

            await until(ended)
            assert await texts("working") == ["work", "work: message 1", "after work", "after work: message 2"]
            # The first one was finished before, and is not repeated.
            assert (tmp_path / "steps").read_text().splitlines() == ["working 1", "working 2"]
            for session, number in (("talk", 3), ("failed", 2), ("working", 3)):
                answer = await chat.post("/message", json={"session_id": session, "message": "new"})
                assert answer.json() == f"new: message {number}"
    finally:
        await dev.kill()
