"""HTTP/1.1 of the Hub of the tests: bodies, ranges, errors, the log of requests, the faults."""

import json
import re
import socket
import sys
import threading
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, unquote, urlsplit

from hub_repository import Refusal

# The client takes a 401 of a repository for one that is not found, by an address that starts with
# https. Here it starts with http, so this code, which the real Hub leaves out, says it instead.
_OF_A_REPOSITORY = re.compile("/api/models/.|/resolve/")
_BAD_TOKEN = "Invalid credentials in Authorization header"


@dataclass
class Request:
    """A request as it came, and what was answered.

    Attributes:
        place: `hub`, or `store` for the second address, where large files are.
        path: With its query.
        headers: By name in lower case.
        status: None where the connection was dropped.
        sent: Bytes of the body of the answer.
    """

    place: str
    method: str
    path: str
    headers: dict[str, str]
    status: int | None = None
    sent: int = 0


class Dropped(Exception):
    """The connection is to be closed without a word."""


class Listener(ThreadingHTTPServer):
    """A port; its connections are closed with it, so that none outlives a test."""

    daemon_threads = True
    request_queue_size = 64

    def __init__(self, place, hub, routes):
        super().__init__(("127.0.0.1", 0), Call)
        self.place, self.hub = place, hub
        self.routes = [(method, re.compile(path), answer) for method, path, answer in routes]
        self.url = f"http://127.0.0.1:{self.server_port}"
        self.connections, self.closing = set(), threading.Event()
        threading.Thread(target=self.serve_forever, args=(0.02,), daemon=True).start()

    def process_request(self, request, client_address):
        self.connections.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request):
        self.connections.discard(request)
        super().shutdown_request(request)

    def handle_error(self, request, client_address):
        # A client may go away at any time; anything else is a mistake of ours.
        if not isinstance(error := sys.exc_info()[1], ConnectionError):
            self.hub.errors.append(error)

    def close(self):
        self.closing.set()
        self.shutdown()
        for connection in list(self.connections):
            try:
                connection.shutdown(socket.SHUT_RDWR)
            except OSError:
                continue  # closed by the client
        self.server_close()


class Call(BaseHTTPRequestHandler):
    """One connection, and the request that is being answered on it."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def log_message(self, *_):
        pass

    def answer(self):
        try:
            self._answer()
        except Dropped:
            self.close_connection = True

    do_GET = do_HEAD = do_POST = do_PUT = do_DELETE = answer

    def _answer(self):
        self.hub = self.server.hub
        headers = {name.lower(): value for name, value in self.headers.items()}
        self.request_log = Request(self.server.place, self.command, self.path, headers)
        self.hub.requests.append(self.request_log)
        parts = urlsplit(self.path)
        self.query = {name: values[-1] for name, values in parse_qs(parts.query).items()}
        self.fault = self.hub.faults.choose(f"{self.command} {self.path}")
        try:
            self._receive()
            self.fault.call()
            if self.fault.hang and self.fault.cut is None:
                self._hang()
            if self.fault.status is not None:
                retry = self.fault.retry_after
                after = {} if retry is None else {"Retry-After": str(retry)}
                raise Refusal(self.fault.status, self.fault.message, self.fault.code, **after)
            self._route(parts.path)
        except Refusal as refusal:
            self._refuse(refusal)

    @property
    def token(self):
        return self.hub.storage.identify(self.headers.get("Authorization"))

    def json(self):
        return json.loads(self.body or b"{}")

    def reply(self, data, status=200, **headers):
        self.send(
            json.dumps(data).encode(), status, **{"Content-Type": "application/json"}, **headers
        )

    def send(self, content, status=200, **headers):
        """Answer with a body, as the fault of this request has it."""
        content = self.fault.change(content)
        cut = self.fault.cut if self.command == "GET" else None
        self.request_log.status = status
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        length = len(content) if self.fault.length is None else self.fault.length
        self.send_header("Content-Length", str(length))
        if length != len(content):
            # The two sides disagree where this answer ends, so another may not follow it.
            self.send_header("Connection", "close")
        self.end_headers()
        if self.command != "HEAD":
            self._write(content[:cut])
        if cut is not None and self.fault.hang:
            self._hang()
        if cut is not None:
            raise Dropped

    def send_file(self, content, etag, **headers):
        """Answer with a file, or with the range of it that is asked for."""
        headers |= {"ETag": f'"{etag}"', "Accept-Ranges": "bytes"}
        asked = re.fullmatch(r"bytes=(\d*)-(\d*)", self.headers.get("Range", ""))
        unchanged = self.headers.get("If-Range", headers["ETag"]) == headers["ETag"]
        if not asked or not unchanged or self.fault.whole or self.command == "HEAD":
            return self.send(content, **headers)
        first, last = asked.groups()
        start = int(first) if first else max(0, len(content) - int(last))
        start += self.fault.late
        stop = min(int(last) + 1, len(content)) if first and last else len(content)
        if start >= stop:
            size = {"Content-Range": f"bytes */{len(content)}"}
            raise Refusal(416, "Requested range not satisfiable", **size)
        span = f"bytes {start}-{stop - 1}/{len(content)}"
        return self.send(content[start:stop], 206, **headers, **{"Content-Range": span})

    def _route(self, path):
        for method, pattern, answer in self.server.routes:
            found = pattern.fullmatch(path)
            if found and self.command in method.split("|"):
                groups = found.groupdict(default="")
                return answer(self, **{name: unquote(text) for name, text in groups.items()})
        raise Refusal(404, f"Sorry, we can't find the page {self.command} {path}.")

    def _refuse(self, refusal):
        headers = {"X-Error-Message": refusal.message, **refusal.headers}
        code = refusal.code
        hidden = refusal.status == 401 and refusal.message != _BAD_TOKEN
        if code is None and hidden and _OF_A_REPOSITORY.search(self.path):
            code = "RepoNotFound"
        if code is not None:
            headers["X-Error-Code"] = code
        self.reply({"error": refusal.message, **refusal.body}, refusal.status, **headers)

    def _receive(self):
        """Read the body of the request, whole, or as much as the fault leaves of it."""
        if self.headers.get("Transfer-Encoding", "").lower() == "chunked":
            self.body = b"".join(self._chunks())
        else:
            length = int(self.headers.get("Content-Length", 0))
            cut = self.fault.cut
            self.body = self.rfile.read(length if cut is None else min(cut, length))
            if len(self.body) < length:
                raise Dropped

    def _chunks(self):
        while size := int(self.rfile.readline().partition(b";")[0] or b"0", 16):
            yield self.rfile.read(size)
            self.rfile.readline()
            if self.fault.cut is not None:
                raise Dropped
        self.rfile.readline()

    def _write(self, content):
        step = max(1, -(-len(content) // 8)) if self.fault.pause else max(1, len(content))
        for start in range(0, len(content), step):
            if self.fault.pause:
                self.server.closing.wait(self.fault.pause)
            block = content[start : start + step]
            self.request_log.sent += len(block)
            self.wfile.write(block)

    def _hang(self):
        self.server.closing.wait(self.fault.hang)
        raise Dropped
