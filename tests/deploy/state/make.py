"""Makes state.tar.gz: what `adk-chat dev` of some version has stored when it is killed.

    STATE_DIR=$(mktemp -d) .venv/bin/python tests/deploy/state/make.py path/to/the/adk-chat/of/that/version

One session with two turns, one with a failed turn, one with a turn after its first of two steps, and a message that
waits for it.
"""

import asyncio
import os
import shutil
import sys
import tarfile
from pathlib import Path

import httpx

ENDPOINT_PORT = 9797
"""Turns go on where they have started."""
INGRESS_PORT, ADMIN_PORT, PORT = 9798, 9799, 9800
_AGENT = Path(__file__).with_name("agent.py")


def dev(*command: str, directory: Path) -> list[str]:
    """Returns the command that runs `adk-chat dev` on the directory."""
    ports = {"endpoint-port": ENDPOINT_PORT, "ingress-port": INGRESS_PORT, "admin-port": ADMIN_PORT, "port": PORT}
    given = [word for name, number in ports.items() for word in (f"--{name}", str(number))]
    return [*command, "dev", str(directory / "state"), *given, "--data-dir", str(directory / "data"), "--no-ui"]


async def _make(adk_chat: str, directory: Path) -> None:
    (directory / "state").mkdir()
    shutil.copy(_AGENT, directory / "state")
    process = await asyncio.create_subprocess_exec(
        *dev(adk_chat, directory=directory), stdout=asyncio.subprocess.PIPE, start_new_session=True
    )
    assert process.stdout is not None
    while b"is ready" not in await process.stdout.readline():
        pass
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{INGRESS_PORT}/Chat/ada", timeout=30) as chat:
        for session, text in (("talk", "hello"), ("talk", "again"), ("failed", "fail")):
            await chat.post("/message", json={"session_id": session, "message": text})
        for text in ("work", "after work"):
            await chat.post("/post", json={"session_id": "working", "message": text})
        steps = directory / "steps"
        while not steps.exists():
            await asyncio.sleep(0.05)
        # Until the first step is stored, and the second one has begun.
        await asyncio.sleep(1)
    os.killpg(process.pid, 9)
    await process.wait()
    await asyncio.sleep(2)  # restate-server notices and ends

    def kept(member: tarfile.TarInfo) -> tarfile.TarInfo | None:
        """Leaves out logs, and what RocksDB writes anew."""
        name = Path(member.name).name
        return None if name in ("LOG", "lock", "restate-server.log") or name.startswith("OPTIONS") else member

    with tarfile.open(Path(__file__).with_name("state.tar.gz"), "w:gz") as archive:
        for name in ("data", "steps"):
            archive.add(directory / name, name, filter=kept)


if __name__ == "__main__":
    asyncio.run(_make(sys.argv[1], Path(os.environ["STATE_DIR"])))
