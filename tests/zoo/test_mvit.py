"""What MViT must not lose in conversion, and other numbers of frames and sizes."""

import pytest
import torch
import torch.nn.functional as F
from scrambling import assert_close, random_clip, scramble
from torch import nn

import converters
import registry
import zoo
from zoo.models.mvit import distance_rows, resize_distances


def _made(name, **arguments):
    torch.manual_seed(0)
    return scramble(zoo.create(name, **arguments), None)


def _at(model, folder, **arguments):
    """The model's weights at another number of frames or size."""
    return zoo.create(f"local-dir:{zoo.save(model, folder)}", **arguments)


@pytest.mark.parametrize("name", ["test_mvit_v1", "test_mvit_v2"])
@pytest.mark.parametrize("frames", [8, 16, 32])
@pytest.mark.parametrize("size", [40, 64])
def test_other_frames_and_sizes_keep_the_tables(name, frames, size, tmp_path):
    trained = _made(name)
    model = _at(trained, tmp_path / "saved", num_frames=frames, img_size=size)
    with torch.no_grad():
        a, b = (model(random_clip((1, 3, frames, size, size), seed=seed)) for seed in (1, 2))
    assert (a - b).abs().max() > 0.01 * a.abs().max()
    kept = dict(trained.named_parameters())
    for key, parameter in model.named_parameters():
        table = kept[key]
        if "rel_pos" in key:
            line = F.interpolate(table.t()[None], size=parameter.shape[0], mode="linear")
            wanted = line[0].t()
        elif key == "pos_embed_temporal":
            line = F.interpolate(table.transpose(1, 2), size=frames // 2, mode="linear")
            wanted = line.transpose(1, 2)
        elif key == "pos_embed_spatial":
            side = size // 4
            grid = table.reshape(1, 8, 8, -1).permute(0, 3, 1, 2)
            grid = F.interpolate(grid, size=(side, side), mode="bicubic", antialias=True)
            wanted = grid.flatten(2).transpose(1, 2)
        else:
            wanted = table
        assert torch.equal(parameter, wanted), key


@pytest.mark.parametrize("name", ["test_mvit_v1", "test_mvit_v2"])
def test_the_trained_size_is_exact(name, tmp_path):
    trained = _made(name)
    model = _at(trained, tmp_path / "saved", num_frames=4, img_size=32)
    clip = random_clip((1, 3, 4, 32, 32), seed=1)
    with torch.no_grad():
        assert torch.equal(model(clip), trained(clip))


@pytest.mark.parametrize("name", ["test_mvit_v1", "test_mvit_v2"])
def test_there_and_back_is_almost_the_trained_model(name, tmp_path):
    """Smooth tables survive four times the frames and the size, and the way back."""
    trained = _made(name)
    with torch.no_grad():
        for key, parameter in trained.named_parameters():
            if "rel_pos" in key or "pos_embed" in key:
                rows = parameter.reshape(-1, parameter.shape[-1])
                row = torch.arange(rows.shape[0]) // (8 if key == "pos_embed_spatial" else 1)
                rows.copy_((row / max(1, row.max()))[:, None] * torch.randn(rows.shape[1]))
    big = _at(trained, tmp_path / "big", num_frames=16, img_size=128)
    back = _at(big, tmp_path / "back", num_frames=4, img_size=32)
    clip = random_clip((1, 3, 4, 32, 32), seed=1)
    with torch.no_grad():
        assert_close(back(clip), trained(clip), tolerance=0.05)


@pytest.mark.parametrize("name", ["test_mvit_v1", "test_mvit_v2"])
@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({"num_frames": 5}, "num_frames=5 is no multiple of 2.*give 4"),
        ({"img_size": 30}, "img_size=30 is no multiple of 4.*give 28"),
        ({"img_size": 2}, "img_size=2 is no multiple of 4.*give 4"),
    ],
)
def test_what_the_patches_do_not_divide_is_refused(name, arguments, sentence):
    with pytest.raises(ValueError, match=sentence):
        zoo.create(name, **arguments)


def test_a_clip_of_another_size_is_refused():
    with pytest.raises(ValueError, match=r"made for clips of \(T, H, W\) = \(4, 32, 32\)"):
        zoo.create("test_mvit_v1")(torch.zeros(1, 3, 4, 36, 36))


def test_norm_is_refused_where_the_width_is_another():
    model = zoo.create("test_mvit_v2")
    with pytest.raises(ValueError, match=r"norm=True normalises a width of 32.*\[0\]"):
        model.forward_intermediates(torch.zeros(1, 3, 4, 32, 32), [0, 1, 2], norm=True)


@pytest.mark.parametrize("name", ["test_mvit_v1", "test_mvit_v2"])
@pytest.mark.parametrize(("frames", "size"), [(4, 32), (10, 44)])
def test_frames_and_size_are_read_off_the_tensors(name, frames, size):
    model = zoo.create(name, num_frames=frames, img_size=size, num_classes=5, in_chans=4)
    found = zoo.create(name).infer_arguments(model.state_dict())
    assert found == {"num_frames": frames, "img_size": size, "num_classes": 5, "in_chans": 4}


def test_distances_between_coarse_and_fine_grids():
    assert distance_rows(3, 3).tolist() == [[2, 1, 0], [3, 2, 1], [4, 3, 2]]
    assert distance_rows(4, 2).tolist() == [[2, 0], [3, 1], [4, 2], [5, 3]]
    assert distance_rows(2, 4).tolist() == [[3, 2, 1, 0], [5, 4, 3, 2]]
    # 78 queries and 10 keys are 7.8 apart: whole numbers by the authors' order of operations.
    rows = distance_rows(78, 10)
    assert (rows[0, 9].item(), rows[77, 0].item()) == (0, 147)


def test_a_resized_table_of_distances_keeps_its_middle():
    table = torch.linspace(-1, 1, 15)[:, None]
    assert resize_distances(table, rows=15) is table
    assert resize_distances(table, rows=31)[15].abs() < 1e-6
    assert resize_distances(table.half(), rows=7).dtype == torch.float16


@pytest.mark.parametrize("name", ["test_mvit_v1", "test_mvit_v2"])
def test_epsilon_of_the_norms(name):
    model = zoo.create(name, pool_norm_eps=1e-5)
    after_pooling = {
        module: module.eps
        for key, module in model.named_modules()
        if isinstance(module, nn.LayerNorm) and ".pool_" in key
    }
    others = {
        module.eps
        for module in model.modules()
        if isinstance(module, nn.LayerNorm) and module not in after_pooling
    }
    assert set(after_pooling.values()) == {1e-5}
    assert others == {1e-6}
    weights = {w.tag: dict(w.arguments) for w in registry.info("mvit_v1_b").weights}
    assert weights["k400_32x3"] == {"pool_norm_eps": 1e-5}
    assert weights["k400"] == {}


def test_files_of_2021_with_three_layers_of_attention_are_read():
    model = _made("test_mvit_v1")
    fused = converters.export(model, target="slowfast")
    parts = {}
    for key, value in fused.items():
        if ".qkv." in key:
            names = (key.replace(".qkv.", f".{letter}.") for letter in "qkv")
            parts |= dict(zip(names, value.chunk(3), strict=True))
        else:
            parts[key] = value
    for state in (fused, parts):
        again = converters.convert(state, name="test_mvit_v1", source="slowfast")
        assert all(torch.equal(again[key], value) for key, value in model.state_dict().items())
    del parts["blocks.1.attn.k.bias"]
    with pytest.raises(ValueError, match=r"missing keys: blocks.1.attn.qkv.bias"):
        converters.convert(parts, name="test_mvit_v1", source="slowfast")


@pytest.mark.parametrize("layout", ["torchvision", "slowfast", "pytorchvideo"])
@pytest.mark.parametrize("name", ["test_mvit_v1", "test_mvit_v2"])
def test_a_stray_key_and_a_missing_key_raise(name, layout):
    if (name, layout) == ("test_mvit_v2", "pytorchvideo"):
        return
    state = converters.export(_made(name), target=layout)
    last = list(state)[-1]
    with pytest.raises(ValueError, match=r"unknown keys: blocks.0.attn.stray"):
        stray = state | {"blocks.0.attn.stray": torch.zeros(2)}
        converters.convert(stray, name=name, source=layout)
    with pytest.raises(ValueError, match=r"missing keys: head.bias"):
        converters.convert(
            {key: value for key, value in state.items() if key != last}, name=name, source=layout
        )


def test_mean_and_deviation_as_the_networks_see_them():
    large = {w.tag: w.preprocess for w in registry.info("mvit_v2_l").weights}
    assert large["k400"].mean == (0.485, 0.456, 0.406)
    assert large["ssv2"].mean == (0.406, 0.456, 0.485)
    assert large["ssv2"].std == (0.225, 0.224, 0.229)
    for name in registry.list_models("mvit_*"):
        for weights in registry.info(name).weights:
            assert weights.preprocess.channel_order == "rgb"
            if name != "mvit_v2_l":
                assert set(weights.preprocess.mean) == {0.45}


def test_the_page_for_browsers_is_named():
    with pytest.raises(ConnectionError, match=r"offered to browsers only.*drive.google.com"):
        zoo.create("mvit_v1_b", pretrained="k400_slowfast")
