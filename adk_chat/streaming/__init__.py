"""Live streams: what a turn publishes while it runs, for whoever is watching."""

from adk_chat.streaming.broker import Broker, BrokerError, Entry, LostError
from adk_chat.streaming.memory import MemoryBroker

__all__ = ["Broker", "BrokerError", "Entry", "LostError", "MemoryBroker", "open_broker"]


def open_broker(redis_url: str | None = None) -> Broker:
    """The broker in that Redis, or without one a broker in the memory of the process.

    Raises:
        BrokerError: the URL is not one of a Redis.
    """
    if not redis_url:
        return MemoryBroker()
    from adk_chat.streaming.redis_broker import RedisBroker

    return RedisBroker(redis_url)
