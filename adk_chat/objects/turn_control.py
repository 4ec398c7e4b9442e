"""What handlers do to a running turn: check it, cancel it, and kill it if it cannot hear the cancellation."""

import asyncio
import logging
import time
from datetime import timedelta
from functools import partial
from typing import Literal, cast

import restate
from restate.serde import BytesSerde

from adk_chat.protocol.errors import NoAnswerError
from adk_chat.protocol.messages import CancelTurn
from adk_chat.protocol.sessions import CHAT
from adk_chat.protocol.turn_end import KILLED
from adk_chat.protocol.turn_id import TurnId, TurnKey
from adk_chat.protocol.turns import TURN, RunningTurn
from adk_chat.restate_api import AdminApi, AdminError
from adk_chat.restate_api.admin import is_invocation
from adk_chat.sessions.client import request_json

logger = logging.getLogger(__name__)

AnyContext = restate.ObjectContext | restate.ObjectSharedContext
EndOutcome = Literal["hears", "killed", "was killed", "unknown"]
"""What a cancellation leads to: the turn hears it, it was killed now or before, or nobody can tell.

Persisted: it is the result of a journaled step."""

_RUNNING_CHECK = timedelta(milliseconds=100)
_PATIENCE = timedelta(seconds=0.5)
_MORE_PATIENCE = timedelta(seconds=1.5)
_KILL_SECONDS, _KILL_PAUSE = 1.0, 0.2
"""How long a turn that Restate is about to retry has to hear a cancellation."""
_TEXT: restate.RunOptions[str] = restate.RunOptions(serde=restate.serde.DefaultSerde(), max_attempts=1)
_NOT_ENDED = (
    "The turn was cancelled but has not ended. If it is paused, or every attempt fails, only an operator can end it, "
    "with: adk-chat turns kill."
)


async def is_running(ctx: AnyContext, invocation_id: str) -> bool:
    """Returns whether a turn that was running a moment ago still is, and was not killed since."""
    ended = ctx.attach_invocation(invocation_id, serde=BytesSerde())
    done, _ = await restate.wait_completed(ended, ctx.sleep(_RUNNING_CHECK))
    return ended not in done


def send_cancel(ctx: AnyContext, key: TurnKey, invocation_id: str) -> None:
    """Asks Chat to cancel a turn, without waiting for it."""
    turn_id = str(TurnId(invocation_id=invocation_id, key=key))
    request = CancelTurn(app_name=key.app_name, session_id=key.session_id, turn_id=turn_id)
    ctx.generic_send(CHAT, "cancel", request_json(request), key=ctx.key())


def send_settle(ctx: restate.Context, key: TurnKey, invocation_id: str) -> None:
    """Asks Turn to store that a turn has ended, once no turn runs."""
    request = RunningTurn(invocation_id=invocation_id)
    ctx.generic_send(TURN, "settle", request.model_dump_json().encode(), key=str(key))


async def ends(ctx: AnyContext, key: TurnKey, invocation_id: str, admin: AdminApi) -> bool:
    """Waits until a cancelled turn ends. Kills it if it cannot hear the cancellation.

    Returns False if it had been killed before.

    Raises:
        restate.TerminalError: 503, if it has not ended and nobody knows whether it will.
    """
    ended = ctx.attach_invocation(invocation_id, serde=BytesSerde())
    done, _ = await restate.wait_completed(ended, ctx.sleep(_PATIENCE))
    outcome: EndOutcome = "hears"
    if ended in done:
        outcome = "was killed" if await _was_killed(ended) else "hears"
    else:
        kill = partial(_kill, admin, invocation_id)
        outcome = cast(EndOutcome, await ctx.run_typed("end what hears nothing", kill, _TEXT))
    if outcome == "unknown":
        done, _ = await restate.wait_completed(ended, ctx.sleep(_MORE_PATIENCE))
        outcome = "hears" if ended in done else "unknown"
    if outcome in ("killed", "was killed"):
        send_settle(ctx, key, invocation_id)
    if outcome == "unknown":
        raise restate.TerminalError(_NOT_ENDED, 503)
    return outcome != "was killed"


async def forget_failed(admin: AdminApi, *, invocation_id: str, of: str) -> bool:
    """Makes Restate forget a Restate invocation of a handler of the object `of`, if it has failed.

    Returns False if the admin API does not answer as it should; the failure may be kept then.
    """
    try:
        rows = await admin.query(
            f"SELECT target, completion_result FROM sys_invocation WHERE {is_invocation(invocation_id)}"
        )
        failed = bool(rows) and rows[0].get("completion_result") == "failure"
        if failed and rows[0]["target"].rpartition("/")[0] == of:
            await admin.end(invocation_id, "purge")
        return True
    except (NoAnswerError, AdminError) as error:
        logger.warning("%s could not be forgotten: %s", invocation_id, error)
        return False


async def _kill(admin: AdminApi, invocation_id: str) -> EndOutcome:
    """Kills a cancelled turn that cannot hear the cancellation: it is paused, or Restate waits before a retry.

    A turn that is running or suspended hears it.
    """
    end = time.monotonic() + _KILL_SECONDS
    try:
        while (delay := await admin.retry_delay(invocation_id)) is not None:
            if delay > _KILL_SECONDS or time.monotonic() > end:
                return "killed" if await admin.end(invocation_id, "kill") else "hears"
            await asyncio.sleep(_KILL_PAUSE)
    except (NoAnswerError, AdminError) as error:
        logger.warning("%s could not be ended: %s", invocation_id, error)
        return "unknown"
    return "hears"


async def _was_killed(ended: restate.RestateDurableFuture[bytes]) -> bool:
    try:
        await ended
    except restate.TerminalError as error:
        return error.message == KILLED
    return False
