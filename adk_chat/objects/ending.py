"""The end of a turn that runs: told to end, or killed where it is in no state to hear of it."""

from datetime import timedelta
from functools import partial
from typing import cast

import restate
from restate.serde import BytesSerde

from adk_chat.objects.admin import AdminApi, EndOutcome
from adk_chat.objects.ended import send_settle
from adk_chat.objects.requests import CancelTurn
from adk_chat.sessions.contract import CHAT
from adk_chat.sessions.transport import request_json
from adk_chat.sessions.turn_end import KILLED
from adk_chat.sessions.turn_id import TurnId, TurnKey

_AT_ONCE = timedelta(milliseconds=100)
_PATIENCE = timedelta(seconds=0.5)
_MORE_PATIENCE = timedelta(seconds=1.5)
_TEXT: restate.RunOptions[str] = restate.RunOptions(serde=restate.serde.DefaultSerde(), max_attempts=1)
_NOT_ENDED = (
    "The turn was told to end, and has not. If it is paused, or fails at each attempt, only Restate's admin API can "
    "end it, which does not answer or is not known here: set ADK_CHAT_ADMIN_URL, or use adk-chat turns kill."
)
AnyContext = restate.ObjectContext | restate.ObjectSharedContext


async def is_running(ctx: AnyContext, invocation_id: str) -> bool:
    """Whether a turn that has said so is running still, and was not killed since."""
    ended = ctx.attach_invocation(invocation_id, serde=BytesSerde())
    done, _ = await restate.wait_completed(ended, ctx.sleep(_AT_ONCE))
    return ended not in done


def send_cancel(ctx: AnyContext, key: TurnKey, invocation_id: str) -> None:
    """Have Chat cancel a turn, without waiting for it."""
    turn_id = str(TurnId(invocation_id=invocation_id, key=key))
    request = CancelTurn(app_name=key.app_name, session_id=key.session_id, turn_id=turn_id)
    ctx.generic_send(CHAT, "cancel", request_json(request), key=ctx.key())


async def ends(ctx: AnyContext, key: TurnKey, invocation_id: str, admin: AdminApi | None) -> bool:
    """Whether a turn that was cancelled ends by that; one that is in no state to hear of it is killed.

    Args:
        ctx: of the handler that waits for it.
        key: of the turn.
        invocation_id: its Restate invocation.
        admin: what kills it, if it is known.

    Raises:
        restate.TerminalError: 503, it has not ended, and nobody knows whether it will.
    """
    ended = ctx.attach_invocation(invocation_id, serde=BytesSerde())
    done, _ = await restate.wait_completed(ended, ctx.sleep(_PATIENCE))
    outcome: EndOutcome = "hears"
    if ended in done:
        outcome = "was killed" if await _was_killed(ended) else "hears"
    elif admin is not None:
        end = partial(admin.end, invocation_id)
        outcome = cast(EndOutcome, await ctx.run_typed("end what hears nothing", end, _TEXT))
    else:
        done, _ = await restate.wait_completed(ended, ctx.sleep(_MORE_PATIENCE))
        outcome = "hears" if ended in done else "unknown"
    if outcome in ("killed", "was killed"):
        send_settle(ctx, key, invocation_id)
    if outcome == "unknown":
        raise restate.TerminalError(_NOT_ENDED, 503)
    return outcome != "was killed"


async def _was_killed(ended: restate.RestateDurableFuture[bytes]) -> bool:
    try:
        await ended
    except restate.TerminalError as error:
        return error.message == KILLED
    return False
