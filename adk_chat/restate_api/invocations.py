"""Turns as the admin API knows them: Restate invocations of `Turn/run`."""

TURNS = "target_service_name = 'Turn' AND target_handler_name = 'run'"
"""The SQL condition that a row of `sys_invocation` is a turn."""

WITHOUT_SLOT = "status = 'ready' AND modified_at < now() - interval '1 second'"
"""The condition that a Restate invocation waits for a slot, and longer than a start takes."""
SOURCE = (
    "sys_invocation LEFT JOIN (SELECT DISTINCT invoked_by_id AS starved FROM sys_invocation "
    f"WHERE {WITHOUT_SLOT}) ON starved = id"
)
"""`sys_invocation` with the column `starved`: set if the Restate invocation has called one that waits for a slot."""
WAITING = f"({WITHOUT_SLOT} OR status = 'suspended' AND starved IS NOT NULL)"
"""The condition that a turn in `SOURCE` waits for a slot, or for a handler that does."""
STATUS = f"CASE WHEN {WAITING} THEN 'waiting' ELSE status END AS status"

_STATUS = {
    "pending": "queued",
    "waiting": "waiting",
    "backing-off": "retrying",
    "paused": "paused",
    "completed": "ended",
}


def status_of(status: str) -> str:
    """Returns the value of `STATUS` in words: running, queued, waiting, retrying, paused or ended."""
    return _STATUS.get(status, "running")
