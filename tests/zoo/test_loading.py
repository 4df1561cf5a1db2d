"""Loading takes no memory and no time that it need not: weights stay mapped, nothing is drawn."""

import copy
import json
import unicodedata

import pytest
import torch
from fresh_python import fresh_python
from mapped_memory import mapped_from, needs_maps
from safetensors import safe_open
from torch import nn

import zoo
from converters.unfilled import fill, is_unfilled, shapes_only, unfilled, unset
from zoo.config import _CONTROL
from zoo.factory import _owned

NAMES = (
    *("test_framepool", "test_timesformer_factorised", "test_videomae"),
    *("test_swin3d", "test_mvit_v2"),
)


@pytest.fixture(params=NAMES)
def saved(request, tmp_path):
    torch.manual_seed(0)
    model = zoo.create(request.param)
    for parameter in model.parameters():
        nn.init.normal_(parameter)
    return model, zoo.save(model, tmp_path / "saved")


@needs_maps
def test_parameters_are_the_mapped_file(saved):
    _, folder = saved
    again = zoo.create(f"local-dir:{folder}")
    file = str((folder / "model.safetensors").resolve())
    for name, parameter in again.named_parameters():
        assert mapped_from(parameter) == file, name
    assert all(parameter.requires_grad for parameter in again.parameters())


def test_what_is_loaded_equals_what_was_saved_tables_included(saved):
    model, folder = saved
    again = zoo.create(f"local-dir:{folder}")
    for wanted, found in (
        (dict(model.named_parameters()), dict(again.named_parameters())),
        (dict(model.named_buffers()), dict(again.named_buffers())),
    ):
        assert wanted.keys() == found.keys()
        for key, value in wanted.items():
            assert found[key].dtype == value.dtype
            assert torch.equal(found[key], value), key


def test_changing_loaded_weights_leaves_the_file(saved):
    _, folder = saved
    file = folder / "model.safetensors"
    before = file.read_bytes()
    again = zoo.create(f"local-dir:{folder}").train()
    with torch.no_grad():
        for parameter in again.parameters():
            parameter.add_(1.0)
    twin = copy.deepcopy(again)
    assert all(
        torch.equal(a, b) for a, b in zip(again.parameters(), twin.parameters(), strict=True)
    )
    assert file.read_bytes() == before


def test_no_random_number_is_drawn(saved):
    _, folder = saved
    before = torch.get_rng_state()
    zoo.create(f"local-dir:{folder}")
    assert torch.equal(torch.get_rng_state(), before)


def test_a_new_head_has_first_values(saved):
    model, folder = saved
    with pytest.warns(UserWarning, match="is new: 11 classes"):
        again = zoo.create(f"local-dir:{folder}", num_classes=11)
    assert not is_unfilled(again)
    weight = again.get_classifier().weight
    assert 0 < weight.std() < 1
    others = dict(model.named_parameters())
    for key, value in again.named_parameters():
        assert value is weight or value.ndim == 1 or torch.equal(value, others[key]), key


def test_half_precision_files_give_models_of_the_usual_type(tmp_path):
    half = zoo.create("test_framepool").half()
    folder = zoo.save(half, tmp_path / "half")
    with safe_open(folder / "model.safetensors", "pt") as file:
        assert file.get_tensor(half.stem_weights[0]).dtype == torch.float16
    again = zoo.create(f"local-dir:{folder}")
    assert {parameter.dtype for parameter in again.parameters()} == {torch.float32}


def test_tensors_of_shared_memory_are_taken_apart():
    tensor, whole = torch.randn(4), torch.randn(6, 4)
    first, last = whole.chunk(2)
    state = {"a": tensor, "b": tensor, "c": first, "d": last, "e": torch.ones(1).expand(3)}
    found = _owned(state, state)
    places = [value.untyped_storage().data_ptr() for value in found.values()]
    assert len(set(places)) == len(places)
    for key, value in found.items():
        assert torch.equal(value, state[key])
        assert value.untyped_storage().nbytes() == value.nbytes


class Layer(nn.Module):
    """First values of several kinds."""

    def __init__(self, *further):
        super().__init__()
        self.linear = nn.Linear(4, 4)
        self.norm = nn.BatchNorm1d(4)
        self.scale = nn.Parameter(torch.zeros(3))
        for start in (nn.init.trunc_normal_, nn.init.xavier_uniform_, *further):
            start(self.linear.weight)
        nn.init.constant_(self.scale, 2.0)
        self.register_buffer("table", torch.arange(4).float() * 2, persistent=False)


@pytest.mark.parametrize("context", [unfilled, shapes_only])
def test_unfilled_modules_draw_nothing_and_keep_their_tables(context):
    before = torch.get_rng_state()
    with context():
        layer = Layer(nn.init.orthogonal_)
    assert torch.equal(torch.get_rng_state(), before)
    assert layer.linear.weight.is_meta
    assert is_unfilled(layer)
    assert layer.table.is_meta == (context is shapes_only)
    if context is unfilled:
        assert layer.table.tolist() == [0, 2, 4, 6]
        assert layer.norm.running_var.tolist() == [1] * 4
    assert not is_unfilled(Layer())


@pytest.mark.parametrize("lacking", ["", "linear.weight", "linear.bias", "scale"])
def test_unset_modules_draw_nothing_until_they_are_loaded(lacking):
    state = Layer().state_dict()
    state.pop(lacking, None)
    before = torch.get_rng_state()
    with unset() as first_values:
        layer = Layer()
        assert torch.equal(torch.get_rng_state(), before)
        assert layer.linear.weight.isnan().all()
        assert layer.table.tolist() == [0, 2, 4, 6]
        assert layer.norm.running_var.tolist() == [1] * 4
        assert first_values.missing(layer)
        layer.load_state_dict(state, strict=False)
        nn.init.constant_(layer.norm.weight, 3.0)  # whoever loads may change what was loaded
    assert first_values.missing(layer) == bool(lacking)
    assert layer.norm.weight.tolist() == [3.0] * 4
    assert torch.equal(layer.state_dict()["norm.bias"], state["norm.bias"])


def test_what_is_made_of_unset_values_is_missing():
    class Copied(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.second = nn.Linear(2, 2), nn.Linear(2, 2)
            self.register_buffer("table", self.first.weight.detach().clone(), persistent=False)

    with unset() as first_values:
        layer = Copied()
        layer.load_state_dict(Copied().state_dict())
    assert layer.table.isnan().all()
    assert first_values.missing(layer)


def test_loading_imports_neither_the_compiler_nor_timm_and_opens_no_connection(tmp_path):
    folder = zoo.save(zoo.create("r2p1d_18"), tmp_path / "saved")
    code = f"""
import json, socket, sys
def refuse(*_):
    raise AssertionError("a connection")
socket.socket.connect = refuse
import zoo
zoo.create({"local-dir:" + str(folder)!r})
wanted = ("torch._dynamo", "timm", "torchvision", "transformers", "requests", "httpx")
print(json.dumps([name for name in wanted if name in sys.modules]))
"""
    done = fresh_python("-c", code, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == []


def test_control_characters_are_those_of_unicode():
    letters = [chr(code) for code in range(0x3000)]
    assert [letter for letter in letters if unicodedata.category(letter) == "Cc"] == [
        letter for letter in letters if _CONTROL.search(letter)
    ]


def test_filling_a_module_does_what_its_own_loading_does():
    def build():
        torch.manual_seed(0)
        with unfilled():
            layers = nn.Sequential(nn.Conv3d(2, 3, 1), nn.BatchNorm3d(3), nn.Sequential())
        layers[0].bias.requires_grad_(requires_grad=False)
        layers[2].shared = layers[0]
        return layers

    filled, loaded = build(), build()
    state = {key: torch.ones(value.shape) for key, value in loaded.state_dict().items()}
    state |= {f"2.shared.{key}": state[f"0.{key}"] for key in ("weight", "bias")}
    del state["1.bias"]
    fill(filled, state)
    loaded.load_state_dict(state, strict=False, assign=True)
    assert filled.get_parameter("1.bias").is_meta
    for kind in ("named_parameters", "named_buffers"):
        ours, theirs = (
            dict(getattr(module, kind)(remove_duplicate=False)) for module in (filled, loaded)
        )
        assert ours.keys() == theirs.keys()
        for key, value in theirs.items():
            assert type(ours[key]) is type(value), key
            assert ours[key].requires_grad == value.requires_grad, key
            assert ours[key].data_ptr() == value.data_ptr(), key


def _hooked():
    layers = nn.Sequential(nn.Linear(2, 2))
    layers[0].register_load_state_dict_pre_hook(
        lambda _, state, prefix, *__: state.update({f"{prefix}bias": state[f"{prefix}bias"] * 2})
    )
    return layers


@pytest.mark.parametrize("build", [lambda: nn.LSTM(3, 4), _hooked])
def test_a_module_with_its_own_way_of_loading_is_filled_by_it(build):
    torch.manual_seed(0)
    with unfilled():
        filled = build()
    loaded = build()
    state = {key: torch.randn(value.shape) for key, value in loaded.state_dict().items()}
    fill(filled, dict(state))
    assert not any(weight.is_meta for weight in getattr(filled, "_flat_weights", ()))
    loaded.load_state_dict(dict(state))
    clip = torch.randn(5, loaded[0].in_features if isinstance(loaded, nn.Sequential) else 3)
    wanted, found = loaded(clip), filled(clip)
    if isinstance(wanted, tuple):
        wanted, found = wanted[0], found[0]
    assert torch.equal(found, wanted)


def test_parameters_that_are_shared_stay_so():
    with unfilled():
        layers = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
        layers[1].weight = layers[0].weight
    fill(layers, {key: torch.ones(value.shape) for key, value in layers.state_dict().items()})
    assert layers[1].weight is layers[0].weight
