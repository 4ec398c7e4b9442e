"""Compares what clients were told with what is stored, and reports every difference."""

from collections import Counter, defaultdict
from collections.abc import Iterator
from itertools import permutations
from math import inf

from adk_chat.protocol.turn_id import TurnId
from tests.chaos.observed import Run, Sent, Stored
from tests.support import Json, text_of

_EXPECTED = {200, 404, 409}
_ENDED = ("INVOCATION_ABORTED", "TURN_ENDED")
_SOON = 0.5
"""Seconds within which the result of a repeated call may have been on its way."""


def audit(run: Run) -> list[str]:
    """Everything that is wrong, each with its kind in front; nothing if all promises were kept."""
    return [
        *(f"unfinished: {row}" for row in run.unfinished),
        *(wrong for key, stored in run.stored.items() for wrong in _session(key, stored, run.sent)),
        *(wrong for sent in run.sent for wrong in _message(sent, run.stored[sent.user, sent.app, sent.session])),
        *(wrong for wrong in _orders(run)),
        *(wrong for wrong in _appends(run)),
        *(wrong for wrong in _effects(run)),
    ]


def _session(key: tuple[str, str, str], stored: Stored, every: list[Sent]) -> Iterator[str]:
    """Checks a session, whatever was sent to it."""
    for event_id, times in Counter(event["id"] for event in stored.events).items():
        if times > 1:
            yield f"an id twice: {key} {event_id}"
    asked: Counter[str] = Counter()
    answered: Counter[str] = Counter()
    # If one of two agents fails, ADK leaves the other's calls open.
    failed = {event["invocationId"] for event in stored.events if event.get("errorCode", _ENDED[0]) not in _ENDED}
    for event in stored.events:
        if event.get("invocationId") in failed:
            continue
        for part in event.get("content", {}).get("parts", []):
            asked[part.get("functionCall", {}).get("id", "")] += 1
            answered[part.get("functionResponse", {}).get("id", "")] += 1
    del asked[""], answered[""]
    if asked != answered:
        odd = {*(asked - answered), *(answered - asked)}
        turns = {event.get("invocationId") for event in stored.events if any(one in str(event) for one in odd)}
        of_them = [event for event in stored.events if event.get("invocationId") in turns]
        short = [_short(event) for event in of_them]
        sent = [one for one in every if any(text_of(event).startswith(f"{one.tag} ") for event in of_them)]
        yield f"calls and answers: {key} {asked - answered} open, {answered - asked} too many, in {short} of {sent}"
    counted = [event for event in stored.events if "n" in event.get("actions", {}).get("stateDelta", {})]
    if counted and stored.state.get("n") != counted[-1]["actions"]["stateDelta"]["n"]:
        yield f"state: {key} n is {stored.state.get('n')}, and was last set by {counted[-1]['id']}"
    if not any("rewindBeforeInvocationId" in event.get("actions", {}) for event in stored.events):
        numbers = [event["actions"]["stateDelta"]["n"] for event in counted]
        if numbers != list(range(1, len(numbers) + 1)) and len({event["author"] for event in counted}) == 1:
            yield f"counter: {key} {numbers}"


def _short(event: Json) -> str:
    """What matters of an event."""
    parts = event.get("content", {}).get("parts", [])
    named = [part.get("functionCall") or part.get("functionResponse") for part in parts]
    calls = [f"{'asks' if 'args' in one else 'answers'} {one['id'][-6:]}" for one in named if one]
    said = [event["author"], event.get("errorCode", ""), text_of(event)[:24] or " ".join(calls)]
    return " ".join([event["id"][:8], event["id"][-12:], *said, str(event.get("timestamp"))])


def _message(sent: Sent, stored: Stored) -> Iterator[str]:
    """Checks a message."""
    yield from (f"stream: {sent.tag} {wrong}" for wrong in sent.wrong)
    if sent.status is None:
        yield f"no answer: {sent}"
    elif sent.status not in _EXPECTED and "fail" not in sent.plan:
        yield f"status: {sent.status} {sent.said!r} for {sent}"
    questions = [event for event in stored.events if event["author"] == "user" and _is_of(event, sent)]
    answers = [event for event in stored.events if event["author"] != "user" and _is_of(event, sent)]
    alive = sent.lives_before == stored.life.asked
    if len(questions) > 1:
        yield f"twice: {sent.tag} was stored {len(questions)} times"
    if sent.accepted_in is not None and sent.accepted_in < stored.life.done and questions:
        yield f"of a deleted session: {sent.tag}"
    if sent.status == 404 and alive:
        yield f"404: {sent.said!r} for {sent}, whose session was not deleted"
    if "cancelled before" in sent.said and questions:
        yield f"said to be cancelled, and stored: {sent}"
    if sent.status == 200 and alive and not questions and "cancelled before" not in sent.said:
        yield f"lost: {sent}"
    if sent.status == 200 and alive and f"{sent.tag} by" in sent.said and not answers:
        yield f"lost: the answer to {sent}"
    if sent.turn_id is not None and sent.ended and alive:
        of_turn = TurnId.parse(sent.turn_id)
        shown = [event["id"] for event in sent.events]
        kept = [e["id"] for e in stored.events if of_turn.owns(e) and not _is_message(e)]
        if shown != kept:
            yield f"stream: {sent.tag} showed {shown}, and stored is {kept}"


def _is_message(event: Json) -> bool:
    marks = event.get("customMetadata", {})
    return event["author"] == "user" or "adk_chat_turn_failed" in marks or "adk_chat_appended" in marks


def _is_of(event: Json, sent: Sent) -> bool:
    """Whether an event is the message, or belongs to its answer."""
    parts = event.get("content", {}).get("parts", [])
    keys = [part.get("functionCall", {}).get("args", {}).get("key", "") for part in parts]
    return text_of(event).startswith(f"{sent.tag} ") or any(key.startswith(f"{sent.tag}/") for key in keys)


def _orders(run: Run) -> Iterator[str]:
    """A post accepted before another was sent comes before it."""
    posts: dict[tuple[str, str, str], list[Sent]] = defaultdict(list)
    for sent in run.sent:
        if sent.accepted is not None:
            posts[sent.user, sent.app, sent.session].append(sent)
    for key, every in posts.items():
        texts = [text_of(event) for event in run.stored[key].events if event["author"] == "user"]
        places = {sent.tag: n for sent in every for n, text in enumerate(texts) if text.startswith(f"{sent.tag} ")}
        there = [sent for sent in every if sent.tag in places]
        for first, second in permutations(there, 2):
            if (first.accepted or inf) < second.began and places[first.tag] > places[second.tag]:
                yield f"order: {key} {first.tag} comes after {second.tag}"


def _appends(run: Run) -> Iterator[str]:
    """An acknowledged append is stored once."""
    for appended in run.appended:
        stored = run.stored[appended.user, appended.app, appended.session]
        times = sum(event["id"] == appended.event_id for event in stored.events)
        alive = appended.lives_before == stored.life.asked
        if appended.status is None:
            yield f"no answer: {appended}"
        elif (appended.status == 200 and alive and times != 1) or times > 1:
            yield f"append: {appended} is stored {times} times"


def _effects(run: Run) -> Iterator[str]:
    """A call whose result is stored was not repeated after it had ended."""
    begun: dict[str, list[float]] = defaultdict(list)
    ended: dict[tuple[str, str], float] = {}
    for effect in run.effects:
        if effect["what"] == "begin":
            begun[effect["key"]].append(effect["time"])
        else:
            ended[effect["key"], effect["nonce"]] = effect["time"]
    for stored in run.stored.values():
        keys = {
            part["functionCall"]["id"]: part["functionCall"]["args"]["key"]
            for event in stored.events
            for part in event.get("content", {}).get("parts", [])
            if "functionCall" in part
        }
        for event in stored.events:
            for part in event.get("content", {}).get("parts", []):
                answer = part.get("functionResponse", {})
                nonce, key = answer.get("response", {}).get("nonce"), keys.get(answer.get("id", ""), "")
                if nonce is None:
                    continue
                if (key, nonce) not in ended:
                    yield f"effect: {key} has a result that no call gave"
                elif any(time > ended[key, nonce] + _SOON for time in begun[key]):
                    yield f"again: {key} was called again after its result"
