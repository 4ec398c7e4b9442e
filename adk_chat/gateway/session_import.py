"""Stores a session that is posted with its events in one write. ADK's endpoint would append them one by one."""

from typing import Any

from fastapi import FastAPI
from fastapi.routing import APIRoute
from google.adk.cli.api_server import CreateSessionRequest
from google.adk.sessions.session import Session

from adk_chat.gateway import seams
from adk_chat.gateway.sessions import GatewaySessions

_PATH = "/apps/{app_name}/users/{user_id}/sessions"


def import_whole(app: FastAPI, sessions: GatewaySessions) -> None:
    """Makes ADK's endpoint create sessions together with their events."""
    routes = app.router.routes
    place, theirs = next(
        (place, route)
        for place, route in enumerate(routes)
        if isinstance(route, APIRoute) and route.path == _PATH and "POST" in (route.methods or ())
    )

    async def create_session(app_name: str, user_id: str, req: CreateSessionRequest | None = None) -> Any:
        if req is None or not req.events:
            return await theirs.endpoint(app_name, user_id, req)
        with sessions.beginning_with(seams.restored(req.events)):
            return await theirs.endpoint(app_name, user_id, req.model_copy(update={"events": None}))

    app.post(_PATH, response_model=Session, response_model_exclude_none=True)(create_session)
    routes[place] = routes.pop()
