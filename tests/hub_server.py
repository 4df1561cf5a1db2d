"""A Hub on the loopback address, for the unmodified client of `huggingface_hub`.

    with hub_serving(tmp_path) as hub:
        commit = hub.seed("org/name", {"config.json": b"{}", "model.safetensors": content})
        process = fresh_python("-c", code, cwd=tmp_path, env=hub.environment(tmp_path / "home"))

The state (`hub.storage`, hub_repository.py) can be read and changed without the client:
`hub.seed(repo_id, files, revision=, private=, gated=)` adds a commit,
`hub.storage.repositories["org/name"]` has `commits`, `branches`, `tags`, `pulls`, `gated`, and
`hub.content("org/name", "config.json", revision=)` is what a commit holds. `hub.files["x.pth"]`
is served at `hub.url + "/x.pth"`, plainly: no Hub, but with the same faults, ETag and ranges.

Clients. `hub.environment(home, token=WRITER)` are the variables of a client in a process of its
own, with nothing of this process's HF_* and ZOO_HUB; `hub.point_client(monkeypatch, home, token=)`
points the client of this process at the hub, and lets nobody sleep long before another try.

Tokens: `WRITER` and `READER` are of the user `tester`, who owns `tester/*` and `org/*`; `STRANGER`
is of somebody else; `EXPIRED` is over; all else is unknown. `hub.storage.tokens` takes more.

Requests. `hub.requests` lists what came, with status and bytes sent; `hub.asked("GET /org/name")`
those whose "METHOD path?query" a regular expression finds. Large files (those of .gitattributes,
and longer than 10 MB) are kept at a second address, as on the real Hub, which answers with a
redirect: a download is `GET /store/<sha256>`, an upload `PUT /store/<sha256>`, in parts where it is
longer than `hub.part_size`. The store refuses requests that bring a token, as the real one does.

Faults. `hub.fail(pattern, **effects)` adds a rule (hub_faults.py) and returns it, to read `hits`:

    hub.fail("GET /store/", cut=1000)                   # once; then a Range gives the rest
    hub.fail("GET /org/name/resolve", status=503, times=2)
    hub.fail("POST .*/commit/", status=412, message="A commit has happened since.")
    hub.fail("PUT /store/", skip=1, times=None, status=500)   # the second upload, for ever
"""

import json
import os
import re
import time
from contextlib import contextmanager

from hub_api import HUB_ROUTES, STORE_ROUTES
from hub_faults import Faults
from hub_http import Listener
from hub_repository import EXPIRED, READER, STRANGER, WRITER, Storage

__all__ = ["EXPIRED", "READER", "STRANGER", "WRITER", "Hub", "as_json", "hub_serving"]


class Hub:
    """The server; see the module."""

    def __init__(self, folder):
        self.storage, self.faults = Storage(folder / "hub-store"), Faults()
        self.files, self.requests, self.errors = {}, [], []
        self.uploads = {}  # parts by SHA-256 and number
        self.part_size = 50 * 2**20
        self.page_size = 1000
        self.store = Listener("store", self, STORE_ROUTES)
        self.listener = Listener("hub", self, HUB_ROUTES)
        self.url = self.listener.url
        self.seed, self.fail = self.storage.seed, self.faults.add

    def content(self, repo_id, path, *, revision="main"):
        """A file of a repository, as bytes."""
        _, entry = self.storage.repositories[repo_id].entry(revision, path)
        return self.storage.contents.read(entry.sha256)

    def asked(self, pattern):
        """The requests whose "METHOD path?query" a regular expression finds."""
        return [one for one in self.requests if re.search(pattern, f"{one.method} {one.path}")]

    def environment(self, home, *, token=None, **more):
        """The variables of a process whose client asks this hub.

        Args:
            home: The client's folder, HF_HOME.
            token: HF_TOKEN, or None for nobody.
            more: More variables, such as HF_HUB_OFFLINE="1".
        """
        others = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("HF_", "HUGGING", "ZOO_", "XDG_CACHE"))
        }
        ours = {
            "HF_ENDPOINT": self.url,
            "HF_HOME": str(home),
            "HF_HUB_DISABLE_XET": "1",
            "HF_HUB_DISABLE_TELEMETRY": "1",
            "HF_HUB_DISABLE_PROGRESS_BARS": "1",
            "HF_HUB_DISABLE_UPDATE_CHECK": "1",
        }
        return others | ours | ({"HF_TOKEN": token} if token else {}) | more

    def point_client(self, monkeypatch, home, *, token=None):
        """Let the client of this process ask this hub, and nobody wait before another try."""
        from huggingface_hub import constants, hf_api

        template = self.url + "/{repo_id}/resolve/{revision}/{filename}"
        values = {
            "ENDPOINT": self.url,
            "HUGGINGFACE_CO_URL_TEMPLATE": template,
            "HF_HUB_CACHE": str(home / "hub"),
            "HF_ASSETS_CACHE": str(home / "assets"),
            "HF_TOKEN_PATH": str(home / "token"),
            "HF_HUB_DISABLE_XET": True,
        }
        for name, value in values.items():
            monkeypatch.setattr(constants, name, value)
        # These two copied theirs when they were imported.
        monkeypatch.setattr(hf_api.api, "endpoint", self.url)
        monkeypatch.setattr(
            "huggingface_hub.utils._cache_assets.HF_ASSETS_CACHE", str(home / "assets")
        )
        sleep = time.sleep
        monkeypatch.setattr(time, "sleep", lambda seconds: sleep(min(seconds, 0.002)))
        monkeypatch.delenv("HF_TOKEN", raising=False)
        if token:
            monkeypatch.setenv("HF_TOKEN", token)


@contextmanager
def hub_serving(folder):
    """A running `Hub`, whose contents are in a folder; an exception inside of it is raised here."""
    hub = Hub(folder)
    try:
        yield hub
    finally:
        hub.listener.close()
        hub.store.close()
    if hub.errors:
        raise hub.errors[0]


def as_json(value):
    return json.dumps(value).encode()
