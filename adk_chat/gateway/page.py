"""The page of ADK's dev UI as it is, and beside it a script of ours; what that is for is said in it."""

from pathlib import Path

from starlette.requests import Request
from starlette.responses import FileResponse, HTMLResponse, Response
from starlette.routing import BaseRoute, Route

from adk_chat.gateway import seams

_SCRIPT = Path(__file__).with_name("dev_ui.js")
_TAG = '<script src="./adk_chat.js"></script>'


def page_routes() -> list[BaseRoute]:
    """Routes to put before those of ADK's server."""
    return [
        Route("/dev-ui/", _page, methods=["GET"]),
        Route("/dev-ui/index.html", _page, methods=["GET"]),
        Route("/dev-ui/adk_chat.js", _script, methods=["GET"]),
    ]


async def _page(request: Request) -> Response:
    html = (seams.DEV_UI / "index.html").read_text(encoding="utf-8")
    return HTMLResponse(html.replace("</body>", f"{_TAG}</body>"), headers={"cache-control": "no-cache"})


async def _script(request: Request) -> Response:
    return FileResponse(_SCRIPT, media_type="text/javascript", headers={"cache-control": "no-cache"})
