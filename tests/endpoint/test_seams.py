"""Holds what is private in the servers against the installed versions, and says what moved."""

import inspect

import hypercorn.protocol
from granian import net
from granian.server.embed import Server
from h2.config import H2Configuration
from hypercorn.protocol.h2 import H2Protocol

from adk_chat.endpoint import listen, seams

LEFT_OUT = ("validate_inbound_headers", "normalize_inbound_headers", "validate_outbound_headers")


def test_http2_is_made_where_it_is_replaced() -> None:
    seams.lean_http2()
    assert inspect.getsource(hypercorn.protocol.ProtocolWrapper).count("self.protocol = H2Protocol(\n") == 3, (
        "hypercorn makes its HTTP/2 by another way than H2Protocol; half a millisecond a turn is lost."
    )
    assert issubclass(vars(hypercorn.protocol)["H2Protocol"], H2Protocol)
    gone = [name for name in LEFT_OUT if name not in vars(H2Configuration)]
    assert not gone, f"h2's configuration has no {gone}; see adk_chat/endpoint/seams.py for what they were used for."


def test_a_socket_is_handed_over_where_granian_makes_its_own() -> None:
    assert hasattr(Server, "_init_shared_socket"), "granian makes its socket elsewhere than in _init_shared_socket."
    with listen("127.0.0.1", 0) as listening:
        holder = vars(net)["SocketHolder"](listening.fileno(), False, 1024)
        assert holder.get_fd() == listening.fileno(), "granian holds sockets by something else than their number."
