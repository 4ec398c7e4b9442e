"""Runs a command and ends it when whoever started this is gone, even by SIGKILL: then our stdin reaches its end.

Run as a script, so that it starts without the package and what that imports.
"""

import contextlib
import ctypes
import os
import signal
import subprocess
import sys
import threading

_GRACE = 5.0  # seconds between asking the command to end and making it, unless --grace says otherwise


def _die_with_parent() -> None:
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG


def _end(child: "subprocess.Popen[bytes]", grace: float) -> None:
    child.terminate()
    try:
        child.wait(grace)
    except subprocess.TimeoutExpired:
        child.kill()


def _end_with_starter(child: "subprocess.Popen[bytes]", grace: float) -> None:
    while os.read(0, 4096):  # not sys.stdin, whose lock would be held when Python ends
        pass
    with contextlib.suppress(ProcessLookupError):
        _end(child, grace)


def main() -> None:
    """Run the command that the arguments are."""
    command, grace = sys.argv[1:], _GRACE
    if command[0] == "--grace":
        command, grace = command[2:], float(command[1])
    child = subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        close_fds=False,  # sockets that it is to serve on
        preexec_fn=_die_with_parent if sys.platform == "linux" else None,
    )
    signal.signal(signal.SIGTERM, lambda *_: _end(child, grace))
    threading.Thread(target=_end_with_starter, args=(child, grace), daemon=True).start()
    sys.exit(child.wait())


if __name__ == "__main__":
    main()
