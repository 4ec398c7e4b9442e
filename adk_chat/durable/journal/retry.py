"""How often, and for how long, a call that fails with a transient error is retried."""

from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import restate


@dataclass(frozen=True)
class RetryPolicy:
    """Exponential backoff, bounded in count and in time. The waits are durable timers.

    Restate's own policy for steps is not used: its count starts again whenever anything else is journaled.
    """

    max_attempts: int = 6
    max_duration: timedelta = timedelta(minutes=2)
    initial_interval: timedelta = timedelta(milliseconds=500)
    max_interval: timedelta = timedelta(seconds=10)
    factor: float = 2.0

    @classmethod
    def of(cls, options: "restate.RunOptions[Any] | None") -> "RetryPolicy":
        """Returns the policy in `restate.RunOptions`, with the defaults for what they leave open."""
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
        """Returns how long to wait after that many attempts in that many seconds; None to give up."""
        pause = min(self.initial_interval * self.factor ** (attempts - 1), self.max_interval)
        if attempts >= self.max_attempts or timedelta(seconds=seconds) + pause > self.max_duration:
            return None
        return pause
