"""An agent of the chaos."""

from tests.chaos.agent import chaos as app

__all__ = ["app"]
