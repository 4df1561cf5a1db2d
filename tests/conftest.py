"""What holds for every test: no network, nothing written outside its folder, RNGs put back."""

import os
import random
import signal
import socket
import tempfile

# Two workers with two threads each wait for one another most of the time; read by torch, and by
# the programs that tests start.
os.environ["OMP_NUM_THREADS"] = "1"
# Else MKL rounds by where in memory its matrices lie, and weights read from a file, equal to the
# last bit, give logits that are not. Read when it is loaded.
os.environ["MKL_CBWR"] = "AUTO,STRICT"
# Read by huggingface_hub when it is imported, so it must come first.
os.environ["HF_HOME"] = tempfile.mkdtemp(prefix="videozoo-tests-")
os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"
os.environ["HF_HUB_DISABLE_PROGRESS_BARS"] = "1"
# The Hub of the tests does not speak Xet, which the client would upload through where it can.
os.environ["HF_HUB_DISABLE_XET"] = "1"

import deviations
import numpy as np
import pytest
import torch

FOUND = pytest.StashKey()


def pytest_addoption(parser):
    parser.addoption(
        "--write-deviations",
        action="store_true",
        help="write the largest deviation of each proof into MODEL_CARDS/deviations.csv",
    )


def pytest_configure():
    # A shell's background job ignores Ctrl-C, and so would the programs that tests interrupt.
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_sessionstart(session):
    session.config.stash[FOUND] = {}


def pytest_sessionfinish(session):
    if session.config.getoption("--write-deviations"):
        deviations.write(session.config.stash[FOUND])


@pytest.fixture(scope="session")
def _proofs():
    return deviations.proofs()


@pytest.fixture(autouse=True)
def _compare_deviation(request, _proofs):
    """A proof of a conversion finds what its card says."""
    deviations.take()
    yield
    found = deviations.take()
    proof = deviations.proof_of(request.node.nodeid, _proofs)
    if found is None or proof is None:
        return
    if request.config.getoption("--write-deviations"):
        known = request.config.stash[FOUND]
        known[proof] = max(found, known.get(proof, 0.0))
    else:
        deviations.compare(proof, found, deviations.figures())


@pytest.fixture(autouse=True)
def _put_back_rngs():
    states = random.getstate(), np.random.get_state(), torch.get_rng_state()
    yield
    random.setstate(states[0])
    np.random.set_state(states[1])
    torch.set_rng_state(states[2])


@pytest.fixture(autouse=True)
def _no_network(monkeypatch):
    connect = socket.socket.connect

    def only_loopback(self, address):
        if isinstance(address, tuple) and address[0] not in ("127.0.0.1", "::1", "localhost"):
            raise OSError(f"A test asked for the network: {address}")
        return connect(self, address)

    monkeypatch.setattr(socket.socket, "connect", only_loopback)


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """An empty cache for converted weights."""
    # The client copies the constant at its first import, which may have been earlier.
    for module in ("constants", "utils._cache_assets"):
        name = f"huggingface_hub.{module}.HF_ASSETS_CACHE"
        monkeypatch.setattr(name, str(tmp_path / "assets"))
    return tmp_path / "assets"


@pytest.fixture
def hub(tmp_path):
    """A Hub and a server of plain files, on the loopback address."""
    from hub_server import hub_serving

    with hub_serving(tmp_path) as hub:
        yield hub
