"""Which sessions a user deleted last, for turns whose messages were accepted before.

Each deletion has a number. The index holds the last one, and is read with every session.
"""

import hashlib

from pydantic import Field

from adk_chat.sessions.index import SessionIndex
from adk_chat.sessions.layout import DELETIONS, KeyValue, Record

_MOST = 256
"""How many deletions are kept. If a user deletes more sessions than this while a first message waits, the message is
refused as if its own session had been deleted."""


class _Noted(Record):
    last: dict[str, int] = Field({})
    """The numbers of the last deletions, oldest first, by the digest of the session's key."""
    dropped: int = 0
    """The number of the last deletion that has left `last`."""


class Deletions:
    """The deletions of a user.

    Args:
        kv: where they are stored.
        index: counts them.
    """

    def __init__(self, kv: KeyValue, index: SessionIndex) -> None:
        self._kv = kv
        self._index = index

    async def note(self, key: str) -> None:
        """Has the K/V note that the session under the key is deleted, even if it does not exist."""
        noted, number = await self._noted(), await self._index.count_deletion()
        noted.last.pop(_digest(key), None)
        noted.last[_digest(key)] = number
        while len(noted.last) > _MOST:
            noted.dropped = noted.last.pop(next(iter(noted.last)))
        self._kv.set(DELETIONS, noted.dump())

    async def since(self, key: str, number: int) -> bool:
        """Returns whether the session under the key was deleted, or may have been, after the given deletion."""
        if await self._index.deletions() == number:
            return False
        noted = await self._noted()
        return noted.last.get(_digest(key), noted.dropped) > number

    async def _noted(self) -> _Noted:
        (value,) = await self._kv.get(DELETIONS)
        return _Noted.model_validate(value or {})


def _digest(key: str) -> str:
    """Stands for a key. Nothing of a deleted session is kept, not even its id."""
    return hashlib.blake2b(key.encode(), digest_size=8).hexdigest()
