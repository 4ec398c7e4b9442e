"""AppState: the `app:` state of an app, shared by all its users. Its key is the app's name."""

import time
from datetime import timedelta
from math import inf
from typing import Any

import restate
from pydantic import BaseModel, ConfigDict, RootModel
from pydantic_core import to_json

from adk_chat.objects.calls import ask
from adk_chat.objects.handler import handler
from adk_chat.objects.kv import ObjectState
from adk_chat.protocol.json import Json
from adk_chat.protocol.limits import MAX_STATE_BYTES, sized

APP_STATE = "AppState"
_STATE = "state"
_VERSION = "version"


class Nothing(BaseModel):
    """No input."""

    model_config = ConfigDict(extra="forbid")


class Delta(RootModel[dict[str, Any]]):
    """Keys without their prefix, and the new values."""


class VersionedState(BaseModel):
    """The state, keys without their prefix, and how many times it was changed."""

    model_config = ConfigDict(ser_json_inf_nan="constants")

    version: int = 0
    state: Json = {}


def app_state_object() -> restate.VirtualObject:
    """Returns the object with its handlers."""
    app_state = restate.VirtualObject(
        APP_STATE, description="The app: state that all users of an app share.", journal_retention=timedelta(0)
    )

    @handler(app_state, Nothing, kind="shared")
    async def get(ctx: restate.ObjectSharedContext, request: Nothing) -> VersionedState:
        """The current state."""
        return await _read(ObjectState(ctx))

    @handler(app_state, Delta)
    async def update(ctx: restate.ObjectContext, delta: Delta) -> VersionedState:
        """Set some keys. Returns the whole state after the change."""
        kv = ObjectState(ctx)
        before = await _read(kv)
        after = VersionedState(version=before.version + 1, state={**before.state, **delta.root})
        sized(to_json(after.state), "The app: state", MAX_STATE_BYTES)
        kv.set(_STATE, after.state)
        kv.set(_VERSION, after.version)
        kv.write()
        return after

    return app_state


async def _read(kv: ObjectState) -> VersionedState:
    state, version = await kv.get(_STATE, _VERSION)
    return VersionedState(version=version or 0, state=state or {})


class AppStates:
    """Reads and changes the `app:` state from other handlers, and caches in this process which apps have none.

    Args:
        max_age: how long to cache that an app has no state, in seconds.
    """

    def __init__(self, max_age: timedelta) -> None:
        self._max_age = max_age.total_seconds()
        self._none: dict[str, float] = {}
        """When an app was last seen without state, by `time.monotonic`."""

    async def current(self, ctx: restate.Context, app: str) -> VersionedState:
        """Returns the current state."""
        return VersionedState.model_validate_json(await ask(ctx, APP_STATE, "get", b"{}", app))

    def had_none(self, app: str) -> bool:
        """Returns whether the app had no state a moment ago. The caller has to journal the answer."""
        return time.monotonic() < self._none.get(app, -inf) + self._max_age

    async def current_for(self, ctx: restate.Context, app: str, *, live: bool) -> Json:
        """Returns the current state for a turn. Cached if the app had none a moment ago.

        Args:
            ctx: the handler's context.
            app: the app.
            live: whether this is not a replay.
        """
        began = time.monotonic()
        current = await self.current(ctx, app)
        if current.version:
            self._none.pop(app, None)
        elif live:
            self._none[app] = began
        return current.state

    async def update(self, ctx: restate.Context, app: str, delta: Json) -> VersionedState:
        """Sets some keys and returns the state after that.

        Raises:
            restate.TerminalError: 413 if the state would become too large; nothing is changed.
        """
        self._none.pop(app, None)
        return VersionedState.model_validate_json(await ctx.generic_call(APP_STATE, "update", to_json(delta), key=app))
