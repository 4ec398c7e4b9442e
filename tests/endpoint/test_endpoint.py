"""An endpoint that serves only one Restate, which signs its requests and soon stops listening to idle handlers."""

import asyncio
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import pytest_asyncio
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from adk_chat import ChatService
from adk_chat.dev.server import RestateServer
from adk_chat.durable.journal import pump
from adk_chat.endpoint import IdentityKeyError, ServerMissingError, check_server, listen, serve
from adk_chat.settings import Settings
from tests.conftest import free_port
from tests.support import ChatClient, gates, scripted_app, unique, until


def public_key(key: Ed25519PrivateKey) -> str:
    """The key as Restate writes it."""
    raw = key.public_key().public_bytes_raw()
    number, text = int.from_bytes(raw, "big"), ""
    while number:
        number, digit = divmod(number, 58)
        text = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"[digit] + text
    return f"publickeyv1_{'1' * (len(raw) - len(raw.lstrip(bytes(1))))}{text}"


class Signed:
    """A Restate that signs, and the URL of its endpoint."""

    def __init__(self, server: RestateServer, endpoint_url: str) -> None:
        self.server = server
        self.endpoint_url = endpoint_url


@pytest_asyncio.fixture(scope="module", params=["hypercorn", "granian"])
async def signed(
    request: pytest.FixtureRequest, binary: Path, settings: Settings, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Signed]:
    directory = tmp_path_factory.mktemp("signed")
    key = Ed25519PrivateKey.generate()
    pem = directory / "key.pem"
    pem.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RESTATE_REQUEST_IDENTITY_PRIVATE_KEY_PEM_FILE", str(pem))
        patch.setenv("RESTATE_WORKER__INVOKER__INACTIVITY_TIMEOUT", "1s")
        server = RestateServer(binary, directory, free_port(), free_port())
    listening = listen("127.0.0.1", 0)
    url = f"http://127.0.0.1:{listening.getsockname()[1]}"
    stop = asyncio.Event()
    service = ChatService(scripted_app("scripted"), settings=settings)
    keys = [public_key(key)]
    async with server:
        of_kind: dict[str, Any] = {"server": request.param, "identity_keys": keys, "drain_seconds": 1}
        serving = asyncio.create_task(serve(service.objects, listening, stop, **of_kind))
        await server.register(url)
        yield Signed(server, url)
    stop.set()
    await serving


async def test_only_signed_requests_are_served(signed: Signed) -> None:
    async with httpx.AsyncClient(base_url=signed.server.ingress_url) as http:
        assert await ChatClient(http, "user").message("s", "hello") == "echo hello"
        unsigned = await http.get(f"{signed.endpoint_url}/discover")
        assert unsigned.status_code == 401
        for path in ("/health", "/ready"):
            assert (await http.get(f"{signed.endpoint_url}{path}")).status_code == 200


async def test_a_turn_whose_model_takes_long_can_be_cancelled(signed: Signed, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pump, "_HEARTBEAT_SECONDS", 0.5)
    gate = unique("gate")
    gates[gate] = asyncio.Event()
    async with httpx.AsyncClient(base_url=signed.server.ingress_url, timeout=30) as http:
        chat = ChatClient(http, "user")
        turn = asyncio.create_task(chat.send("message", {"message": f"wait {gate}", "session_id": "slow"}))

        async def idle_for_longer_than_the_engine_listens() -> bool:
            response = await chat.send("get_history", "slow")
            return response.is_success and loop.time() - began > 2

        loop = asyncio.get_running_loop()
        began = loop.time()
        await until(idle_for_longer_than_the_engine_listens)
        assert await chat.call("cancel", {"session_id": "slow"})
        assert (await asyncio.wait_for(turn, 10)).status_code == 409


async def test_a_key_that_is_none_is_said_at_once() -> None:
    with listen("127.0.0.1", 0) as listening, pytest.raises(IdentityKeyError, match=r"cannot be used: .* publickeyv1_"):
        await serve([], listening, asyncio.Event(), identity_keys=["nonsense"])


async def test_a_server_that_is_not_installed_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "granian.server.embed", None)
    monkeypatch.delitem(sys.modules, "adk_chat.endpoint.granian_server", raising=False)
    with pytest.raises(ServerMissingError, match=r"pip install 'adk-chat\[granian\]'"):
        check_server("granian")
