"""Takes the screenshots of the docs: `.venv/bin/python docs/screenshots.py`, with chromium and npm on PATH.

The fonts of ADK's dev UI come from npm, so that the pictures are the same on a machine without a font server.
"""

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import quote

import httpx
from playwright.sync_api import Browser, Page, Route, expect, sync_playwright

from adk_chat.endpoint import listen

HERE = Path(__file__).parent
FONTS = {
    "materialicons/": "@fontsource/material-icons/files/material-icons-latin-400-normal.woff2",
    "materialsymbolsoutlined/": "@fontsource-variable/material-symbols-outlined/files/"
    "material-symbols-outlined-latin-fill-normal.woff2",
    "googlesans/": "@fontsource/google-sans/files/google-sans-latin-400-normal.woff2",
    "googlesansmono/": "@fontsource/google-sans-code/files/google-sans-code-latin-400-normal.woff2",
}
USER, SESSION, TITLE = "user123", "session-123", "Tea in Tokyo"
SAID = ["What time is it in Tokyo?", "Please remember that I like green tea", "Make a poem about durable execution."]
LAST = "no call is made twice, none unheard."


@contextmanager
def dev(directory: Path) -> Iterator[dict[str, str]]:
    """`adk-chat dev` with the demo model. Yields its URLs by the name of their port's option."""
    ports = {name: _free_port() for name in ("port", "ingress-port", "admin-port", "endpoint-port")}
    options = [text for name, port in ports.items() for text in (f"--{name}", str(port))]
    command = [sys.executable, "-m", "adk_chat", "dev", *options, "--data-dir", str(directory)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env={**os.environ, "ADK_CHAT_MODEL": "demo"})
    try:
        assert process.stdout is not None
        for line in process.stdout:
            if line.startswith("Ctrl-C"):
                break
        yield {name: f"http://localhost:{port}" for name, port in ports.items()}
    finally:
        process.terminate()
        process.wait()


def dev_ui(page: Page, url: str) -> None:
    """A conversation in ADK's dev UI."""
    title = {"__session_metadata__": {"displayName": TITLE}}
    path = f"{url}/apps/assistant/users/{USER}/sessions"
    httpx.post(path, json={"sessionId": SESSION, "state": title}).raise_for_status()
    page.goto(f"{url}/dev-ui/?app=assistant&userId={USER}&session={SESSION}")
    page.get_by_role("button", name="More options").click()
    page.get_by_role("menuitem", name="Streaming").click()
    page.keyboard.press("Escape")
    box = page.get_by_placeholder("Type a message")
    for number, text in enumerate(SAID, 1):
        box.fill(text)
        box.press("Enter")
        expect(page.locator("app-chat-panel").get_by_text("[demo model]")).to_have_count(number)
    expect(page.get_by_text(LAST)).to_be_visible()
    expect(page.get_by_role("progressbar")).to_have_count(0)
    page.mouse.move(640, 700)
    page.screenshot(path=HERE / "dev-ui.png")


def restate_ui(page: Page, url: str) -> None:
    """The same conversation as stored."""
    key = quote(json.dumps({"operation": "EQUALS", "value": USER}))
    page.goto(f"{url}/ui/state/Chat?sysFilter_service_key={key}")
    page.get_by_role("button", name=f"Expand Virtual object instance Chat / {USER}").click()
    row = page.get_by_role("row").filter(has_text=re.compile(f"^session_store::{SESSION}"))
    row.get_by_role("button").first.click()
    value = page.get_by_role("dialog").filter(has_text="session_store::").locator(".view-lines")
    value.click()
    while SAID[0] not in value.inner_text().replace("\xa0", " "):
        page.keyboard.press("PageDown")
    page.screenshot(path=HERE / "restate-ui.png")


def window(browser: Browser, fonts: Path) -> Page:
    """A new window."""

    def font(route: Route) -> None:
        name = next((file for part, file in FONTS.items() if part in route.request.url), None)
        route.fulfill(path=fonts / "node_modules" / name) if name else route.abort()

    page = browser.new_page(viewport={"width": 1280, "height": 800})
    page.route("https://fonts.gstatic.com/**", font)
    page.route("https://fonts.googleapis.com/**", lambda route: route.abort())
    page.route("**/config/telemetry", lambda route: route.fulfill(json={"telemetry": False}))
    return page


def main() -> None:
    """Takes them."""
    with tempfile.TemporaryDirectory() as directory, sync_playwright() as playwright:
        packages = sorted({"/".join(file.split("/")[:2]) for file in FONTS.values()})
        subprocess.run(["npm", "install", "--silent", "--prefix", directory, *packages], check=True)
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        with dev(Path(directory, "data")) as urls:
            dev_ui(window(browser, Path(directory)), urls["port"])
            restate_ui(window(browser, Path(directory)), urls["admin-port"])
        browser.close()


def _free_port() -> int:
    with listen("127.0.0.1", 0) as listening:
        return int(listening.getsockname()[1])


if __name__ == "__main__":
    main()
