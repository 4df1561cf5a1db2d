"""Checkpoint files: what is written is read back; what is harmful or damaged is refused."""

import pytest
import torch

from converters import read_checkpoint, read_metadata, write_safetensors


def _state():
    return {"a.weight": torch.randn(3, 4), "b": torch.arange(5)}


def test_safetensors_round_trip_with_metadata(tmp_path):
    state = _state()
    path = tmp_path / "new" / "model.safetensors"
    write_safetensors(state, path, metadata={"name": "r2p1d_18", "tag": "k400"})
    found = read_checkpoint(path)
    assert found.keys() == state.keys()
    assert all(torch.equal(found[key], state[key]) for key in state)
    assert read_metadata(path) == {"name": "r2p1d_18", "tag": "k400"}
    assert [item.name for item in path.parent.iterdir()] == ["model.safetensors"]


def test_views_and_shared_memory_are_written_by_value(tmp_path):
    base = torch.randn(4, 6)
    state = {"transposed": base.t(), "tied": base, "tied_too": base, "row": base[1]}
    write_safetensors(state, tmp_path / "m.safetensors", metadata={})
    found = read_checkpoint(tmp_path / "m.safetensors")
    assert all(torch.equal(found[key], state[key]) for key in state)


@pytest.mark.parametrize("wrapper", [None, "state_dict", "model_state", "model"])
@pytest.mark.parametrize("prefix", ["", "module."])
def test_wrappers_are_removed(tmp_path, wrapper, prefix):
    state = _state()
    content = {prefix + key: value for key, value in state.items()}
    torch.save({wrapper: content, "epoch": 3} if wrapper else content, tmp_path / "c.pth")
    found = read_checkpoint(tmp_path / "c.pth")
    assert found.keys() == state.keys()
    assert torch.equal(found["b"], state["b"])


class Harmful:
    def __reduce__(self):
        return print, ("code was run",)


def test_a_pickle_with_code_is_refused_and_nothing_runs(tmp_path, capsys):
    torch.save({"state_dict": Harmful()}, tmp_path / "evil.pth")
    with pytest.raises(ValueError, match="holds more than tensors"):
        read_checkpoint(tmp_path / "evil.pth")
    assert "code was run" not in capsys.readouterr().out


@pytest.mark.parametrize("name", ["m.safetensors", "m.pth"])
@pytest.mark.parametrize("harm", ["cut", "noise", "empty"])
def test_damaged_files_are_refused_by_name(tmp_path, name, harm):
    path = tmp_path / name
    if name.endswith("pth"):
        torch.save(_state(), path)
    else:
        write_safetensors(_state(), path, metadata={})
    content = path.read_bytes()
    damaged = {"cut": content[: len(content) // 2], "noise": b"\x07" * 200, "empty": b""}
    path.write_bytes(damaged[harm])
    with pytest.raises(ValueError, match=rf"{name}' is damaged"):
        read_checkpoint(path)


@pytest.mark.parametrize("share", [0.02, 0.1, 0.3, 0.5, 0.7, 0.95])
def test_a_file_cut_anywhere_is_refused_by_name(tmp_path, share):
    path = tmp_path / "m.pth"
    torch.save({f"layer{i}": torch.randn(40, 40) for i in range(20)}, path)
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    with pytest.raises(ValueError, match=r"m.pth' is damaged or no checkpoint"):
        read_checkpoint(path)


def test_what_is_no_state_dict_is_refused(tmp_path):
    torch.save([1, 2], tmp_path / "list.pth")
    with pytest.raises(ValueError, match="holds no state dict, but list"):
        read_checkpoint(tmp_path / "list.pth")
    torch.save({"lr": 0.1, "w": torch.zeros(1)}, tmp_path / "mixed.pth")
    with pytest.raises(ValueError, match="other things than tensors under lr"):
        read_checkpoint(tmp_path / "mixed.pth")


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"No checkpoint file at '.*gone\.pth'"):
        read_checkpoint(tmp_path / "gone.pth")


def test_a_failed_write_leaves_the_old_file_and_no_part(tmp_path, monkeypatch):
    path = tmp_path / "m.safetensors"
    write_safetensors({"a": torch.zeros(1)}, path, metadata={})

    def fail(*_, **__):
        raise OSError("No space left on device")

    monkeypatch.setattr("converters.checkpoint.save_file", fail)
    with pytest.raises(OSError, match="No space left"):
        write_safetensors({"a": torch.ones(1)}, path, metadata={})
    assert torch.equal(read_checkpoint(path)["a"], torch.zeros(1))
    assert [item.name for item in tmp_path.iterdir()] == ["m.safetensors"]
