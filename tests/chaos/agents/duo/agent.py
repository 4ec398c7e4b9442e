"""An agent of the chaos."""

from tests.chaos.agent import duo as app

__all__ = ["app"]
