"""ADK's dev UI as it is, and one script beside it.

The UI shows a session as it was when its page was loaded, and does not know that a turn may outlive a page. The script
loads the page again when a turn has ended that was still running then.
"""

from fastapi.responses import HTMLResponse, Response
from starlette.requests import Request
from starlette.routing import Route

from adk_chat.gateway import seams

_SCRIPT = "adk-chat.js"
_RESUME = """
const part = encodeURIComponent;
const query = new URLSearchParams(location.search);
const [app, user, session] = ["app", "userId", "session"].map((name) => query.get(name));
if (app && session) {
  const path = `../apps/${part(app)}/users/${part(user ?? "user")}/sessions/${part(session)}/turns`;
  const here = location.href;
  const turns = await (await fetch(path)).json();
  if (turns.length) {
    await (await fetch(`../turns/${turns.at(-1).turnId}/events`)).text();
    if (location.href === here) location.reload();
  }
}
"""


def dev_ui_routes() -> list[Route]:
    """The page with the script in it, and the script; they go before ADK's own files."""
    page = (seams.DEV_UI / "index.html").read_text()
    page = page.replace("</body>", f'<script type="module" src="{_SCRIPT}"></script></body>')

    async def index(_: Request) -> Response:
        return HTMLResponse(page)

    async def script(_: Request) -> Response:
        return Response(_RESUME, media_type="text/javascript")

    return [Route("/dev-ui/", index), Route("/dev-ui/index.html", index), Route(f"/dev-ui/{_SCRIPT}", script)]
