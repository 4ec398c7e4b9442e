"""ADK's dev UI, unchanged, with one script beside it.

The UI assumes that a turn ends when nobody watches it, and shows a session as it was when it was opened. `dev_ui.js`
describes what the script does about that. Of the UI it knows only its requests and its refresh button.
"""

from pathlib import Path

from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import Route

from adk_chat.gateway import seams

_SCRIPT = "adk-chat.js"
_TAG = f'<script src="./{_SCRIPT}"></script>'
_FRESH = {"cache-control": "no-cache"}


def dev_ui_routes() -> list[Route]:
    """Returns the routes of the page with the script, and of the script. They precede ADK's own files."""
    page = (seams.DEV_UI / "index.html").read_text(encoding="utf-8").replace("</body>", f"{_TAG}</body>")
    text = Path(__file__).with_name("dev_ui.js").read_text(encoding="utf-8")

    async def index(_: Request) -> Response:
        return HTMLResponse(page, headers=_FRESH)

    async def script(_: Request) -> Response:
        return Response(text, media_type="text/javascript", headers=_FRESH)

    return [Route("/dev-ui/", index), Route("/dev-ui/index.html", index), Route(f"/dev-ui/{_SCRIPT}", script)]
