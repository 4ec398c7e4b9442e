"""How often, and for how long, a call that fails with an error that may pass is tried."""

from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import restate


@dataclass(frozen=True)
class RetryPolicy:
    """Exponential backoff, bounded in count and in time; the waiting is a durable timer.

    Restate's own policy for steps is not used: it begins to count anew whenever anything else is journaled.
    """

    max_attempts: int = 6
    max_duration: timedelta = timedelta(minutes=2)
    initial_interval: timedelta = timedelta(milliseconds=500)
    max_interval: timedelta = timedelta(seconds=10)
    factor: float = 2.0

    @classmethod
    def of(cls, options: "restate.RunOptions[Any] | None") -> "RetryPolicy":
        """The policy that `restate.RunOptions` ask for; what they leave open is as by default."""
        default = cls()
        if options is None:
            return default
        return cls(
            max_attempts=options.max_attempts or default.max_attempts,
            max_duration=options.max_duration or default.max_duration,
            initial_interval=options.initial_retry_interval or default.initial_interval,
            max_interval=options.max_retry_interval or default.max_interval,
            factor=options.retry_interval_factor or default.factor,
        )

    def pause(self, attempts: int, seconds: float) -> timedelta | None:
        """How long to wait after so many attempts in so many seconds; None to give up."""
        pause = min(self.initial_interval * self.factor ** (attempts - 1), self.max_interval)
        if attempts >= self.max_attempts or timedelta(seconds=seconds) + pause > self.max_duration:
            return None
        return pause
