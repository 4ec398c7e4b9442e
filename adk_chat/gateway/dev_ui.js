// ADK's dev UI assumes that a turn ends when its page stops watching it. Here the turn goes on, so this script adds to it:
// - The UI's stop button cancels the turn.
// - A panel shows a turn that the page does not watch, because the page was loaded in the middle of it, the connection
//   broke or the turn was stopped. A button in the panel cancels the turn. When it ends, the session is shown again.
// - The panel says when a model call failed and is retried.
(() => {
  const SESSION = /^(.*\/)(apps\/[^/]+\/users\/[^/]+\/sessions)\/([^/?]+)$/;
  const PAUSE_MS = 1000;
  const NOTE_MS = 8000;
  const TAIL = 160; // characters of an answer that the panel shows
  const followed = new Set();
  let noted; // the last note, shown when nothing is running
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

  // The UI aborts its request when the user stops it, but also when it is over or failed. Only the first cancels the turn.
  function watched(response, turn, { signal, body }) {
    const reader = response.body.getReader();
    let over = false;
    signal.addEventListener("abort", () => {
      if (over) return;
      request(ofTurn(response.url, turn, "cancel"), { method: "POST" });
      follow(sessionOf(response.url, JSON.parse(body)), turn);
    });
    const stream = new ReadableStream({
      async pull(controller) {
        try {
          const { done, value } = await reader.read();
          over = done;
          if (value) sayRetry(new TextDecoder().decode(value));
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

  // The UI ignores that a model call failed and is retried.
  function sayRetry(chunk) {
    const retry = /"adk_chat_model_retry":\{"model":"([^"]*)".*?"seconds":([\d.]+)/.exec(chunk);
    if (retry) note(`${retry[1]} failed; retrying in ${retry[2]} s.`);
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
    const wanted = decodeURIComponent(id);
    const view = panel(() => request(ofTurn(base, turn, "cancel"), { method: "POST" }));
    const show = (text) => (shown() === wanted ? view.say(text) : view.hide());
    show("");
    const last = await ended(ofTurn(base, turn, "events"), show);
    view.hide();
    if (shown() !== wanted) return;
    if (last?.errorCode === "INVOCATION_ABORTED") note("The turn was cancelled.");
    if ((await latest(base + sessions)) === wanted) refresh();
  }

  // Follows a turn to its end and shows its text meanwhile. Returns its last event.
  async function ended(events, show) {
    for (;;) {
      try {
        const response = await request(events);
        const last = response.ok && response.body ? await heard(response.body, show) : await response.text();
        if (response.status < 500) return last;
      } catch {
        // The gateway does not answer.
      }
      await new Promise((resolve) => setTimeout(resolve, PAUSE_MS));
    }
  }

  async function heard(body, show) {
    let [rest, text, last] = ["", "", undefined];
    const reader = body.pipeThrough(new TextDecoderStream()).getReader();
    for (;;) {
      const { done, value } = await reader.read();
      if (done) return last;
      const blocks = (rest + value).split("\n\n");
      rest = blocks.pop();
      for (const block of blocks) {
        const lines = block.split("\n");
        const data = lines.find((line) => line.startsWith("data: "));
        if (!data || lines.some((line) => line.startsWith("event: "))) {
          text = ""; // a reset, or the end
          continue;
        }
        const event = JSON.parse(data.slice(6));
        const said = (event.content?.parts ?? []).map((part) => (part.thought ? "" : (part.text ?? ""))).join("");
        text = event.partial ? text + said : "";
        if (!event.partial) last = event;
        show(text);
      }
    }
  }

  // A panel over the page with the end of the text of the running turn, and a button that cancels it.
  function panel(stop) {
    const box = document.createElement("div");
    const label = document.createElement("span");
    const button = document.createElement("button");
    box.setAttribute("role", "status");
    box.id = "adk-chat-turn";
    box.style.cssText =
      "position:fixed;right:24px;bottom:112px;z-index:999;max-width:380px;padding:10px 14px;border-radius:10px;" +
      "background:#303134;color:#e8eaed;font:13px/1.5 sans-serif;box-shadow:0 2px 10px #0008;overflow-wrap:anywhere";
    button.textContent = "Stop";
    button.style.cssText = "margin-left:10px;padding:2px 10px;border-radius:6px;border:1px solid #8ab4f8;color:#8ab4f8;background:none;cursor:pointer";
    button.addEventListener("click", () => {
      button.remove();
      stop?.();
    });
    box.append(label, ...(stop ? [button] : []));
    return {
      say(text) {
        label.textContent = text.length > TAIL ? `... ${text.slice(-TAIL)}` : text || "The agent is answering ...";
        if (!box.isConnected) document.body.append(box);
      },
      hide: () => box.remove(),
    };
  }

  function note(text) {
    noted?.hide();
    noted = panel();
    noted.say(text);
    setTimeout(noted.hide, NOTE_MS);
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

  // The UI's refresh button opens the most recently changed session, whichever is open.
  async function latest(sessions) {
    const rows = await (await request(sessions)).json();
    return rows.sort((one, other) => other.lastUpdateTime - one.lastUpdateTime)[0]?.id;
  }

  function refresh() {
    const icons = [...document.querySelectorAll(".toolbar-icon-button mat-icon")];
    icons.find((icon) => icon.textContent.trim() === "refresh")?.closest("button").click();
  }
})();
