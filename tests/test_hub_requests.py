"""The Hub of the tests without its client: plain files, ranges, what the store refuses."""

import threading
import urllib.error
import urllib.request

import pytest
from hub_server import WRITER, hub_serving
from huggingface_hub import hf_hub_download

WEIGHTS = bytes(range(256)) * 400


def _read(url, **headers):
    """A plain request: status, headers and body."""
    try:
        with urllib.request.urlopen(urllib.request.Request(url, headers=headers)) as answer:
            return answer.status, answer.headers, answer.read()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.headers, error.read()


@pytest.mark.parametrize(
    ("asked", "part"),
    [("0-9", slice(0, 10)), ("100-", slice(100, None)), ("-5", slice(-5, None))],
)
def test_ranges_of_plain_files(hub, asked, part):
    hub.files["a/weights.pth"] = WEIGHTS
    url = f"{hub.url}/a/weights.pth"
    _, headers, whole = _read(url)
    assert whole == WEIGHTS
    status, found, body = _read(url, Range=f"bytes={asked}")
    start = (part.start + len(WEIGHTS)) % len(WEIGHTS)
    assert (status, body) == (206, WEIGHTS[part])
    assert found["Content-Range"] == f"bytes {start}-{start + len(body) - 1}/{len(WEIGHTS)}"
    same = {"Range": f"bytes={asked}", "If-Range": headers["ETag"]}
    assert _read(url, **same)[0] == 206
    assert _read(url, **(same | {"If-Range": '"other"'}))[::2] == (200, WEIGHTS)
    assert _read(url, Range=f"bytes={len(WEIGHTS)}-")[0] == 416
    assert _read(f"{hub.url}/b")[0] == 404


def test_the_store_takes_signed_addresses_and_no_token(hub, monkeypatch, tmp_path):
    hub.seed("org/name", {"model.safetensors": WEIGHTS})
    hub.point_client(monkeypatch, tmp_path, token=WRITER)
    path = hub.storage.repositories["org/name"].find("main").files["model.safetensors"].sha256
    hf_hub_download("org/name", "model.safetensors")
    (call,) = hub.asked("GET /store/")
    url = hub.store.url + call.path
    assert _read(url)[0] == 200
    assert _read(url, Authorization=f"Bearer {WRITER}")[0] == 400
    assert _read(f"{hub.store.url}/store/{path}?X-Signature=0")[0] == 403


def test_many_requests_at_once_and_an_error_of_the_server(tmp_path):
    with hub_serving(tmp_path) as hub:
        hub.files["x"] = WEIGHTS
        found = []
        threads = [
            threading.Thread(target=lambda: found.append(_read(f"{hub.url}/x")[2]))
            for _ in range(8)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert found == [WEIGHTS] * 8
    with pytest.raises(TypeError), hub_serving(tmp_path) as hub:
        hub.files["x"] = "no bytes"
        with pytest.raises(OSError):
            _read(f"{hub.url}/x")
