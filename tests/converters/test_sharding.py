"""Large weights become several files, which the Hub's own tools read, and small ones stay one."""

import json
import os

import pytest
import torch
from huggingface_hub import get_torch_storage_size, load_state_dict_from_file
from safetensors.torch import load_file

from converters import read_metadata
from converters.checkpoint import save_tensors
from converters.sharding import is_weights_file, write_weights

METADATA = {"name": "r2p1d_18", "tag": "k400", "digest": "d", "source": "{}", "version": "1"}


def _state():
    torch.manual_seed(0)
    tied = torch.randn(100)
    return {
        "a": torch.randn(10, 100),  # 4000 bytes
        "b": torch.randn(300).reshape(30, 10).t(),  # 1200 bytes, a view
        "tied": tied,
        "tied_too": tied,
        "c": torch.arange(7),
        "half": torch.randn(64).to(torch.bfloat16),
    }


def _names(folder):
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize("size", [1300, "1.3KB"])
def test_shards_and_their_index_are_read_by_the_hubs_own_tools(tmp_path, size):
    state = _state()
    write_weights(state, tmp_path, metadata=METADATA, max_shard_size=size)
    shards = [f"model-{number:05d}-of-00003.safetensors" for number in (1, 2, 3)]
    assert _names(tmp_path) == [*shards, "model.safetensors.index.json"]
    index = json.loads((tmp_path / "model.safetensors.index.json").read_text())
    assert index["weight_map"].keys() == state.keys()
    total = sum(get_torch_storage_size(value.clone()) for value in state.values())
    assert index["metadata"] == {"total_size": total, **METADATA}
    found = {}
    for name in shards:
        assert read_metadata(tmp_path / name) == {"format": "pt", **METADATA}
        part = load_state_dict_from_file(tmp_path / name)
        assert part.keys() == {key for key, file in index["weight_map"].items() if file == name}
        found |= part
    assert found.keys() == state.keys()
    for key, value in state.items():
        assert found[key].dtype == value.dtype
        assert torch.equal(found[key], value)


def test_small_weights_are_one_file(tmp_path):
    write_weights(_state(), tmp_path, metadata=METADATA, max_shard_size="5GB")
    assert _names(tmp_path) == ["model.safetensors"]
    assert read_metadata(tmp_path / "model.safetensors") == {"format": "pt", **METADATA}


def test_a_size_that_cannot_be_read_is_refused(tmp_path):
    with pytest.raises(ValueError, match="Unit 'TS' not supported"):
        write_weights(_state(), tmp_path, metadata={}, max_shard_size="5 bits")
    assert _names(tmp_path) == []


def test_the_same_tensors_give_the_same_bytes(tmp_path):
    # safetensors itself writes the metadata in another order each time.
    written = set()
    for number in range(6):
        path = tmp_path / f"{number}.safetensors"
        save_tensors(_state(), path, metadata=METADATA | {"é": 'a "quoted" \n line'})
        written.add(path.read_bytes())
    assert len(written) == 1
    assert read_metadata(path)["é"] == 'a "quoted" \n line'
    found = load_file(path)
    assert all(torch.equal(found[key], value) for key, value in _state().items())


@pytest.mark.parametrize("mask", [0o022, 0o027, 0o077])
def test_files_may_be_read_by_whom_the_umask_says(tmp_path, mask):
    before = os.umask(mask)
    try:
        write_weights(_state(), tmp_path, metadata={}, max_shard_size=1300)
    finally:
        os.umask(before)
    assert {path.stat().st_mode & 0o777 for path in tmp_path.iterdir()} == {0o666 & ~mask}


@pytest.mark.parametrize(
    ("name", "is_one"),
    [
        ("model.safetensors", True),
        ("model-00001-of-00002.safetensors", True),
        ("model.safetensors.index.json", True),
        ("optimizer.safetensors", False),
        ("my-model.safetensors", False),
        ("model-1-of-2.safetensors", False),
        ("../model.safetensors", False),
        ("model_safetensors", False),
    ],
)
def test_only_names_that_are_written_are_ours(name, is_one):
    assert is_weights_file(name) == is_one
