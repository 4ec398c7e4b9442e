"""Turn: runs the ADK Runner for one message. Its key is a session, whose queue and lock the exclusive `run` is."""

import contextlib
from collections import Counter
from datetime import timedelta

import restate
from google.adk.events.event import Event

from adk_chat.objects.app_state import Nothing
from adk_chat.objects.handler import handler
from adk_chat.objects.kv import ObjectState
from adk_chat.protocol.events import event_json
from adk_chat.protocol.sessions import CHAT, SessionRequest
from adk_chat.protocol.turn_id import TurnKey
from adk_chat.protocol.turns import TURN, Deleted, RunningTurn, TurnEvents, TurnRequest
from adk_chat.sessions.client import request_json
from adk_chat.turns.attempt import TurnAttempt, TurnConfig
from adk_chat.turns.history import RECENT_EVENTS, load
from adk_chat.turns.state import TurnState
from adk_chat.turns.termination import ended_events


def turn_object(config: TurnConfig) -> restate.VirtualObject:
    """Returns the object with its handlers."""
    turn = restate.VirtualObject(
        TURN, description="Runs the turns of one session, one at a time.", ingress_private=True
    )
    failures: Counter[str] = Counter()

    @handler(
        turn,
        TurnRequest,
        journal_retention=config.journal_retention,
        invocation_retry_policy=config.retry_policy,
        # An agent's code may take its time outside of steps, where nothing is journaled. While it waits for the engine,
        # the handler suspends by itself.
        inactivity_timeout=config.inactivity_timeout,
        abort_timeout=config.inactivity_timeout and config.step_timeout,
    )
    async def run(ctx: restate.ObjectContext, request: TurnRequest) -> str:
        """Run one turn. Returns the reply's text. All events of the turn are stored by then."""
        return await TurnAttempt(config, failures, ctx, request).run()

    @handler(turn, RunningTurn, kind="shared", journal_retention=timedelta(0))
    async def cancel(ctx: restate.ObjectSharedContext, request: RunningTurn) -> RunningTurn:
        """Cancel the running turn. Returns its id."""
        running = (await TurnState.read(ObjectState(ctx))).running
        if running is None or request.invocation_id not in (None, running):
            return RunningTurn()
        ctx.cancel_invocation(running)
        return RunningTurn(invocation_id=running)

    @handler(turn, RunningTurn, journal_retention=timedelta(0), inactivity_timeout=config.waiting_timeout)
    async def settle(ctx: restate.ObjectContext, request: RunningTurn) -> None:
        """Store that a turn has ended that could not do so itself, unless a later turn has stored that."""
        state, key = ObjectState(ctx), TurnKey.parse(ctx.key())
        before = await TurnState.read(state)
        ended = request.invocation_id
        if ended is None or ended not in before.killed:
            return
        with contextlib.suppress(restate.TerminalError):  # the session was deleted, or is being deleted
            loaded = await load(ctx, key, RECENT_EVENTS, created=before.created, deletions=before.deletions)
            if loaded.created is not None:
                events = [Event.model_validate(event) for event in loaded.events]
                batch = TurnEvents(
                    app_name=key.app_name,
                    session_id=key.session_id,
                    events=[event_json(one) for one in ended_events(ended, events, key.app_name, await ctx.time())],
                    batch=loaded.batches + 1,
                    turn=ctx.request().id,
                    created=loaded.created,
                    deletions=loaded.deletions,
                )
                await ctx.generic_call(CHAT, "append_turn", request_json(batch), key=key.user_id)
                before.batches = batch.batch
        before.settle(ended)
        before.write(state)
        state.write()

    @handler(turn, Deleted, journal_retention=timedelta(0))
    async def forget(ctx: restate.ObjectContext, request: Deleted) -> None:
        """Forget everything about a deleted session, but not about one that was created since."""
        if ((await TurnState.read(ObjectState(ctx))).deletions or 0) < max(1, request.deletions):
            ctx.clear_all()
        key = TurnKey.parse(ctx.key())
        session = SessionRequest(app_name=key.app_name, session_id=key.session_id)
        ctx.generic_send(CHAT, "sweep_artifacts", request_json(session), key=key.user_id)

    @handler(turn, Nothing, kind="shared", journal_retention=timedelta(0))
    async def status(ctx: restate.ObjectSharedContext, request: Nothing) -> RunningTurn:
        """Which turn is running."""
        return RunningTurn(invocation_id=(await TurnState.read(ObjectState(ctx))).running)

    return turn
