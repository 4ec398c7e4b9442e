"""Pages of CopilotKit and assistant-ui, built from their packages, in a browser."""

import hashlib
import os
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from urllib.parse import urlencode

from playwright.async_api import Browser, Page, expect
from starlette.applications import Starlette
from starlette.responses import HTMLResponse
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

from adk_chat.dev.npm import cache, run
from tests.programs import AGUI_CLIENTS, find_agui_clients
from tests.support import until

PAGES = ["copilotkit", "assistant"]
_HTML = (
    "<!doctype html><title>{page}</title><link rel=stylesheet href=/built/{page}.css>"
    "<div id=root></div><script src=/built/{page}.js></script>"
)


def site() -> Starlette:
    """An app that serves the pages. They are bundled once for each version of them."""
    home = find_agui_clients(print)
    sources = [AGUI_CLIENTS / f"{page}.tsx" for page in PAGES]
    digest = hashlib.sha256(b"".join(source.read_bytes() for source in sources)).hexdigest()[:16]
    directory = cache() / f"agui-pages-{home.name.rpartition('-')[2]}-{digest}"
    if not (directory / "done").exists():
        os.environ["NODE_PATH"] = str(home / "node_modules")
        fonts = [f"--loader:.{kind}=empty" for kind in ("woff", "woff2", "ttf")]
        options = ["--bundle", "--minify", f"--outdir={directory}", '--define:process.env.NODE_ENV="production"']
        esbuild = str(home / "node_modules" / "esbuild" / "bin" / "esbuild")
        run([esbuild, *map(str, sources), *options, "--jsx=automatic", *fonts], "the pages", "run the other tests")
        (directory / "done").touch()

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
        await field.fill(text)

        async def sent() -> bool:  # not while an answer is being written
            await field.press("Enter")
            return await field.input_value() == ""

        await until(sent)

    async def shows(self, text: str | re.Pattern[str]) -> None:
        """Wait until a text is shown, once."""
        await expect(self._page.get_by_text(text, exact=True)).to_have_count(1)

    async def approve(self) -> None:
        """Press the button that approves a call."""
        await self._page.get_by_test_id("approve").click()

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
