"""Which sessions a user has deleted last, for turns whose messages were accepted before.

Each deletion has a number; the index has that of the last one, which is read with every session.
"""

import hashlib

from pydantic import Field

from adk_chat.sessions.index import SessionIndex
from adk_chat.sessions.layout import DELETIONS, KeyValue, Record

_MOST = 256
"""How many deletions are known by session. A first message that waits while its user deletes more sessions than that is
refused, as if its own had been among them."""


class _Noted(Record):
    last: dict[str, int] = Field({})
    """The number of each of the last deletions, the oldest first, by what stands for the session's key."""
    dropped: int = 0
    """The number of the last deletion that is not in `last` any more."""


class Deletions:
    """The deletions of a user.

    Args:
        kv: where they are noted.
        index: counts them.
    """

    def __init__(self, kv: KeyValue, index: SessionIndex) -> None:
        self._kv = kv
        self._index = index

    async def note(self, key: str) -> None:
        """Have the K/V note that the session under that key is deleted, even if there is none."""
        noted, number = await self._noted(), await self._index.count_deletion()
        noted.last.pop(_digest(key), None)
        noted.last[_digest(key)] = number
        while len(noted.last) > _MOST:
            noted.dropped = noted.last.pop(next(iter(noted.last)))
        self._kv.set(DELETIONS, noted.dump())

    async def since(self, key: str, number: int) -> bool:
        """Whether the session under that key was deleted after the deletion of that number, or may have been."""
        if await self._index.deletions() == number:
            return False
        noted = await self._noted()
        return noted.last.get(_digest(key), noted.dropped) > number

    async def _noted(self) -> _Noted:
        (value,) = await self._kv.get(DELETIONS)
        return _Noted.model_validate(value or {})


def _digest(key: str) -> str:
    """Stands for a key. Nothing of a deleted session is kept, its id included."""
    return hashlib.blake2b(key.encode(), digest_size=8).hexdigest()
