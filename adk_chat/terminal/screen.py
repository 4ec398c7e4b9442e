"""How a conversation looks in a terminal, or in a file."""

import json
import sys
from typing import Any

import click

Json = dict[str, Any]

_LINE = 100
_MODEL_RETRY = "adk_chat_model_retry"
"""As in adk_chat.protocol.turn_end. Not imported, so that the terminal starts at once; it knows only the gateway."""
# The model's text must not move the cursor or set the window's title.
_CONTROLS = {code: None for code in (*range(32), *range(127, 160)) if chr(code) not in "\n\t"}


class Screen:
    """Prints the events of turns. On a terminal, text appears as it arrives; elsewhere once it is final."""

    def __init__(self) -> None:
        self._live = sys.stdout.isatty()
        self._author: str | None = None
        self._speaking: str | None = None
        self._partial = ""
        self._again: str | None = None  # what a repeated answer has said of what is shown
        self._complaint = ""
        self._mid_line = False

    def begin(self) -> None:
        """A new answer begins."""
        self._author = self._speaking = self._again = None
        self._partial = self._complaint = ""

    def event(self, event: Json) -> None:
        """Shows an event of the turn."""
        if (retry := (event.get("customMetadata") or {}).get(_MODEL_RETRY)) is not None:
            self.note(_line(f"({retry['model']} failed; retrying in {retry['seconds']:g} s)"))
            return
        if event.get("partial"):
            self._say_partial(event)
            return
        text = text_of(event)
        if self._speaking == _author(event):
            self._complete(text)
        elif text:
            self._turn_to(event)
            click.echo(text)
        self._show_tools(event)
        if event.get("interrupted"):
            self.note("(cancelled)")
        if message := event.get("errorMessage") or event.get("errorCode"):
            self.error(str(message))
            self._complaint = str(message)

    def reset(self) -> None:
        """The text so far is void. That matters only if the new text differs."""
        if self._partial:
            self._again = ""

    def note(self, line: str) -> None:
        """Shows a line beside the conversation."""
        self.end()
        click.secho(_clean(line), dim=True)

    def error(self, line: str) -> None:
        """Shows an error once: the turn's last event and the end of the turn both report it."""
        self.end()
        if not self._complaint or self._complaint not in line:
            click.secho(_clean(line), fg="red", err=True)

    def past(self, event: Json) -> None:
        """Shows an event of the history."""
        if event.get("author") == "user":
            if text := text_of(event):
                click.echo(click.style("> ", bold=True) + text)
        else:
            self.event(event)

    def end(self) -> None:
        """Starts a new line for whatever comes next."""
        if self._mid_line:
            click.echo()
        self._mid_line = False

    def _say_partial(self, event: Json) -> None:
        text = text_of(event)
        if not (self._live and text) or self._speaking not in (None, _author(event)):
            return  # if several agents speak at once, the others are shown when they are done
        if self._again is not None:
            self._again += text
            if self._partial.startswith(self._again):
                return
            if self._again.startswith(self._partial):
                text, self._again = self._again[len(self._partial) :], None
            else:
                text = self._again
                self._restart()
        if self._speaking is None:
            self._turn_to(event)
            self._speaking = _author(event)
        click.echo(text, nl=False)
        self._mid_line = True
        self._partial += text

    def _complete(self, text: str) -> None:
        """Shows the final text of what was shown in part."""
        if text.startswith(self._partial) or (not text and self._again is None):
            rest = text[len(self._partial) :]
            click.echo(rest, nl=False)
            self._mid_line = self._mid_line or bool(rest)
            self._speaking, self._partial, self._again = None, "", None
            self.end()
        else:
            self._restart()
            if text:
                click.echo(text)

    def _restart(self) -> None:
        self._speaking, self._partial, self._again = None, "", None
        self.note("(answer restarted)")

    def _turn_to(self, event: Json) -> None:
        if self._author not in (None, _author(event)):
            self.note(f"[{_author(event)}]")
        self._author = _author(event)

    def _show_tools(self, event: Json) -> None:
        for part in parts_of(event):
            if call := part.get("functionCall"):
                arguments = ", ".join(f"{name}={_short(value)}" for name, value in (call.get("args") or {}).items())
                self.note(_line(f"-> {call.get('name')}({arguments})"))
            if response := part.get("functionResponse"):
                self.note(_line(f"<- {response.get('name')}: {_short(response.get('response'))}"))


def parts_of(event: Json) -> list[Json]:
    """Returns the parts of an event's content."""
    return (event.get("content") or {}).get("parts") or []


def text_of(event: Json) -> str:
    """Returns an event's text, without thoughts."""
    return _clean("".join(part["text"] for part in parts_of(event) if part.get("text") and not part.get("thought")))


def _author(event: Json) -> str:
    return str(event.get("author", ""))


def _clean(text: str) -> str:
    return text.translate(_CONTROLS)


def _short(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)


def _line(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= _LINE else f"{line[: _LINE - 3]}..."
