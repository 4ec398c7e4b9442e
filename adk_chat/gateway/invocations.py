"""Turns as Restate's admin API knows them: Restate invocations of `Turn/run`."""

TURNS = "target_service_name = 'Turn' AND target_handler_name = 'run'"
"""The condition, in the SQL of the admin API, that a row of `sys_invocation` is a turn."""

_STATUS = {"pending": "queued", "backing-off": "retrying", "paused": "paused", "completed": "ended"}


def status_of(status: str) -> str:
    """What Restate calls the status of a Restate invocation, as that of a turn: running, queued, retrying, ..."""
    return _STATUS.get(status, "running")
