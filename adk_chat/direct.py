"""HTTP clients that ask no proxy of the environment: what they speak to is on this machine, or beside it.

A certificate authority of the environment (`SSL_CERT_FILE`) counts, as for any other client.
"""

import ipaddress
from typing import Any

import httpx


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches what listens there."""
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def direct_client(*, limits: httpx.Limits | None = None, **options: Any) -> httpx.AsyncClient:
    """A client with httpx's other `options`."""
    # Given a transport, httpx looks for no proxy. Told not to trust the environment, it would miss SSL_CERT_FILE too.
    transport = httpx.AsyncHTTPTransport() if limits is None else httpx.AsyncHTTPTransport(limits=limits)
    return httpx.AsyncClient(transport=transport, **options)


def blocking_direct_client(**options: Any) -> httpx.Client:
    """The same for code that is not async."""
    return httpx.Client(transport=httpx.HTTPTransport(), **options)
