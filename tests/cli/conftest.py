"""The gateway of the tests of the gateway."""

from tests.gateway.conftest import gateway

__all__ = ["gateway"]
