"""The log of the commands: one line per record on stderr, as text or JSON, with the turn that it is about."""

import logging
import time
from contextvars import ContextVar
from datetime import UTC, datetime

import click
from fastapi import HTTPException
from pydantic_core import to_json

from adk_chat.protocol.errors import STATUS
from adk_chat.protocol.turn_id import TurnId
from adk_chat.settings import LogFormat, LogLevel

_SERVER_ERROR = 500

current_turn: ContextVar[TurnId | None] = ContextVar("current_turn", default=None)
"""The turn that is running here, for every log record."""


def configure(level: LogLevel, form: LogFormat) -> None:
    """Sets up logging. Other packages are logged from WARNING up, or from DEBUG if that is the level."""
    number = logging.getLevelNamesMapping()[level]
    handler = logging.StreamHandler()
    handler.setFormatter(_Json() if form == "json" else _Text())
    if number > logging.DEBUG:
        handler.addFilter(_once)
    logging.basicConfig(level=number if number <= logging.DEBUG else max(number, logging.WARNING), handlers=[handler])
    logging.getLogger("adk_chat").setLevel(number)


def say(message: str, *, level: LogLevel = "INFO") -> None:
    """Tells whoever started the process something, as text or JSON like the log. Above INFO it goes to stderr."""
    if any(isinstance(handler.formatter, _Json) for handler in logging.getLogger().handlers):
        said = {"time": _iso(time.time()), "level": level, "logger": "adk_chat", "message": message.strip()}
        message = to_json(said).decode()
    elif level == "ERROR":
        message = f"Error: {message}"
    click.echo(message, err=level != "INFO")


def _once(record: logging.LogRecord) -> bool:
    """ADK logs a failure at each level that it passes, with the traceback each time, and then we log it.

    It also logs what was refused to a client.
    """
    error = record.exc_info[1] if record.exc_info else None
    if error is None or not record.name.startswith("google_adk."):
        return True
    if isinstance(error, tuple(STATUS)) or (isinstance(error, HTTPException) and error.status_code < _SERVER_ERROR):
        return False
    if type(error).__module__.startswith("adk_chat."):
        record.exc_info = None  # a refusal needs no traceback
        return True
    return current_turn.get() is None


class _Text(logging.Formatter):
    def __init__(self) -> None:
        super().__init__("%(time)s %(levelname)-7s %(name)s%(turn)s: %(message)s")

    def format(self, record: logging.LogRecord) -> str:
        turn = current_turn.get()
        record.time = _time(record)
        record.turn = f" [{turn.invocation_id} {turn.key}]" if turn else ""
        return super().format(record)


class _Json(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        turn = current_turn.get()
        fields = {
            "time": _time(record),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
            "turn_id": str(turn) if turn else None,
            **(turn.key.model_dump() if turn else {}),
            **getattr(record, "fields", {}),
            "exception": self.formatException(record.exc_info) if record.exc_info else None,
        }
        return to_json({name: value for name, value in fields.items() if value is not None}, fallback=repr).decode()


def _time(record: logging.LogRecord) -> str:
    return _iso(record.created)


def _iso(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds")
