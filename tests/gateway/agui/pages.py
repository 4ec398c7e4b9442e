"""Pages of CopilotKit and assistant-ui, built from their packages, in a browser."""

import hashlib
import os
import re
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from urllib.parse import urlencode

from playwright.async_api import Browser, Page, expect
from starlette.applications import Starlette
from starlette.responses import HTMLResponse
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

from adk_chat.dev.npm import cache, move, run
from tests.programs import AGUI_CLIENTS, find_agui_clients
from tests.support import until

PAGES = ["copilotkit", "assistant"]
_BUNDLED = [
    *("--bundle", "--minify", "--splitting", "--format=esm", "--jsx=automatic"),
    '--define:process.env.NODE_ENV="production"',
    *(f"--loader:.{kind}=empty" for kind in ("woff", "woff2", "ttf")),
]
_HTML = (
    "<!doctype html><title>{page}</title><link rel=stylesheet href=/built/{page}.css>"
    "<div id=root></div><script type=module src=/built/{page}.js></script>"
)


def site() -> Starlette:
    """An app that serves the pages. They are bundled once for each version of them."""
    home = find_agui_clients(print)
    sources = [AGUI_CLIENTS / f"{page}.tsx" for page in PAGES]
    made_of = [*(source.read_bytes() for source in sources), *map(str.encode, _BUNDLED)]
    directory = cache() / f"{home.name}-pages-{hashlib.sha256(b''.join(made_of)).hexdigest()[:16]}"
    if not directory.exists():
        os.environ["NODE_PATH"] = str(home / "node_modules")
        esbuild = str(home / "node_modules" / "esbuild" / "bin" / "esbuild")
        with tempfile.TemporaryDirectory(dir=cache(), prefix=".building-") as building:
            outdir = f"--outdir={building}/pages"
            run([esbuild, *map(str, sources), *_BUNDLED, outdir], "the pages", "run the other tests")
            move(Path(building) / "pages", directory)

    def html(page: str) -> Route:
        return Route(f"/{page}", lambda _: HTMLResponse(_HTML.format(page=page)))

    return Starlette(routes=[*map(html, PAGES), Mount("/built", StaticFiles(directory=directory))])


class Chat:
    """A chat in a page, as its user sees it."""

    def __init__(self, page: Page, url: str) -> None:
        self._page = page
        self._url = url
        self.errors: list[str] = []
        """What was thrown in the page and not caught."""
        page.on("pageerror", lambda error: self.errors.append(str(error)))

    async def open(self) -> None:
        """Open the page, or open it again."""
        await self._page.goto(self._url)

    async def say(self, text: str) -> None:
        """Type a message and send it."""
        field = self._page.get_by_placeholder(re.compile("message", re.IGNORECASE)).first

        async def sent() -> bool:
            # While an answer is being written, Enter begins a new line instead.
            await field.fill(text)
            await field.press("Enter")
            with suppress(AssertionError):
                await expect(field).to_have_value("", timeout=1000)
            return await field.input_value() == ""

        await until(sent)

    async def shows(self, text: str | re.Pattern[str]) -> None:
        """Wait until a text is shown, once."""
        await expect(self._page.get_by_text(text, exact=True)).to_have_count(1)

    async def approve(self) -> None:
        """Press the button that approves a call."""
        await self._page.get_by_test_id("approve").click()

    async def stop(self) -> None:
        """Press CopilotKit's button that stops the answer."""
        await self._page.get_by_test_id("copilot-send-button").click()

    async def is_painted(self, color: str) -> None:
        """Wait until the frontend's tool has run."""
        await expect(self._page.locator("body")).to_have_attribute("data-color", color)


@asynccontextmanager
async def chat(browser: Browser, origin: str, page: str, **given: str) -> AsyncIterator[Chat]:
    """A page of the site at that origin."""
    opened = await browser.new_page()
    made = Chat(opened, f"{origin}/{page}?{urlencode(given)}")
    await made.open()
    yield made
    await opened.close()
