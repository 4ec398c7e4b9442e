"""AppState: the `app:` state of an app, shared by all its users. Its key is the app's name."""

from typing import Any

import restate
from pydantic import BaseModel, ConfigDict, RootModel

from adk_chat.objects.handler import handler
from adk_chat.objects.state import ObjectState
from adk_chat.sessions.contract import Json

APP_STATE = "AppState"
_STATE = "state"


class Nothing(BaseModel):
    """No input."""

    model_config = ConfigDict(extra="forbid")


class Delta(RootModel[dict[str, Any]]):
    """Keys without prefix, and their new values."""


def app_state_object() -> restate.VirtualObject:
    """The object, with its handlers."""
    app_state = restate.VirtualObject(APP_STATE, description="The app: state that all users of an app share.")

    @handler(app_state, Nothing, kind="shared")
    async def get(ctx: restate.ObjectSharedContext, request: Nothing) -> Json:
        """The state, keys without prefix."""
        (state,) = await ObjectState(ctx).get(_STATE)
        return state or {}

    @handler(app_state, Delta)
    async def update(ctx: restate.ObjectContext, delta: Delta) -> Json:
        """Set some keys; answers the whole state as it is then."""
        (state,) = await ObjectState(ctx).get(_STATE)
        state = {**(state or {}), **delta.root}
        ObjectState(ctx).set(_STATE, state)
        return state

    return app_state
