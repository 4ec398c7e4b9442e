"""Runs a command and ends it when its starter is gone, even by SIGKILL: stdin reaches its end.

A starter that is still there can ask the command to end by writing a word to stdin and closing it.

It is run as a script, so that it starts without importing the package.
"""

import contextlib
import ctypes
import os
import signal
import subprocess
import sys
import threading

_GRACE = 5.0
"""Seconds between asking the command to end and killing it. `--grace` sets it for a request to end, and `--orphaned`
for a starter that is gone."""


def _die_with_parent() -> None:
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG


def _end(child: "subprocess.Popen[bytes]", grace: float) -> None:
    child.terminate()
    try:
        child.wait(grace)
    except subprocess.TimeoutExpired:
        child.kill()


def _end_with_starter(child: "subprocess.Popen[bytes]", grace: float, orphaned: float) -> None:
    while os.read(0, 4096):  # not sys.stdin, whose lock would be held when Python exits
        orphaned = grace
    with contextlib.suppress(ProcessLookupError):
        _end(child, orphaned)


def main() -> None:
    """Runs the command in the arguments."""
    command, seconds = sys.argv[1:], {"--grace": _GRACE, "--orphaned": _GRACE}
    while command[0] in seconds:
        seconds[command[0]] = float(command[1])
        command = command[2:]
    grace, orphaned = seconds["--grace"], seconds["--orphaned"]
    child = subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        close_fds=False,  # sockets that it will serve on
        preexec_fn=_die_with_parent if sys.platform == "linux" else None,
    )
    signal.signal(signal.SIGTERM, lambda *_: _end(child, grace))
    threading.Thread(target=_end_with_starter, args=(child, grace, orphaned), daemon=True).start()
    sys.exit(child.wait())


if __name__ == "__main__":
    main()
