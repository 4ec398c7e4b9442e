"""Writes the docs on routes, handlers and settings from the code, and fails if that changed a page."""

import inspect
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI
from fastapi.routing import APIRoute
from google.adk.artifacts.in_memory_artifact_service import InMemoryArtifactService
from google.adk.memory.in_memory_memory_service import InMemoryMemoryService
from pydantic_core import PydanticUndefined

from adk_chat import ChatService, Settings
from adk_chat.gateway.agui.routes import agui_routes
from adk_chat.gateway.server import GatewayConfig, gateway_app
from adk_chat.gateway.streams.routes import ready_route, turn_routes
from tests.support import scripted_app

DOCS = Path(__file__).parents[1] / "docs"
SERVICE = ChatService(scripted_app("assistant"), settings=Settings())


def table(head: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> str:
    lines = [head, tuple("---" for _ in head), *rows]
    return "".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |\n" for line in lines)


def sentence(text: str | None) -> str:
    """The first paragraph of a docstring, as one line."""
    return " ".join(inspect.cleandoc(text or "").split("\n\n")[0].split())


def routes() -> str:
    """ADK's routes and ours, by path."""
    app = gateway_app(
        GatewayConfig(
            apps=SERVICE.apps,
            ingress_url="http://localhost:8080",
            admin_url="http://localhost:9070",
            artifact_service=InMemoryArtifactService(),
            memory_service=InMemoryMemoryService(),
        )
    )
    rows = []
    for path, operations in app.openapi()["paths"].items():
        for method, operation in operations.items():
            by = "ADK" if "adk_chat" not in _module(app, path, method.upper()) else ""
            said = sentence(operation.get("description")) or operation["summary"]
            rows.append((f"`{method.upper()} {path}`", said.rstrip("."), by))
    return table(("route", "", ""), sorted(rows))


def _module(app: FastAPI, path: str, method: str) -> str:
    """Where the endpoint of a route is defined."""
    nothing: Any = None
    ours = [*turn_routes(nothing, nothing, nothing, {}).routes, *ready_route(nothing).routes]
    ours += agui_routes(nothing, {}, {}).routes
    found = [route for route in [*ours, *app.routes] if isinstance(route, APIRoute)]
    same = [one for one in found if one.path.replace(":path", "") == path and method in (one.methods or ())]
    return str(same[0].endpoint.__module__)


def handlers() -> str:
    """The public handlers of Chat, each with what it takes."""
    text = ""
    shown: dict[type, str] = {}
    for name, handler in SERVICE.objects[0].handlers.items():
        request = inspect.signature(handler.fn).parameters["request"].annotation
        if handler.ingress_private:
            continue
        text += f"### `{name}`\n\n{sentence(handler.description or handler.fn.__doc__)}\n\n"
        fields = {field: info for field, info in request.model_fields.items() if field != "app_name"}
        if request in shown:
            text += f"It takes the same as `{shown[request]}`.\n\n"
        elif fields:
            rows = [
                (f"`{field}`", "" if not i.is_required() else "required", i.description or "")
                for field, i in fields.items()
            ]
            text += table(("field", "", ""), rows) + "\n"
        shown.setdefault(request, name)
    return text.rstrip() + "\n"


def settings() -> str:
    """All settings, with their defaults."""
    rows = []
    for name, field in Settings.model_fields.items():
        default: Any = None if field.default is PydanticUndefined else field.default
        shown = "" if default in (None, []) else f"`{str(default).lower() if isinstance(default, bool) else default}`"
        rows.append((f"`ADK_CHAT_{name.upper()}`", shown, field.description or ""))
    return table(("variable", "default", ""), rows)


@pytest.mark.parametrize(
    ("page", "part", "write"),
    [("http-api.md", "routes", routes), ("http-api.md", "handlers", handlers), ("settings.md", "settings", settings)],
)
def test_a_page_says_what_the_code_says(page: str, part: str, write: Any) -> None:
    path = DOCS / page
    before = path.read_text()
    begin, end = f"<!-- {part}: written by tests/test_pages.py -->\n", f"<!-- end of {part} -->"
    assert before.count(begin) == before.count(end) == 1, f"{page} has no place for {part}."
    head, _, rest = before.partition(begin)
    after = f"{head}{begin}\n{write()}\n{end}{rest.partition(end)[2]}"
    path.write_text(after)
    assert re.sub(r"\s+", " ", after) == re.sub(r"\s+", " ", before), f"docs/{page} was outdated. Commit what changed."
