"""Whether every route of an app is guarded. The routes are listed from the app."""

import re
from collections.abc import Iterator

import httpx
from fastapi import FastAPI
from starlette.routing import Mount, Route

from adk_chat.protocol.turn_id import TurnId, TurnKey
from tests.support import Json

OPEN = {
    "/",
    "/health",
    "/ready",
    "/version",
    "/dev-ui",
    "/dev-ui/",
    "/dev-ui/x",
    "/dev-ui/index.html",
    "/dev-ui/adk-chat.js",
    "/dev-ui/config",
    "/dev-ui/assets/config/runtime-config.json",
}
SHARED = {"/list-apps", "/agui/x/capabilities", "/copilotkit/info"}


def turn_id(user: str) -> str:
    """The id of a turn of that user."""
    return str(TurnId(invocation_id="inv_1x", key=TurnKey(user_id=user, app_name="x", session_id="x")))


def requests(app: FastAPI, user: str) -> list[tuple[str, str, Json | None]]:
    """A request for each method of each route. It names the user in one place only, and only its check can refuse it.

    That place is the path if the route has a user in it. Other routes are called with the user in the body, and
    without. Those of AG-UI need not name one; they are called with the user where a frontend may name it.
    """
    values = {"user_id": user, "turn_id": turn_id(user)}
    body = {"userId": user, "appName": "x", "sessionId": "x", "newMessage": {"parts": [{"text": "hi"}]}}
    asked: list[tuple[str, str, Json | None]] = []
    for method, path in sorted(set(_routes(app))):
        names = re.findall(r"{(\w+)(?::path)?}", path)
        filled = re.sub(r"{(\w+)(:path)?}", lambda name: values.get(name[1], "x"), path)
        if path.startswith(("/agui/", "/copilotkit")):
            asked.append(_of_frontend(method, filled, user))
            continue
        bodies = [None] if values.keys() & set(names) else [None, body]
        asked += [(method, filled, each) for each in bodies]
    return asked


def _of_frontend(method: str, path: str, user: str) -> tuple[str, str, Json | None]:
    messages = [{"id": "m", "role": "user", "content": "hi"}]
    run = {"threadId": "x", "runId": "x", "messages": messages, "forwardedProps": {"userId": user}}
    if path == "/copilotkit":
        return method, path, {"method": "agent/run", "params": {"agentId": "x"}, "body": run}
    if method == "POST" and "stop" not in path:
        return method, path, run
    return method, path if path in SHARED else f"{path}?user_id={user}", None


def _routes(app: FastAPI) -> Iterator[tuple[str, str]]:
    for route in app.routes:
        if isinstance(route, Mount):
            yield "GET", f"{route.path}/x"
        elif isinstance(route, Route):
            yield from ((method, route.path) for method in route.methods or {"GET"})
    for path, operations in app.openapi()["paths"].items():  # routes of included routers
        yield from ((method.upper(), path) for method in operations)


async def unguarded(client: httpx.AsyncClient, app: FastAPI, user: str, **headers: str) -> list[str]:
    """The requests about that user which were answered, beyond what everybody may see."""
    answered = []
    for method, path, body in requests(app, user):
        # One byte of the answer is enough to know.
        async with client.stream(method, path, json=body, headers=headers) as response:
            expected = 403 if headers else 401
            public = method in ("GET", "HEAD") and path in (OPEN | SHARED if headers else OPEN)
            if response.status_code != expected and not public:
                answered.append(f"{method} {path} {body or ''}: {response.status_code}")
    return answered
