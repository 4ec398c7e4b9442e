"""How a failure in user code is shown: its full message, and the lines of that code that led to it."""

import importlib
import sysconfig
import traceback
from collections.abc import Sequence
from itertools import dropwhile
from pathlib import Path

import google.adk
import restate

_OURS = str(Path(__file__).parents[1])
_FRAMEWORKS = (_OURS, *(path for module in (google.adk, restate, importlib) for path in module.__path__))
_STANDARD = sysconfig.get_path("stdlib")


def own_traceback(error: BaseException) -> str:
    """Returns the error and its traceback, from the first line that is not ours, ADK's, Restate's or Python's own.

    The exception may have been wrapped on its way. The lines are those of the innermost exception that has any.
    """
    for raised in reversed(chain(error)):
        frames = list(dropwhile(_of_a_framework, traceback.extract_tb(raised.__traceback__)))
        if frames:
            said = traceback.format_list(frames)
            return "".join(["Traceback (most recent call last):\n", *said, *traceback.format_exception_only(error)])
    return "".join(traceback.format_exception_only(error))


def chain(error: BaseException) -> list[BaseException]:
    """Returns an error, its cause, and so on."""
    found = [error]
    while (cause := found[-1].__cause__ or found[-1].__context__) is not None and cause not in found:
        found.append(cause)
    return found


def called_frames(frames: Sequence[traceback.FrameSummary]) -> list[traceback.FrameSummary]:
    """Of frames, outermost first, returns those of the code that ADK called last and of what that calls."""
    last = next((n for n in reversed(range(len(frames))) if frames[n].filename.startswith(_FRAMEWORKS)), -1)
    return list(frames[last + 1 :])


def _of_a_framework(frame: traceback.FrameSummary) -> bool:
    name = frame.filename
    standard = name.startswith(_STANDARD) and "site-packages" not in name
    return standard or name.startswith((*_FRAMEWORKS, "<frozen "))
