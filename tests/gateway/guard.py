"""Whether every route of an app is guarded: the routes are listed, not written down."""

from collections.abc import Iterable, Iterator
from typing import Any

import httpx
from starlette.routing import Mount, Route

from adk_chat.sessions.turn_id import TurnId, TurnKey
from tests.support import Json

OPEN = {
    "/",
    "/health",
    "/version",
    "/dev-ui",
    "/dev-ui/x",
    "/dev-ui/config",
    "/dev-ui/assets/config/runtime-config.json",
}
SHARED = {"/list-apps", "/apps/x/app-info"}


def turn_id(user: str) -> str:
    """The id of a turn of that user."""
    return str(TurnId(invocation_id="inv_1x", key=TurnKey(user_id=user, app_name="x", session_id="x")))


def requests(routes: Iterable[Any], user: str) -> Iterator[tuple[str, str, Json]]:
    """A request for each method of each route, with that user wherever one can be named."""
    for route in routes:
        if isinstance(route, Mount):
            yield "GET", f"{route.path}/x", {}
        elif isinstance(route, Route):
            path = route.path
            for name in route.param_convertors:
                value = {"user_id": user, "turn_id": turn_id(user)}.get(name, "x")
                path = path.replace(f"{{{name}:path}}", value).replace(f"{{{name}}}", value)
            for method in route.methods or {"GET"}:
                yield method, path, {"userId": user, "appName": "x", "sessionId": "x"}


async def unguarded(client: httpx.AsyncClient, routes: Iterable[Any], user: str, **headers: str) -> list[str]:
    """The requests about that user which were answered, beyond what everybody may see."""
    answered = []
    for method, path, body in requests(routes, user):
        # As little as a byte of the answer is enough to know.
        async with client.stream(method, path, json=body, headers=headers) as response:
            expected = 403 if headers else 401
            public = method in ("GET", "HEAD") and path in (OPEN | SHARED if headers else OPEN)
            if response.status_code != expected and not public:
                answered.append(f"{method} {path}: {response.status_code}")
    return answered
