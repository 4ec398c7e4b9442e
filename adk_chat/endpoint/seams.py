"""The private parts of the servers that the endpoint uses, all of them; `tests/endpoint/test_seams.py` holds them."""

import socket
from functools import cache
from typing import Any

import h2.connection
import hypercorn.protocol
from hypercorn.protocol.h2 import H2Protocol


@cache
def lean_http2() -> None:
    """Let hypercorn's HTTP/2 leave out what costs half a millisecond a turn and is of no use to an endpoint.

    That is to check headers, which the engine writes and the SDK reads by name, and to spell out every frame for a log
    that nobody keeps.
    """

    class LeanH2Protocol(H2Protocol):
        def __init__(self, *given: Any) -> None:
            super().__init__(*given)
            config = self.connection.config
            config.validate_inbound_headers = config.normalize_inbound_headers = False
            config.validate_outbound_headers = config.normalize_outbound_headers = False

    vars(hypercorn.protocol)["H2Protocol"] = LeanH2Protocol
    vars(h2.connection)["repr"] = object.__repr__  # of each frame


def hand_over(listening: socket.socket, server: Any) -> None:
    """Let a server of granian serve on a socket that listens already; it closes it."""
    from granian import net

    holder: Any = vars(net)["SocketHolder"]

    def take_over() -> None:
        server._shd = holder(listening.detach(), False, server.backlog)

    server._init_shared_socket = take_over
