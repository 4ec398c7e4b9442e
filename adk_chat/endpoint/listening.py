"""Sockets to listen on, and the signals to stop."""

import asyncio
import os
import signal
import socket
import time
from functools import partial

from restate.server import install_shutdown_hook

BACKLOG = 4096
"""How many connections may wait to be accepted. Above that, the client's system tries again after 1, 3, 7, ... seconds.
Worker processes take few requests per connection, so a crowd opens hundreds at once."""


_ONE_STOP_SECONDS = 1.0
"""SIGTERMs within this time count as one: systemd sends it to each process of a service, and so does our parent."""


class PortTakenError(Exception):
    """The port is in use, or may not be used."""


def listen(host: str, port: int) -> socket.socket:
    """Returns a listening socket; port 0 takes a free one.

    Raises:
        PortTakenError: if the port is in use, or may not be used.
    """
    listening = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    # Connections inherit it, and not every server sets it. Without it, small frames wait 40 ms for an acknowledgement.
    listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    try:
        listening.bind((host, port))
    except OSError as error:
        listening.close()
        raise PortTakenError(f"Port {port} on {host} cannot be used: {error.strerror}.") from error
    listening.listen(BACKLOG)
    return listening


def stop_event() -> asyncio.Event:
    """Returns an event that SIGTERM and SIGINT set. A second SIGINT, or a later SIGTERM, ends the process at once.

    Restate's SDK replaces other handlers of SIGTERM, but not this one.
    """
    stop = asyncio.Event()
    began = 0.0

    def stopped(signum: signal.Signals) -> None:
        nonlocal began
        if not stop.is_set():
            began = time.monotonic()
            stop.set()
        elif signum == signal.SIGINT or time.monotonic() - began > _ONE_STOP_SECONDS:
            os._exit(128 + signum)

    loop = asyncio.get_running_loop()
    for signum in (signal.SIGTERM, signal.SIGINT):
        install_shutdown_hook(loop, partial(stopped, signum), signum)
    return stop
