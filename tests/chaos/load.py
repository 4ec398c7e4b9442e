"""Users that send, cancel, delete, create and append in every way there is, and record what they see."""

import asyncio
import itertools
import json
import time
from contextlib import suppress
from random import Random
from typing import Any

import httpx
from httpx_sse import ServerSentEvent

from tests.chaos.agent import TAG
from tests.chaos.observed import Appended, Life, Run, Sent
from tests.gateway.sse import watching
from tests.gateway.town import Town
from tests.support import Json

PLANS = (
    *("say 5", "say 20", "work 0.2; say 2", "count; say 2", "count; count; work 0.3; say 3"),
    *("both 1; say 2", "work 1.5; both 0.3; count; say 5", "fail", "work 0.1; fail", "say 60"),
)
STRATEGIES = ("enqueue", "enqueue", "enqueue", "enqueue", "reject", "interrupt", "rollback")
WAYS = ("message", "post", "run", "run_sse", "run_sse")
ANSWER_SECONDS = 150
_AGAIN_SECONDS = 0.5
_MOST_AT_ONCE = 4
_AWAY = 503
_tags = itertools.count(1)


class User:
    """One user with two sessions, who does several things at once.

    Args:
        name: the user's id.
        town: the service.
        run: where everything is recorded.
        random: decides.
    """

    def __init__(self, name: str, town: Town, run: Run, random: Random) -> None:
        self.name = name
        self._town = town
        self._run = run
        self._random = random
        self._ingress = httpx.AsyncClient(base_url=town.server.ingress_url, timeout=httpx.Timeout(60, connect=2))

    def life(self, app: str, session: str) -> Life:
        """The deletions of a session."""
        return self._run.stored[self.name, app, session].life

    async def talk(self, end: float) -> None:
        """Do something now and then until that time, and wait for the results."""
        sending: list[asyncio.Task[None]] = []
        while time.monotonic() < end:
            app, session = self._random.choice(("chaos", "chaos", "duo")), self._random.choice("ab")
            what = self._random.choices(("send", "delete", "append", "cancel", "two"), (12, 1, 2, 1, 1))[0]
            if what == "delete":
                await self._delete(app, session)
            elif what == "append":
                await self._append(app, session)
            elif what == "cancel":
                await self._call("cancel", {"session_id": session, "app_name": app})
            else:
                messages = 2 if what == "two" else 1
                sending += [asyncio.create_task(self.send(app, session)) for _ in range(messages)]
            waiting = sum(not task.done() for task in sending)
            await asyncio.sleep(self._random.uniform(0.1, 2) if waiting < _MOST_AT_ONCE else 2)
        await asyncio.gather(*sending)

    async def close(self) -> None:
        """Close the connections."""
        await self._ingress.aclose()

    async def send(self, app: str, session: str, *, last: bool = False) -> None:
        """Send a message and record the answer."""
        way = "message" if last else self._random.choice(WAYS)
        strategy = "enqueue" if last else self._random.choice(STRATEGIES)
        plan = "say 1" if last else self._random.choice(PLANS)
        lives = self.life(app, session).asked
        sent = Sent(f"{TAG}{next(_tags)}", self.name, session, app, way, strategy, plan, time.time(), lives)
        self._run.sent.append(sent)
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                await (self._by_ingress(sent) if way in ("message", "post") else self._by_gateway(sent))
        except TimeoutError:
            sent.status = None

    async def _by_ingress(self, sent: Sent) -> None:
        body = {"session_id": sent.session, "app_name": sent.app, "message": f"{sent.tag} {sent.plan}"}
        body["multitask_strategy"] = sent.strategy
        answer = await self._call(sent.way, body, sent.tag)
        if sent.way == "post" and answer.is_success:
            sent.accepted_in, sent.accepted = self.life(sent.app, sent.session).asked, time.time()
            sent.turn_id = answer.json()["turn_id"]
            await self._follow(sent)
            answer = await self._outcome(sent)
        sent.status, sent.said = answer.status_code, answer.text[:300]

    async def _outcome(self, sent: Sent) -> httpx.Response:
        """How a posted turn ended, according to Restate."""
        assert sent.turn_id is not None
        return await self._ask("GET", f"/restate/invocation/{sent.turn_id.partition('.')[0]}/attach")

    async def _by_gateway(self, sent: Sent) -> None:
        message = {"role": "user", "parts": [{"text": f"{sent.tag} {sent.plan}"}]}
        body: Json = {"appName": sent.app, "userId": self.name, "sessionId": sent.session, "newMessage": message}
        body["multitaskStrategy"], body["streaming"] = sent.strategy, sent.way == "run_sse"
        while True:
            client = self._random.choice(self._town.clients)
            await self._create(client, sent)
            try:
                status, said = await self._try(client, sent, body)
            except httpx.TransportError:
                status, said = _AWAY, ""
            if sent.turn_id is not None and sent.way == "run_sse" and not sent.ended and status in (200, _AWAY):
                await self._follow(sent)
                return
            if status != _AWAY:
                sent.status, sent.said = status, said[:300]
                return
            await asyncio.sleep(_AGAIN_SECONDS)

    async def _try(self, client: httpx.AsyncClient, sent: Sent, body: Json) -> tuple[int, str]:
        headers = {"idempotency-key": sent.tag}
        if sent.way == "run":
            answer = await client.post("/run", json=body, headers=headers)
            sent.turn_id = answer.headers.get("x-turn-id", sent.turn_id)
            return answer.status_code, answer.text
        async with watching(client, "POST", "/run_sse", json=body, headers=headers) as (response, events):
            if response.status_code != 200:
                return response.status_code, (await response.aread()).decode()
            sent.turn_id = response.headers["x-turn-id"]
            sent.accepted_in = self.life(sent.app, sent.session).asked
            sent.status = 200
            sent.events, sent.partial = [], {}  # it starts anew
            sent.last_id = ""
            async for event in events:
                _show(sent, event)
        return 200, sent.said

    async def _follow(self, sent: Sent) -> None:
        """Read the stream of a turn to its end, from whichever gateway answers."""
        while not sent.ended:
            client = self._random.choice(self._town.clients)
            headers = {"last-event-id": sent.last_id} if sent.last_id else {}
            try:
                path = f"/turns/{sent.turn_id}/events"
                async with watching(client, "GET", path, headers=headers) as (response, events):
                    if response.status_code == _AWAY:
                        await asyncio.sleep(_AGAIN_SECONDS)
                        continue
                    if response.status_code != 200:
                        sent.status, sent.said = response.status_code, (await response.aread()).decode()[:300]
                        return
                    sent.status = 200
                    async for event in events:
                        _show(sent, event)
            except httpx.TransportError:
                await asyncio.sleep(_AGAIN_SECONDS)

    async def _create(self, client: httpx.AsyncClient, sent: Sent) -> None:
        """ADK's API requires an existing session."""
        path = f"/apps/{sent.app}/users/{self.name}/sessions"
        while True:
            try:
                answer = await client.post(path, json={"sessionId": sent.session})
                if answer.status_code != _AWAY:
                    return
            except httpx.TransportError:
                client = self._random.choice(self._town.clients)
            await asyncio.sleep(_AGAIN_SECONDS)

    async def _delete(self, app: str, session: str) -> None:
        life = self.life(app, session)
        life.asked += 1
        body = {"session_id": session, "app_name": app}
        answer = await self._call("delete_session", body, f"delete {app} {session} {life.asked}")
        assert answer.is_success, answer.text
        life.done += 1

    async def _append(self, app: str, session: str) -> None:
        lives = self.life(app, session).asked
        appended = Appended(f"appended-{next(_tags)}", self.name, session, app, lives)
        self._run.appended.append(appended)
        event = {"id": appended.event_id, "author": "user", "timestamp": time.time(), "invocationId": "e-outside"}
        body = {"session_id": session, "app_name": app, "events": [event]}
        appended.status = (await self._call("append_events", body, appended.event_id)).status_code

    async def _call(self, handler: str, body: Json, key: str | None = None) -> httpx.Response:
        """Call Chat through the ingress until it answers. A request with a key runs once."""
        headers = {} if key is None else {"idempotency-key": f"{self.name} {key}"}
        async with asyncio.timeout(ANSWER_SECONDS):
            return await self._ask("POST", f"/Chat/{self.name}/{handler}", json=body, headers=headers)

    async def _ask(self, method: str, path: str, **request: Any) -> httpx.Response:
        """Ask the ingress until it answers."""
        while True:
            with suppress(httpx.TransportError):
                answer = await self._ingress.request(method, path, **request)
                if not _is_away(answer):
                    return answer
            await asyncio.sleep(_AGAIN_SECONDS)


def _is_away(answer: httpx.Response) -> bool:
    """Whether the ingress only says that it is not ready."""
    if answer.status_code in (200, 202):
        return False
    of_ingress = '"source":"ingress"' in answer.text
    return of_ingress and (answer.status_code >= 500 or "service '" in answer.text)


def _show(sent: Sent, event: ServerSentEvent) -> None:
    """Record an event of a stream."""
    sent.last_id = event.id or sent.last_id
    if event.event == "end":
        sent.ended = True
    elif event.event == "reset":
        sent.partial = {}
    else:
        value = json.loads(event.data)
        if "author" in value:
            sent.show(value)
        elif "error" in value:
            sent.said = str(value["error"])
