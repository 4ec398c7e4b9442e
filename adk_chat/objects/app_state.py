"""AppState: the `app:` state of an app, shared by all its users. Its key is the app's name."""

import time
from datetime import timedelta
from typing import Any

import restate
from pydantic import BaseModel, ConfigDict, RootModel
from pydantic_core import from_json, to_json

from adk_chat.durable import record
from adk_chat.objects.handler import handler
from adk_chat.objects.state import ObjectState
from adk_chat.sessions.contract import MAX_STATE_BYTES, Json, sized

APP_STATE = "AppState"
_STATE = "state"
_VERSION = "version"


class Nothing(BaseModel):
    """No input."""

    model_config = ConfigDict(extra="forbid")


class Delta(RootModel[dict[str, Any]]):
    """Keys without prefix, and their new values."""


class VersionedState(BaseModel):
    """The state, keys without prefix, and how often it was changed."""

    version: int = 0
    state: Json = {}


def app_state_object() -> restate.VirtualObject:
    """The object, with its handlers."""
    app_state = restate.VirtualObject(
        APP_STATE, description="The app: state that all users of an app share.", journal_retention=timedelta(0)
    )

    @handler(app_state, Nothing, kind="shared")
    async def get(ctx: restate.ObjectSharedContext, request: Nothing) -> VersionedState:
        """The state as it is now."""
        return await _read(ObjectState(ctx))

    @handler(app_state, Delta)
    async def update(ctx: restate.ObjectContext, delta: Delta) -> VersionedState:
        """Set some keys; answers the whole state as it is then."""
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
    """Reads and changes the `app:` state from other handlers, and keeps in this process what it last saw of it.

    Args:
        max_age: how old what was last seen may be for `recent` to give it.
    """

    def __init__(self, max_age: timedelta) -> None:
        self._max_age = max_age.total_seconds()
        self._seen: dict[str, tuple[float, VersionedState]] = {}

    async def current(self, ctx: restate.Context, app: str) -> VersionedState:
        """The state as it is now."""
        return VersionedState.model_validate_json(await ctx.generic_call(APP_STATE, "get", b"{}", key=app))

    async def recent(self, ctx: restate.Context, app: str, version: int) -> Json:
        """The state as it was lately, and not before it had `version`."""
        live = False

        def seen() -> bytes:
            nonlocal live
            live = True
            at, known = self._seen.get(app, (0.0, VersionedState()))
            fresh = at and time.monotonic() - at < self._max_age and known.version >= version
            return to_json(known.state if fresh else None)

        state: Json | None = from_json(await record(ctx, "app state", seen))
        if state is None:
            began = time.monotonic()
            current = await self.current(ctx, app)
            state = current.state
            if live:
                self._seen[app] = (began, current)
        return state

    async def update(self, ctx: restate.Context, app: str, delta: Json) -> VersionedState:
        """Set some keys; gives the state as it is then.

        Raises:
            restate.TerminalError: 413, it would become too large; it is as it was.
        """
        return VersionedState.model_validate_json(await ctx.generic_call(APP_STATE, "update", to_json(delta), key=app))
