"""A file server on the loopback address: plain files, and as much of the Hub as a download asks."""

import hashlib
import json
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@contextmanager
def serving(files, *, cut=None):
    """Serve files by path.

    Args:
        files: Content by path, without the leading slash.
        cut: Bytes after which a connection is closed, or None.

    Returns:
        A context that gives the server; `url` is its address, `requests` what was asked.
    """

    class Handler(BaseHTTPRequestHandler):
        def do_HEAD(self):
            self.answer(body=False)

        def do_GET(self):
            self.answer(body=True)

        def answer(self, *, body):
            server.requests.append((self.command, self.path))
            content = files.get(self.path.lstrip("/").partition("?")[0])
            if content is None:
                self.send_response(404)
                self.send_header("X-Error-Code", "EntryNotFound")
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
            self.send_response(200)
            self.send_header("Content-Length", str(len(content)))
            self.send_header("ETag", f'"{hashlib.sha256(content).hexdigest()}"')
            self.send_header("X-Repo-Commit", COMMIT)
            self.end_headers()
            if body:
                self.wfile.write(content[:cut])

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.requests = []
    server.url = f"http://127.0.0.1:{server.server_port}"
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()


def downloads(server):
    """How often a body was asked for, by path."""
    found = [path for command, path in server.requests if command == "GET"]
    return {path: found.count(path) for path in found}


def as_json(value):
    return json.dumps(value).encode()
