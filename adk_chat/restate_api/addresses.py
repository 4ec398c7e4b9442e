"""The addresses of one service. The first is used; the others while it does not answer."""

import time
from collections.abc import Callable, Iterator

_AGAIN_SECONDS = 5.0
"""How long an address that did not answer comes last."""


class Addresses:
    """The addresses of one service.

    Args:
        urls: separated by commas, the preferred one first.
        clock: returns seconds.
    """

    def __init__(self, urls: str, clock: Callable[[], float] = time.monotonic) -> None:
        self._urls = [url.strip().rstrip("/") for url in urls.split(",") if url.strip()]
        self._clock = clock
        self._failed: dict[str, float] = {}

    def __str__(self) -> str:
        return ", ".join(self._urls)

    def __iter__(self) -> Iterator[str]:
        """Iterates in the order in which to try them: those that failed within the last 5 s come last."""
        since = self._clock() - _AGAIN_SECONDS
        return iter(sorted(self._urls, key=lambda url: self._failed.get(url, since) > since))

    def failed(self, url: str) -> None:
        """Notes that an address did not answer."""
        self._failed[url] = self._clock()
