// Beside ADK's dev UI, which takes it that a turn ends with whoever watches it. Here it does not, so:
// the UI's stop button cancels the turn; and when a turn ends that is not watched (any more), because the page was loaded
// in the middle of it or the connection broke, the session is shown again.
(() => {
  const SESSION = /^(.*\/)(apps\/[^/]+\/users\/[^/]+\/sessions)\/([^/?]+)$/;
  const PAUSE_MS = 1000;
  const followed = new Set();
  const request = window.fetch.bind(window);
  const open = XMLHttpRequest.prototype.open;

  window.fetch = async (resource, options) => {
    const response = await request(resource, options);
    const turn = response.headers.get("x-turn-id");
    return turn && options?.signal ? watched(response, turn, options) : response;
  };

  XMLHttpRequest.prototype.open = function (method, url, ...rest) {
    const session = new URL(url, location.href).href;
    if (method === "GET" && SESSION.test(session)) this.addEventListener("load", () => followFirst(session));
    return open.call(this, method, url, ...rest);
  };

  // The UI aborts its request to stop it, and also when it is over or has failed; only the first is to cancel the turn.
  function watched(response, turn, { signal, body }) {
    const reader = response.body.getReader();
    let over = false;
    signal.addEventListener("abort", () => over || request(ofTurn(response.url, turn, "cancel"), { method: "POST" }));
    const stream = new ReadableStream({
      async pull(controller) {
        try {
          const { done, value } = await reader.read();
          over = done;
          done ? controller.close() : controller.enqueue(value);
        } catch (error) {
          if (!signal.aborted) follow(sessionOf(response.url, JSON.parse(body)), turn);
          over = true;
          controller.error(error);
        }
      },
      cancel: (reason) => reader.cancel(reason),
    });
    return new Response(stream, response);
  }

  async function followFirst(session) {
    const response = await request(`${session}/turns`);
    const turns = response.ok ? await response.json() : [];
    if (turns.length) follow(session, turns[0].turnId);
  }

  async function follow(session, turn) {
    if (followed.has(turn)) return;
    followed.add(turn);
    const [, base, sessions, id] = SESSION.exec(session);
    await ended(ofTurn(base, turn, "events"));
    const wanted = decodeURIComponent(id);
    if (shown() === wanted && (await latest(base + sessions)) === wanted) refresh();
  }

  async function ended(events) {
    for (;;) {
      try {
        const response = await request(events);
        await response.text();
        if (response.status < 500) return;
      } catch {
        // The gateway is away.
      }
      await new Promise((resolve) => setTimeout(resolve, PAUSE_MS));
    }
  }

  function ofTurn(base, turn, what) {
    return new URL(`turns/${encodeURIComponent(turn)}/${what}`, base);
  }

  function sessionOf(base, { appName, userId, sessionId }) {
    const [app, user, session] = [appName, userId, sessionId].map(encodeURIComponent);
    return new URL(`apps/${app}/users/${user}/sessions/${session}`, base).href;
  }

  function shown() {
    return new URLSearchParams(location.search).get("session");
  }

  // The UI's refresh button shows the session that was changed last, whichever is open.
  async function latest(sessions) {
    const rows = await (await request(sessions)).json();
    return rows.sort((one, other) => other.lastUpdateTime - one.lastUpdateTime)[0]?.id;
  }

  function refresh() {
    const icons = [...document.querySelectorAll(".toolbar-icon-button mat-icon")];
    icons.find((icon) => icon.textContent.trim() === "refresh")?.closest("button").click();
  }
})();
