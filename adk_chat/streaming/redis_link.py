"""The connections of this process to one Redis."""

import asyncio
import logging
import math
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError

from adk_chat.streaming.broker import BrokerError

_logger = logging.getLogger(__name__)

AwayError = (RedisConnectionError, RedisTimeoutError)

_CONNECTIONS = 8
_TIMEOUT_SECONDS = 5
_FIRST_WAIT_SECONDS = 0.05
_LONGEST_WAIT_SECONDS = 1.0

Result = TypeVar("Result")


async def answered(asking: Awaitable[Result]) -> Result:
    """Returns what Redis answers.

    Raises:
        ConnectionError: redis-py's, also if a connection of uvloop's broke while it was idle. uvloop then raises a
            RuntimeError, which redis-py lets through and nobody would take for a Redis that does not answer.
    """
    try:
        return await asking
    except RuntimeError as error:
        if "handler is closed" not in str(error):
            raise
        raise RedisConnectionError(str(error)) from error


class Link:
    """A few connections that all readers and the writer share. Logs once when Redis is lost, and once when it is back.

    Raises:
        BrokerError: if the URL is not that of a Redis.
    """

    def __init__(self, url: str) -> None:
        try:
            pool = BlockingConnectionPool.from_url(
                url,
                max_connections=_CONNECTIONS,
                timeout=None,
                socket_timeout=_TIMEOUT_SECONDS,
                socket_connect_timeout=_TIMEOUT_SECONDS,
                retry=Retry(NoBackoff(), 0),  # `patiently` retries, and for longer
            )
        except ValueError as error:
            raise BrokerError(f"REDIS_URL cannot be used: {error}") from error
        self.redis: Redis = Redis.from_pool(pool)
        self._lost_at: float | None = None
        where = pool.connection_kwargs
        self._name = where.get("path") or f"{where.get('host', 'localhost')}:{where.get('port', 6379)}"

    @property
    def away(self) -> bool:
        """Whether the last command got no answer."""
        return self._lost_at is not None

    async def patiently(self, command: Callable[[], Awaitable[Result]], seconds: float = math.inf) -> Result:
        """Runs `command`, and retries it while Redis does not answer for less than this many seconds."""
        wait = _FIRST_WAIT_SECONDS
        while True:
            try:
                result = await answered(command())
            except AwayError as error:
                if self._lost(error) + wait > seconds:
                    raise
                await asyncio.sleep(wait)
                wait = min(wait * 2, _LONGEST_WAIT_SECONDS)
            else:
                self._found()
                return result

    async def close(self) -> None:
        """Closes the connections."""
        await self.redis.aclose()

    def _lost(self, error: Exception) -> float:
        """Notes that Redis does not answer. Returns for how many seconds."""
        if self._lost_at is None:
            self._lost_at = time.monotonic()
            _logger.warning("No answer from Redis at %s. Live text is lost until it is back: %s", self._name, error)
        return time.monotonic() - self._lost_at

    def _found(self) -> None:
        if self._lost_at is not None:
            _logger.warning("Redis at %s is back.", self._name)
        self._lost_at = None
