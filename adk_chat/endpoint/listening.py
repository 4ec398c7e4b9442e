"""Where a process listens, and when it is to stop."""

import asyncio
import os
import signal
import socket
import time
from functools import partial

from restate.server import install_shutdown_hook

BACKLOG = 4096
"""How many connections may wait to be accepted; another one is tried again by its system after 1, 3, 7, ... seconds.
Several processes on one port take few requests a connection, so that a crowd opens hundreds at once."""


_ONE_STOP_SECONDS = 1.0
"""SIGTERMs that come within that are one: systemd sends it to each process of a service, and so does what began us."""


class PortTakenError(Exception):
    """Somebody else listens where we were told to."""


def listen(host: str, port: int) -> socket.socket:
    """A listening socket; port 0 takes a free one.

    Raises:
        PortTakenError: the port is in use, or not ours to use.
    """
    listening = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    # Connections inherit it, and not every server sets it: small frames would wait 40 ms for an acknowledgement.
    listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    try:
        listening.bind((host, port))
    except OSError as error:
        listening.close()
        raise PortTakenError(f"Port {port} on {host} cannot be used: {error.strerror}.") from error
    listening.listen(BACKLOG)
    return listening


def stop_event() -> asyncio.Event:
    """An event that SIGTERM and SIGINT set. Another SIGINT ends the process at once, and so does a later SIGTERM.

    Restate's SDK replaces other handlers of SIGTERM; this one it knows of.
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
