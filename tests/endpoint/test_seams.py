"""Checks the private parts of the servers that we use, and says which moved."""

import asyncio
import inspect
from collections.abc import AsyncIterator
from typing import Any

import hypercorn.protocol
import pytest
import pytest_asyncio
from granian import net
from granian.server.embed import Server
from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import DataReceived, StreamEnded
from hypercorn.protocol.h2 import H2Protocol

from adk_chat.endpoint import hypercorn_server, listen, seams
from tests.support import until

USED = ("stream_buffers", "priority", "_flush", "_close_stream", "_window_updated", "_priority_updated")
LEFT_OUT = ("validate_inbound_headers", "normalize_inbound_headers", "validate_outbound_headers")


def test_http2_is_made_where_it_is_replaced() -> None:
    seams.lean_http2()
    assert inspect.getsource(hypercorn.protocol.ProtocolWrapper).count("self.protocol = H2Protocol(\n") == 3, (
        "hypercorn makes its HTTP/2 by another way than H2Protocol; half a millisecond a turn is lost."
    )
    assert issubclass(vars(hypercorn.protocol)["H2Protocol"], H2Protocol)
    gone = [name for name in LEFT_OUT if name not in vars(H2Configuration)]
    unused = [name for name in USED if f"self.{name}" not in inspect.getsource(H2Protocol)]
    assert not unused, f"hypercorn's HTTP/2 sends without {unused}; see LeanH2Protocol in adk_chat/endpoint/seams.py."
    assert hasattr(H2Connection, "MAX_CLOSED_STREAMS"), "h2 keeps closed streams by another limit; see lean_http2."
    assert not gone, f"h2's configuration has no {gone}; see adk_chat/endpoint/seams.py for what they were used for."


def test_a_socket_is_handed_over_where_granian_makes_its_own() -> None:
    assert hasattr(Server, "_init_shared_socket"), "granian makes its socket elsewhere than in _init_shared_socket."
    with listen("127.0.0.1", 0) as listening:
        holder = vars(net)["SocketHolder"](listening.fileno(), False, 1024)
        assert holder.get_fd() == listening.fileno(), "granian holds sockets by something else than their number."


LARGE = [b"begin", *(bytes([number]) * 20_000 for number in range(10)), b"end"]
"""More than may be sent on a stream before the other side reads."""


class Client:
    """A connection to hypercorn that reads only what is asked for."""

    def __init__(self) -> None:
        self.reader: asyncio.StreamReader
        self.writer: asyncio.StreamWriter
        self._connection = H2Connection()
        self._connection.initiate_connection()
        self._connection.increment_flow_control_window(1_000_000)
        self._bodies: dict[int, bytes] = {}
        self._ended: set[int] = set()
        self.running: list[str] = []
        """What the app is answering."""

    async def app(self, scope: Any, receive: Any, send: Any) -> None:
        """Answers in one part, or in many."""
        if scope["type"] != "http":
            return
        self.running.append(scope["path"])
        await send({"type": "http.response.start", "status": 200, "headers": []})
        for part in LARGE if scope["path"] == "/large" else [b"small"]:
            await send({"type": "http.response.body", "body": part, "more_body": True})
        await send({"type": "http.response.body", "body": b"", "more_body": False})
        self.running.remove(scope["path"])

    def ask(self, path: str) -> int:
        """Start a request."""
        stream = self._connection.get_next_available_stream_id()
        headers = {":method": "GET", ":scheme": "http", ":authority": "here", ":path": path}
        self._connection.send_headers(stream, list(headers.items()), end_stream=True)
        self._bodies[stream] = b""
        return stream

    def leave(self, stream: int) -> None:
        """Abandon an answer."""
        self._connection.reset_stream(stream)

    async def answer(self, stream: int) -> bytes:
        """The whole answer."""
        async with asyncio.timeout(5):
            while True:
                if stream not in self._ended and (read := len(self._bodies[stream])):
                    self._connection.increment_flow_control_window(min(read, 10_000), stream)
                self.writer.write(self._connection.data_to_send())
                if stream in self._ended:
                    return self._bodies[stream]
                for event in self._connection.receive_data(await self.reader.read(65536)):
                    if isinstance(event, DataReceived):
                        self._bodies[event.stream_id] += event.data
                    elif isinstance(event, StreamEnded):
                        self._ended.add(event.stream_id)


@pytest_asyncio.fixture
async def client() -> AsyncIterator[Client]:
    stop, listening = asyncio.Event(), listen("127.0.0.1", 0)

    async def stopped() -> None:
        await stop.wait()

    client, port = Client(), listening.getsockname()[1]
    serving = asyncio.create_task(hypercorn_server.serve(client.app, listening, 100, stopped))
    client.reader, client.writer = await asyncio.open_connection("127.0.0.1", port)
    yield client
    client.writer.close()
    stop.set()
    await serving


async def test_an_answer_that_has_to_wait_comes_in_order_and_holds_up_nobody(client: Client) -> None:
    large, small = client.ask("/large"), client.ask("/small")
    assert await client.answer(small) == b"small"
    assert await client.answer(large) == b"".join(LARGE)


async def test_who_leaves_an_answer_takes_no_other_along(client: Client) -> None:
    left, large = client.ask("/large"), client.ask("/large")
    assert await client.answer(client.ask("/small")) == b"small"
    client.leave(left)
    assert await client.answer(large) == b"".join(LARGE)

    async def no_answer_waits() -> bool:
        return not client.running

    await until(no_answer_waits)


async def test_frames_of_one_round_are_written_together(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    await client.answer(client.ask("/small"))
    written: list[bytes] = []
    write = asyncio.StreamWriter.write

    def kept(self: asyncio.StreamWriter, data: bytes) -> None:
        if self is not client.writer:
            written.append(data)
        write(self, data)

    monkeypatch.setattr(asyncio.StreamWriter, "write", kept)
    assert await client.answer(client.ask("/small")) == b"small"
    assert len(written) == 1, written
