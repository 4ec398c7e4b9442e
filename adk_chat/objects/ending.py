"""The end of a turn that does not end by itself: it is told to, or killed, and what is stored in its place."""

import uuid
from collections.abc import Sequence
from datetime import timedelta
from functools import partial
from typing import cast

import restate
from google.adk.events.event import Event
from restate.serde import BytesSerde

from adk_chat.durable import seams
from adk_chat.objects.admin import AdminApi, EndOutcome
from adk_chat.objects.requests import TURN, CancelTurn, RunningTurn
from adk_chat.sessions.contract import CHAT
from adk_chat.sessions.transport import request_json
from adk_chat.sessions.turn_end import KILLED, TURN_FAILED
from adk_chat.sessions.turn_id import TurnId, TurnKey, event_id_prefix

_AT_ONCE = timedelta(milliseconds=100)
_PATIENCE = timedelta(seconds=0.5)
_MORE_PATIENCE = timedelta(seconds=1.5)
_TEXT: restate.RunOptions[str] = restate.RunOptions(serde=restate.serde.DefaultSerde(), max_attempts=1)
_NOT_ENDED = (
    "The turn was told to end, and has not. If it is paused, or fails at each attempt, only an operator can end it: "
    "with adk-chat turns kill."
)
_IDS = uuid.UUID("3d3f4a0e-52cd-5d0c-9e0d-4f6d7f0c8b11")
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


async def ends(ctx: AnyContext, key: TurnKey, invocation_id: str, admin: AdminApi) -> bool:
    """Whether a turn that was cancelled ends by that; one that is in no state to hear of it is killed.

    Args:
        ctx: of the handler that waits for it.
        key: of the turn.
        invocation_id: its Restate invocation.
        admin: what kills it.

    Raises:
        restate.TerminalError: 503, it has not ended, and nobody knows whether it will.
    """
    ended = ctx.attach_invocation(invocation_id, serde=BytesSerde())
    done, _ = await restate.wait_completed(ended, ctx.sleep(_PATIENCE))
    outcome: EndOutcome = "hears"
    if ended in done:
        outcome = "was killed" if await _was_killed(ended) else "hears"
    else:
        end = partial(admin.end, invocation_id)
        outcome = cast(EndOutcome, await ctx.run_typed("end what hears nothing", end, _TEXT))
    if outcome == "unknown":
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


def ended_events(invocation_id: str, events: Sequence[Event], author: str, time: float) -> list[Event]:
    """What says that a turn has ended which could not store its own end, the same whoever makes it.

    Nothing, if that is said already: a turn that has stored it for another one may be killed before it notes that.

    Calls that it has left open are answered, as ADK does it with an invocation that is aborted: models refuse a history
    with a call that has no answer.

    Args:
        invocation_id: the Restate invocation of the turn.
        events: those of the session, the newest ones at least.
        author: of the event.
        time: when it is made, in seconds since the epoch.
    """
    mark = event_id_prefix(invocation_id)
    of_turn = list(dict.fromkeys(event.invocation_id for event in events if event.id.startswith(mark)))
    made = [answer for one in of_turn for answer in seams.abort_events(events, one, author) if answer.content]
    end = Event(
        author=author,
        error_code="TURN_ENDED",
        error_message="The turn was ended before it was done; what it had said until then is stored.",
        custom_metadata={TURN_FAILED: True},
    )
    for number, event in enumerate([end, *made]):
        event.id = mark + str(uuid.uuid5(_IDS, f"{invocation_id} {number}" if number else invocation_id))[len(mark) :]
        event.timestamp = time
    if any(event.id == end.id for event in events):
        return []
    end.invocation_id = of_turn[0] if of_turn else f"e-{end.id}"
    return [*made, end]


def send_settle(ctx: restate.Context, key: TurnKey, invocation_id: str) -> None:
    """Have Turn store that a turn has ended, once no turn runs."""
    request = RunningTurn(invocation_id=invocation_id)
    ctx.generic_send(TURN, "settle", request.model_dump_json().encode(), key=str(key))
