"""ADK's dev UI as it is, and one script beside it.

The UI takes it that a turn ends with whoever watches it, and shows a session as it was when it was opened. `dev_ui.js`
says what the script does about that; it knows of the UI only its requests and its refresh button.
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
    """The page with the script in it, and the script; they go before ADK's own files."""
    page = (seams.DEV_UI / "index.html").read_text(encoding="utf-8").replace("</body>", f"{_TAG}</body>")
    text = Path(__file__).with_name("dev_ui.js").read_text(encoding="utf-8")

    async def index(_: Request) -> Response:
        return HTMLResponse(page, headers=_FRESH)

    async def script(_: Request) -> Response:
        return Response(text, media_type="text/javascript", headers=_FRESH)

    return [Route("/dev-ui/", index), Route("/dev-ui/index.html", index), Route(f"/dev-ui/{_SCRIPT}", script)]
