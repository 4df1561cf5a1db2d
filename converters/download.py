"""A file at a plain address: resumed where a connection is cut, and never left in part."""

from __future__ import annotations

import re
import sys
import time
from dataclasses import dataclass
from http.client import HTTPException, HTTPResponse
from pathlib import Path
from typing import BinaryIO
from urllib.error import HTTPError
from urllib.request import Request, urlopen

from converters.disk import cache_error, check_free_space
from converters.hub import LONGEST_WAIT_SECONDS, PASSING_STATUSES, WAITS_SECONDS

__all__ = ["fetch_url"]

_BLOCK_BYTES = 1 << 20
_MOST_REQUESTS = 50


class _CannotWriteError(Exception):
    """The disk, and not the connection, has failed."""


class _CutError(ConnectionError):
    """The connection ended before the file did."""


def fetch_url(url: str, path: Path) -> None:
    """Fetch a file, under a name of its own until it is whole.

    What was received is kept while a server fails for a moment, and asked for no second time as
    long as the server says that the file is the same.

    Args:
        url: Its address, http or https.
        path: Where it is put; its folder must exist.

    Raises:
        HTTPError: The server refuses it, or keeps failing.
        OSError: The server cannot be reached, stays silent or cuts every connection.
        HTTPException: It speaks something else than HTTP.
        ValueError: The address is of another kind.
    """
    if not url.startswith(("https://", "http://")):
        raise ValueError(f"{url!r} is no address that weights are fetched from.")
    part = path.with_name(f".{path.name}.part")
    try:
        with part.open("wb") as file:
            _Download(url, path, file).run()
        part.replace(path)
    except _CannotWriteError as error:
        assert isinstance(error.__cause__, OSError)
        raise cache_error(path.parent, error.__cause__) from error.__cause__
    finally:
        part.unlink(missing_ok=True)


@dataclass(slots=True)
class _Download:
    """One file on its way.

    Attributes:
        url: Its address.
        path: Its final name, for messages.
        file: What is received.
        version: What the server calls this version of the file, if it does.
        total: Bytes that it has, if the server says so.
    """

    url: str
    path: Path
    file: BinaryIO
    version: str = ""
    total: int | None = None

    def run(self) -> None:
        """Ask until the file is whole, or nothing has come for several requests."""
        waits = list(WAITS_SECONDS)
        for _ in range(_MOST_REQUESTS):
            had = self.file.tell()
            try:
                self._ask()
                return
            except (OSError, HTTPException) as error:
                status = error.code if isinstance(error, HTTPError) else None
                if status == 416 and had:  # the file is shorter now, or has no ranges
                    self._write(b"", anew=True)
                elif status is not None and status not in PASSING_STATUSES:
                    raise
                if self.file.tell() > had:
                    waits = list(WAITS_SECONDS)
                if not waits:
                    raise
                time.sleep(max(waits.pop(0), _wished_wait(error)))
                if isinstance(error, HTTPError):
                    error.close()  # it holds the connection
        raise _CutError(f"the connection was cut {_MOST_REQUESTS} times")

    def _ask(self) -> None:
        from huggingface_hub import constants

        headers = {"User-Agent": "videozoo"}
        had = self.file.tell()
        if had and self.version:
            headers |= {"Range": f"bytes={had}-", "If-Range": self.version}
        request = Request(self.url, headers=headers)  # noqa: S310 -- http or https, see fetch_url
        timeout = constants.HF_HUB_DOWNLOAD_TIMEOUT
        with urlopen(request, timeout=timeout) as response:  # noqa: S310 -- likewise
            self._begin(response)
            self._receive(response)

    def _begin(self, response: HTTPResponse) -> None:
        """Go on where the file ends, or begin anew where the server sends it from the start."""
        given = re.fullmatch(
            r"bytes (\d+)-\d+/(\d+|\*)", response.headers.get("Content-Range") or ""
        )
        if response.status == 206 and given and int(given[1]) == self.file.tell():
            return
        if response.status != 200:
            raise _CutError(f"the server answers with status {response.status}")
        self._write(b"", anew=True)
        length = response.headers.get("Content-Length") or ""
        self.total = int(length) if length.isdecimal() else None
        version = response.headers.get("ETag") or response.headers.get("Last-Modified") or ""
        self.version = "" if version.startswith("W/") else version
        check_free_space(self.path.parent, self.total or 0, self.path.name)

    def _receive(self, response: HTTPResponse) -> None:
        from rich.console import Console
        from rich.progress import Progress

        shown = sys.stderr.isatty()
        with Progress(console=Console(stderr=True), disable=not shown, transient=True) as progress:
            task = progress.add_task(self.path.name, total=self.total)
            while block := response.read(_BLOCK_BYTES):
                self._write(block)
                progress.update(task, completed=self.file.tell())
        if self.total is not None and self.file.tell() < self.total:
            raise _CutError(f"it was cut after {self.file.tell()} of {self.total} bytes")

    def _write(self, block: bytes, *, anew: bool = False) -> None:
        try:
            if anew:
                self.file.seek(0)
                self.file.truncate()
            self.file.write(block)
            self.file.flush()
        except OSError as error:
            raise _CannotWriteError from error


def _wished_wait(error: Exception) -> float:
    wish = error.headers.get("Retry-After", "") if isinstance(error, HTTPError) else ""
    return min(float(wish), LONGEST_WAIT_SECONDS) if wish.isdecimal() else 0.0
