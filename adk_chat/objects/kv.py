"""The K/V of a virtual object as JSON values."""

from typing import Any

import restate
from pydantic_core import from_json, to_json
from restate.serde import BytesSerde

from adk_chat.protocol.limits import sized

_BYTES = BytesSerde()


class ObjectState:
    """`KeyValue` over the context of a handler of a virtual object. A value is read from the engine once a handler.

    What is set and cleared is kept back until `write`: the engine keeps what a handler wrote before it was refused.
    """

    def __init__(self, context: restate.ObjectContext | restate.ObjectSharedContext) -> None:
        self._context: Any = context
        self._values: dict[str, Any] = {}
        self._names: list[str] | None = None
        self._changes: dict[str, bytes | None] = {}

    async def get(self, *names: str) -> list[Any]:
        """The values behind `names`, read at the same time; None for what is not there."""
        await self._read([name for name in names if name not in self._values])
        return [self._values[name] for name in names]

    async def keys(self) -> list[str]:
        """All names."""
        await self._read([], keys=True)
        return self._names or []

    async def prefetch(self, *names: str, keys: bool = False) -> None:
        """Read at the same time what will be asked for one after the other."""
        await self._read([name for name in names if name not in self._values], keys=keys)

    def set(self, name: str, value: object) -> None:
        """See `KeyValue`."""
        self._changes[name] = sized(to_json(value), name)
        self._values[name] = value

    def clear(self, name: str) -> None:
        """See `KeyValue`."""
        self._changes[name] = None
        self._values[name] = None

    def write(self) -> None:
        """Write what was set and cleared. Nothing is refused any more."""
        for name, data in self._changes.items():
            if data is None:
                self._context.clear(name)
            else:
                self._context.set(name, data, serde=_BYTES)
        self._changes = {}

    async def _read(self, names: list[str], keys: bool = False) -> None:
        # All are asked for before the first answer is awaited.
        values = [self._context.get(name, serde=_BYTES) for name in names]
        all_names = self._context.state_keys() if keys and self._names is None else None
        for name, value in zip(names, values, strict=True):
            stored = await value
            self._values[name] = None if stored is None else from_json(stored)
        if all_names is not None:
            self._names = list(await all_names)
