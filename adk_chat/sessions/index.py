"""The list of a user's sessions. Its root holds the rows of the most recently active ones; the others are on pages.

A session that becomes active moves to the root, and the root's least recently active rows move to the newest page. So a
turn writes the root, and a page only if the session comes from one. The root knows between which times the sessions of
each page were active: a list of the newest sessions reads few pages, and a row is found by its session's time.
"""

from collections.abc import Callable
from itertools import chain
from math import ceil, floor, inf
from typing import Any, NamedTuple

from pydantic import Field, model_validator

from adk_chat.protocol.json import Json
from adk_chat.sessions.layout import INDEX, SHARED, STORE, KeyValue, Record, Row, SessionRecord

NEWEST_ROWS = 16
"""Sessions in the root."""
ROWS = 64
"""Sessions on a page."""


class Page(NamedTuple):
    """A page: its number, its rows, and the seconds since the epoch between which their sessions were last active.

    Of a page written by an earlier version only the number is known.
    """

    number: int
    rows: int | None = None
    oldest: int | None = None
    newest: int | None = None

    @classmethod
    def of(cls, number: int, rows: list[Row]) -> "Page":
        """Returns the page with these rows."""
        times = [row.last_update_time for row in rows]
        return cls(number, len(rows), floor(min(times)), ceil(max(times)))

    def may_have(self, time: float) -> bool:
        """Returns whether a session that was last active at that time can be on it."""
        return (self.oldest is None or self.oldest <= time) and time <= self.until

    @property
    def until(self) -> float:
        """No session on it was active after this time."""
        return inf if self.newest is None else self.newest


class Root(Record):
    """What is stored under `session_index`."""

    newest: list[Row] = Field([])
    pages: list[Page] = Field([])
    unindexed: list[str] = Field([])
    """Sessions of `restate.ext.adk` that are not yet written in this layout."""
    shared: list[str] | None = None
    """Which of the keys exist that a user's sessions share, so that missing ones are not read; None in an index written
    before this was noted."""
    deletions: int | None = None
    """How many sessions the user has deleted."""

    @model_validator(mode="before")
    @classmethod
    def _numbered(cls, value: Any) -> Any:
        """An earlier version counted pages."""
        pages = value.get("pages")
        return {**value, "pages": [(number,) for number in range(pages)]} if isinstance(pages, int) else value


Position = tuple[float, str]
"""Where a session is in a list: when it was last active, and its id."""


def position(row: Row) -> Position:
    """Returns where a session is in a list."""
    return row.last_update_time, row.id


class SessionIndex:
    """The list of a user's sessions, of all apps.

    Args:
        kv: where it is stored.
        default_app: the app of sessions that `restate.ext.adk` stored.
    """

    def __init__(self, kv: KeyValue, default_app: str) -> None:
        self._kv = kv
        self._default_app = default_app

    async def put(self, record: SessionRecord, key: str) -> None:
        """Has the K/V list a session, stored under the key, as the most recently active one."""
        root = await self._root()
        await self._look_through(root)
        await self._take_out(root, record)
        root.unindexed = [name for name in root.unindexed if name != key]
        root.newest.append(Row.of(record))
        if len(root.newest) > NEWEST_ROWS:
            await self._make_room(root)
        record.indexed, record.index_page = True, None
        self._kv.set(INDEX, root.dump())

    async def take_out(self, record: SessionRecord, key: str) -> None:
        """Removes a session from the list in the K/V."""
        root = await self._root()
        await self._take_out(root, record)
        root.unindexed = [name for name in root.unindexed if name != key]
        self._kv.set(INDEX, root.dump())

    async def deletions(self) -> int:
        """Returns how many sessions the user has deleted."""
        (value,) = await self._kv.get(INDEX)
        return 0 if value is None else value.get("deletions") or 0

    async def count_deletion(self) -> int:
        """Has the K/V count another deletion. Returns its number."""
        root = await self._root()
        root.deletions = 1 + (root.deletions or 0)
        self._kv.set(INDEX, root.dump())
        return root.deletions

    async def all(self, wanted: Callable[[Row], bool]) -> list[Row]:
        """Returns the rows that are wanted, the most recently active one last."""
        root = await self._root()
        pages = [await self._rows(page) for page in root.pages]
        rows = chain(root.newest, await self._unindexed(root), *pages)
        return sorted(filter(wanted, rows), key=position)

    async def newest(self, wanted: Callable[[Row], bool], limit: int, before: Position | None = None) -> list[Row]:
        """Returns so many wanted rows, the most recently active ones before a position; the most recent one first."""
        root = await self._root()
        before = before or (inf, "")

        def of(rows: list[Row]) -> list[Row]:
            return [row for row in rows if wanted(row) and position(row) < before]

        found = of(root.newest) + of(await self._unindexed(root))
        for page in sorted(root.pages, key=lambda page: -page.until):
            found.sort(key=position, reverse=True)
            if len(found) >= limit and found[limit - 1].last_update_time > page.until:
                break
            if page.oldest is None or page.oldest <= before[0]:
                found += of(await self._rows(page))
        return sorted(found, key=position, reverse=True)[:limit]

    async def has(self, shared: str) -> bool:
        """Returns whether a key that the user's sessions share may have a value."""
        (value,) = await self._kv.get(INDEX)
        known = [] if value is None else value.get("shared")
        return known is None or shared in known

    async def note(self, shared: str) -> None:
        """Has the K/V note that a shared key has a value."""
        root = await self._root()
        if root.shared is not None and shared not in root.shared:
            root.shared.append(shared)
            self._kv.set(INDEX, root.dump())

    async def _root(self) -> Root:
        """Returns the root. If there is none yet, returns one that names the sessions that `restate.ext.adk` stored."""
        (value,) = await self._kv.get(INDEX)
        if value is not None:
            return Root.model_validate(value)
        return Root(unindexed=[name for name in await self._kv.keys() if name.startswith(STORE)], shared=[])

    async def _look_through(self, root: Root) -> None:
        """Adds what an earlier version did not note."""
        if root.shared is None:
            root.shared = [name for name in await self._kv.keys() if name.startswith(SHARED)]
        for place, page in enumerate(root.pages):
            if page.rows is None:
                rows = await self._rows(page)
                root.pages[place] = Page.of(page.number, rows) if rows else page._replace(rows=0)
        root.pages = [page for page in root.pages if page.rows]

    async def _take_out(self, root: Root, record: SessionRecord) -> None:
        def is_of(row: Row) -> bool:
            return (row.id, row.app_name) == (record.id, record.app_name)

        listed = len(root.newest)
        root.newest = [row for row in root.newest if not is_of(row)]
        if len(root.newest) < listed or not record.is_of_ours:
            return
        places = [place for place, page in enumerate(root.pages) if page.may_have(record.listed_time)]
        for place in sorted(places, key=lambda place: root.pages[place].number != record.index_page):
            rows = await self._rows(root.pages[place])
            left = [row for row in rows if not is_of(row)]
            if len(left) < len(rows):
                self._write(root, place, left)
                return

    async def _make_room(self, root: Root) -> None:
        """Moves the least recently active rows to the newest page, or to a new one."""
        rows = sorted(root.newest, key=position)
        quiet, root.newest = rows[: NEWEST_ROWS // 2], rows[NEWEST_ROWS // 2 :]
        if root.pages and (root.pages[-1].rows or 0) + len(quiet) <= ROWS:
            self._write(root, len(root.pages) - 1, await self._rows(root.pages[-1]) + quiet)
        else:
            root.pages.append(Page(1 + max((page.number for page in root.pages), default=-1)))
            self._write(root, len(root.pages) - 1, quiet)

    def _write(self, root: Root, place: int, rows: list[Row]) -> None:
        number = root.pages[place].number
        if rows:
            root.pages[place] = Page.of(number, rows)
            self._kv.set(_key(number), [row.dump() for row in rows])
        else:
            del root.pages[place]
            self._kv.clear(_key(number))

    async def _rows(self, page: Page) -> list[Row]:
        (rows,) = await self._kv.get(_key(page.number))
        return [Row.model_validate(row) for row in rows or []]

    async def _unindexed(self, root: Root) -> list[Row]:
        values: list[Json] = await self._kv.get(*root.unindexed)
        return [Row.of(SessionRecord.load(value, self._default_app)) for value in values]


def _key(number: int) -> str:
    return f"{INDEX}::{number}"
