"""Calls of handlers from within a turn."""

import restate

CANCELLED = 409
"""The status with which the SDK tells a handler that its Restate invocation is cancelled."""


async def ask(ctx: restate.Context, service: str, handler: str, body: bytes, key: str) -> bytes:
    """Returns the answer of a handler that may be called twice, even if the turn is cancelled meanwhile.

    Restate cancels a call together with the turn that waits for it. But the turn needs the answer to end properly: it
    stores what it said before. Each further call takes another cancellation.

    Raises:
        restate.TerminalError: as the handler raised it.
    """
    while True:
        try:
            return await ctx.generic_call(service, handler, body, key=key)
        except restate.TerminalError as error:
            if error.status_code != CANCELLED:
                raise
