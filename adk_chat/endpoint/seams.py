"""The private parts of the HTTP servers that the endpoint uses. `tests/endpoint/test_seams.py` checks each of them."""

import asyncio
import socket
from functools import cache
from typing import Any

import h2.connection
import hypercorn.protocol
from h2.exceptions import ProtocolError
from hypercorn.events import Closed
from hypercorn.protocol import h2 as hypercorn_h2
from hypercorn.protocol.events import Body, EndBody
from hypercorn.protocol.h2 import H2Protocol

_CLOSED_STREAMS = 2**13
"""How many closed streams a connection remembers, to recognize late frames. h2's own 65,536 take 5 MB."""
_DeadlockError: Any = vars(hypercorn_h2)["priority"].DeadlockError


@cache
def lean_http2() -> None:
    """Makes hypercorn's HTTP/2 skip what an endpoint does not need.

    It does not validate headers, which Restate writes and the SDK reads by name. It formats no frames for a log that is
    off. It sends what fits into the window without priorities and without another task. It writes the frames of one
    round of the event loop with one system call.
    """

    class LeanH2Protocol(H2Protocol):
        def __init__(self, *given: Any) -> None:
            super().__init__(*given)
            self._unwritten = asyncio.Event()
            self._pass_on, self.send = self.send, self._send
            self.priority: Any = Waiting()
            self._late: set[int] = set()
            """The streams that had to wait with some data. The rest of their data goes through hypercorn's task too."""
            config = self.connection.config
            config.validate_inbound_headers = config.normalize_inbound_headers = False
            config.validate_outbound_headers = config.normalize_outbound_headers = False

        async def initiate(self, *given: Any) -> None:
            await super().initiate(*given)
            self.task_group.spawn(self._write)

        async def handle(self, event: Any) -> None:
            await super().handle(event)
            if self.closed:
                self._unwritten.set()

        async def _write(self) -> None:
            while not self.closed:
                await self._unwritten.wait()
                self._unwritten.clear()
                await super()._flush()

        async def _flush(self) -> None:
            # Tasks run in the order in which they were woken. So a step that waits until its command is sent starts
            # after the write.
            self._unwritten.set()

        async def _send(self, event: Any) -> None:
            if isinstance(event, Closed):  # it closes the connection at once
                await super()._flush()
            await self._pass_on(event)

        async def stream_send(self, event: Any) -> None:
            try:
                sent = self._send_at_once(event)
            except (KeyError, ProtocolError):  # closed by the other side
                return
            if sent:
                await self._flush()
            else:
                await super().stream_send(event)

        def _send_at_once(self, event: Any) -> bool:
            if not isinstance(event, (Body, EndBody)) or event.stream_id in self._late:
                return False
            stream_id, connection = event.stream_id, self.connection
            if isinstance(event, EndBody):
                connection.end_stream(stream_id)
                del self.stream_buffers[stream_id]
                self.priority.remove_stream(stream_id)
                return True
            most = min(connection.local_flow_control_window(stream_id), connection.max_outbound_frame_size)
            if len(event.data) > most:
                self._late.add(stream_id)
                return False
            connection.send_data(stream_id, event.data)
            return True

        async def _close_stream(self, stream_id: int) -> None:
            await super()._close_stream(stream_id)
            if stream_id not in self._late and self.stream_buffers.pop(stream_id, None) is not None:  # it was reset
                self.priority.remove_stream(stream_id)

        async def _window_updated(self, stream_id: int | None) -> None:
            self._late &= self.stream_buffers.keys()
            if stream_id in self._late and stream_id not in self.streams:
                # The client reset it. If the window is used up, hypercorn would keep the rest, and its sender waiting.
                self.priority.remove_stream(stream_id)
                await self.stream_buffers.pop(stream_id).close()
            elif self._late:
                await super()._window_updated(stream_id)

        async def _priority_updated(self, event: Any) -> None:
            pass  # HTTP/2 has given them up (RFC 9113, 5.3.2)

    vars(hypercorn.protocol)["H2Protocol"] = LeanH2Protocol
    h2.connection.H2Connection.MAX_CLOSED_STREAMS = _CLOSED_STREAMS
    vars(h2.connection)["repr"] = object.__repr__  # of each frame


class Waiting:
    """Replaces the tree of priorities: the streams that have something to send, in turn."""

    def __init__(self) -> None:
        self._open: set[int] = set()
        self._waiting: dict[int, None] = {}

    def insert_stream(self, stream_id: int) -> None:
        """Adds a stream, blocked."""
        self._open.add(stream_id)

    def remove_stream(self, stream_id: int) -> None:
        """Removes a closed stream."""
        self._open.discard(stream_id)
        self._waiting.pop(stream_id, None)

    def block(self, stream_id: int) -> None:
        """Notes that a stream has nothing to send."""
        self._waiting.pop(stream_id, None)

    def unblock(self, stream_id: int) -> None:
        """Notes that a stream may have something to send.

        Raises:
            KeyError: if it is closed.
        """
        if stream_id not in self._open:
            raise KeyError(stream_id)
        self._waiting.setdefault(stream_id)

    def __next__(self) -> int:
        """Returns the stream that has waited longest, and puts it last.

        Raises:
            DeadlockError: if there is none.
        """
        for stream_id in self._waiting:
            self._waiting[stream_id] = self._waiting.pop(stream_id)
            return stream_id
        raise _DeadlockError


def hand_over(listening: socket.socket, server: Any) -> None:
    """Makes a granian server use a listening socket. It closes the socket."""
    from granian import net

    holder: Any = vars(net)["SocketHolder"]

    def take_over() -> None:
        server._shd = holder(listening.detach(), False, server.backlog)

    server._init_shared_socket = take_over
