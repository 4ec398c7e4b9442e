"""The K/V of a virtual object as JSON values."""

from typing import Any

import restate
from pydantic_core import from_json, to_json
from restate.serde import BytesSerde

from adk_chat.protocol.limits import sized

_BYTES = BytesSerde()


class ObjectState:
    """`KeyValue` over the context of a virtual object's handler. Each value is read from the engine once per handler.

    Changes are held back until `write`: the engine would keep what a handler wrote before a refusal.
    """

    def __init__(self, context: restate.ObjectContext | restate.ObjectSharedContext) -> None:
        self._context: Any = context
        self._values: dict[str, Any] = {}
        self._names: list[str] | None = None
        self._changes: dict[str, bytes | None] = {}

    async def get(self, *names: str) -> list[Any]:
        """Returns the values of `names`, read concurrently; None for those that do not exist."""
        await self._read([name for name in names if name not in self._values])
        return [self._values[name] for name in names]

    async def keys(self) -> list[str]:
        """Returns all names."""
        await self._read([], keys=True)
        return self._names or []

    async def prefetch(self, *names: str, keys: bool = False) -> None:
        """Reads concurrently what will be asked for one after the other."""
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
        """Writes the changes. After this nothing can be refused."""
        for name, data in self._changes.items():
            if data is None:
                self._context.clear(name)
            else:
                self._context.set(name, data, serde=_BYTES)
        self._changes = {}

    async def _read(self, names: list[str], keys: bool = False) -> None:
        # All are requested before the first answer is awaited.
        values = [self._context.get(name, serde=_BYTES) for name in names]
        all_names = self._context.state_keys() if keys and self._names is None else None
        for name, value in zip(names, values, strict=True):
            stored = await value
            self._values[name] = None if stored is None else from_json(stored)
        if all_names is not None:
            self._names = list(await all_names)
