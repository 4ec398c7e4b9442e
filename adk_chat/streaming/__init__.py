"""Live streams: what a turn publishes while it runs, for those who watch it."""

from adk_chat.streaming.broker import Broker, BrokerError, Entry, LostError
from adk_chat.streaming.memory import MemoryBroker

__all__ = ["Broker", "BrokerError", "Entry", "LostError", "MemoryBroker", "open_broker"]


def open_broker(redis_url: str | None = None) -> Broker:
    """Returns a broker in that Redis, or one in the process's memory if there is no URL.

    Raises:
        BrokerError: if the URL is not that of a Redis.
    """
    if not redis_url:
        return MemoryBroker()
    from adk_chat.streaming.redis_broker import RedisBroker

    return RedisBroker(redis_url)
