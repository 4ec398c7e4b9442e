// Beside ADK's dev UI, which takes it that a turn ends with whoever watches it. Here it does not, so:
// the UI's stop button cancels the turn, and a session that is opened while a turn runs in it is shown again at its end.
(() => {
  const request = window.fetch.bind(window);
  const json = async (url) => (await request(url)).json();

  window.fetch = async (resource, options) => {
    const response = await request(resource, options);
    const turn = response.headers.get("x-turn-id");
    return turn && options?.signal ? stoppable(response, turn, options.signal) : response;
  };

  // The UI aborts its request to stop it, and also when it is over or has failed; only the first is to cancel the turn.
  function stoppable(response, turn, signal) {
    const reader = response.body.getReader();
    let over = false;
    signal.addEventListener("abort", () => over || request(ofTurn(response.url, turn, "cancel"), { method: "POST" }));
    const body = new ReadableStream({
      async pull(controller) {
        try {
          const { done, value } = await reader.read();
          over = done;
          done ? controller.close() : controller.enqueue(value);
        } catch (error) {
          over = true;
          controller.error(error);
        }
      },
      cancel: (reason) => reader.cancel(reason),
    });
    return new Response(body, response);
  }

  function ofTurn(base, turn, what) {
    return new URL(`turns/${encodeURIComponent(turn)}/${what}`, base);
  }

  const SESSION = /^(.*\/)(apps\/[^/]+\/users\/[^/]+\/sessions)\/([^/?]+)$/;
  const followed = new Set();
  const open = XMLHttpRequest.prototype.open;

  XMLHttpRequest.prototype.open = function (method, url, ...rest) {
    const found = method === "GET" && SESSION.exec(new URL(url, location.href));
    if (found) this.addEventListener("load", () => this.status === 200 && follow(...found));
    return open.call(this, method, url, ...rest);
  };

  async function follow(session, base, sessions, id) {
    const turns = await json(`${session}/turns`);
    const turn = Array.isArray(turns) && turns.find((pending) => !followed.has(pending.turnId));
    if (!turn) return;
    followed.add(turn.turnId);
    await ended(ofTurn(base, turn.turnId, "events"));
    const shown = new URLSearchParams(location.search).get("session") === decodeURIComponent(id);
    if (shown && (await latest(base + sessions)) === decodeURIComponent(id)) refresh();
  }

  async function ended(url) {
    for (;;) {
      try {
        return await (await request(url)).text();
      } catch {
        await new Promise((resolve) => setTimeout(resolve, 1000));
      }
    }
  }

  // The UI's refresh button shows the session that was changed last, whichever is open.
  async function latest(sessions) {
    return (await json(sessions)).sort((one, other) => other.lastUpdateTime - one.lastUpdateTime)[0]?.id;
  }

  function refresh() {
    const icons = [...document.querySelectorAll(".toolbar-icon-button mat-icon")];
    icons.find((icon) => icon.textContent.trim() === "refresh")?.closest("button").click();
  }
})();
