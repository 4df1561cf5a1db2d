"""A real headless browser, driven through its WebDriver with the standard library alone."""

import json
import re
import shutil
import subprocess
import urllib.request
from contextlib import contextmanager

BROWSER = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), ""
)
DRIVER = shutil.which("chromedriver") or ""
ARGUMENTS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
)
ELEMENT = "element-6066-11e4-a52e-4f735466cecf"  # W3C WebDriver's name of a reference
ENTER = "\ue007"


class Browser:
    """One window; what a page's script logs is kept."""

    def __init__(self, address):
        self._address = address

    def _ask(self, path, method="POST", **body):
        data = json.dumps(body).encode() if method == "POST" else None
        request = urllib.request.Request(f"{self._address}{path}", data, method=method)
        with urllib.request.urlopen(request, timeout=60) as answer:
            return json.load(answer)["value"]

    def open(self, url):
        self._ask("/url", url=url)

    def run(self, script, *arguments):
        """What a script `return`s; its arguments are `arguments[0]` and so on."""
        return self._ask("/execute/sync", script=script, args=list(arguments))

    def find(self, selector):
        """The first element that a CSS selector finds."""
        return self._ask("/element", using="css selector", value=selector)[ELEMENT]

    def click(self, selector):
        self._ask(f"/element/{self.find(selector)}/click")

    def type(self, selector, text):
        self._ask(f"/element/{self.find(selector)}/value", text=text)

    def log(self):
        """Errors and warnings of the pages since the last time."""
        return [line["message"] for line in self._ask("/se/log", type="browser")]


@contextmanager
def browsing(profile, **options):
    """A running browser without access to any network.

    Args:
        profile: A new folder for its settings.
        options: Of `goog:chromeOptions`, such as `mobileEmulation`.
    """
    with subprocess.Popen([DRIVER, "--port=0"], stdout=subprocess.PIPE, text=True) as driver:
        try:
            port = next(
                filter(
                    None, (re.search(r"successfully on port (\d+)", line) for line in driver.stdout)
                )
            )
            address = f"http://127.0.0.1:{port.group(1)}/session"
            arguments = [
                *ARGUMENTS,
                f"--user-data-dir={profile}",
                "--window-size=1280,900",
                "--proxy-server=127.0.0.1:9",  # nobody answers there
            ]
            wishes = {
                "goog:chromeOptions": {"binary": BROWSER, "args": arguments} | options,
                "goog:loggingPrefs": {"browser": "ALL"},
            }
            root = Browser(address)
            made = root._ask("", capabilities={"alwaysMatch": wishes})
            browser = Browser(f"{address}/{made['sessionId']}")
            try:
                yield browser
            finally:
                browser._ask("", "DELETE")
        finally:
            driver.terminate()
