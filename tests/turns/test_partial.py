"""What is kept of interrupted answers."""

from google.adk.events.event import Event
from google.genai import types

from adk_chat.turns.partial import PartialAnswers, kept


def said(author: str, text: str, *, thought: bool | None = None, partial: bool = True) -> Event:
    content = types.Content(role="model", parts=[types.Part(text=text, thought=thought)])
    return Event(author=author, branch=f"both.{author}", content=content, partial=partial)


def test_agents_that_speak_at_once_are_kept_apart() -> None:
    answers = PartialAnswers()
    for event in (
        said("one", "hm", thought=True),
        said("two", "Good "),
        said("one", "Hello "),
        said("two", "day"),
        said("one", "there"),
        said("three", "complete ", partial=True),
        said("three", "complete", partial=False),
    ):
        answers.hear(event)
    found = {event.author: event for event in kept(answers.dump())}
    texts = {
        author: [part.text for part in event.content.parts or []] for author, event in found.items() if event.content
    }
    assert texts == {"one": ["hm", "Hello there"], "two": ["Good day"]}
    assert all(event.interrupted and not event.partial for event in found.values())
