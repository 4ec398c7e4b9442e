"""The K/V of a virtual object as JSON values."""

from typing import Any

import restate
from pydantic_core import from_json, to_json
from restate.serde import BytesSerde


class ObjectState:
    """`KeyValue` over the context of a handler of a virtual object."""

    def __init__(self, context: restate.ObjectContext | restate.ObjectSharedContext) -> None:
        self._context: Any = context

    async def get(self, *names: str) -> list[Any]:
        """The values behind `names`, read at the same time; None for what is not there."""
        futures = [self._context.get(name, serde=BytesSerde()) for name in names]
        await restate.gather(*futures)
        values = [await future for future in futures]
        return [None if value is None else from_json(value) for value in values]

    async def keys(self) -> list[str]:
        """All names."""
        return list(await self._context.state_keys())

    def set(self, name: str, value: object) -> None:
        """Store a JSON value."""
        self._context.set(name, to_json(value), serde=BytesSerde())

    def clear(self, name: str) -> None:
        """Remove a value, if it is there."""
        self._context.clear(name)
