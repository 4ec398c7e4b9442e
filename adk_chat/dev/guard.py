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

_GRACE = 5  # seconds between asking the command to end and making it


def _die_with_parent() -> None:
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG


def _end(child: "subprocess.Popen[bytes]") -> None:
    child.terminate()
    try:
        child.wait(_GRACE)
    except subprocess.TimeoutExpired:
        child.kill()


def _end_with_starter(child: "subprocess.Popen[bytes]") -> None:
    while os.read(0, 4096):  # not sys.stdin, whose lock would be held when Python ends
        pass
    with contextlib.suppress(ProcessLookupError):
        _end(child)


def main() -> None:
    """Run the command that the arguments are."""
    child = subprocess.Popen(
        sys.argv[1:], stdin=subprocess.DEVNULL, preexec_fn=_die_with_parent if sys.platform == "linux" else None
    )
    signal.signal(signal.SIGTERM, lambda *_: _end(child))
    threading.Thread(target=_end_with_starter, args=(child,), daemon=True).start()
    sys.exit(child.wait())


if __name__ == "__main__":
    main()
