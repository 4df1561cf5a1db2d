"""What models cost: against arithmetic, torchvision's figures, the records and torch's profiler."""

import json
import re
import warnings
from functools import partial

import pytest
import torch
import torchvision
from torch import nn
from torch.nn import functional as F

import registry
import zoo
from zoo.counting import count_layers
from zoo.experiments import compare_families, families_page
from zoo.layers import eager


@pytest.fixture
def run(run_zoo):
    """Run `zoo flops ARGUMENTS` in this process: exit code, stdout, stderr."""
    return partial(run_zoo, "flops")


@pytest.fixture(scope="module")
def families():
    return {cost.name: cost for cost in compare_families()}


def by_name(cost):
    return {layer.name: layer for layer in cost.layers}


# ---- by hand ----


def test_a_convolution_by_hand():
    # 5 frames of 6 x 8 places, 4 channels out, each a sum over 3 channels and 3 x 3 x 3 places.
    conv = nn.Conv3d(3, 4, kernel_size=3, padding=1, bias=True)
    cost = count_layers(conv, (2, 3, 5, 6, 8))
    (layer,) = cost.layers
    assert (layer.name, layer.kind, layer.calls) == ("", "3x3x3", 1)
    assert layer.macs == cost.macs == 2 * 5 * 6 * 8 * 4 * 3 * 27
    assert layer.flops == cost.flops == 2 * layer.macs
    assert layer.params == cost.params == 4 * 3 * 27 + 4
    # The only tensor made is the output; alive with it is the clip.
    made = 4 * 2 * 4 * 5 * 6 * 8
    assert layer.activation_bytes == cost.activations["float32"].sum_bytes == made
    assert cost.activations["float32"].peak_bytes == made + 4 * 2 * 3 * 5 * 6 * 8


def test_a_linear_layer_by_hand():
    cost = count_layers(nn.Linear(7, 11), (3, 5, 7))
    (layer,) = cost.layers
    assert (layer.kind, layer.macs, layer.params) == ("linear", 3 * 5 * 7 * 11, 7 * 11 + 11)


@pytest.mark.parametrize(
    ("layer", "shape", "macs"),
    [
        # 4 groups: each of 12 x (3 x 3 x 6) numbers is a sum over 8 / 4 channels and 3 x 1 x 2.
        (nn.Conv3d(8, 12, (3, 1, 2), groups=4, stride=(1, 2, 1)), (2, 8, 5, 6, 7), 62208 // 4),
        (nn.Conv3d(8, 8, 3, groups=8, padding=1), (1, 8, 2, 4, 5), 8 * 40 * 27),
        # Every number that is read goes to 4 channels and 27 places.
        (nn.ConvTranspose3d(8, 4, 3), (1, 8, 2, 3, 4), 8 * 24 * 4 * 27),
        (nn.BatchNorm3d(8), (2, 8, 5, 6, 7), 0),
        (nn.LayerNorm(8), (2, 5, 8), 0),
        # 5 steps of 4 gates of 4 that read 3 + 4 numbers, and of a GRU's 3 gates.
        (nn.LSTM(3, 4), (5, 1, 3), 5 * 16 * 7),
        (nn.LSTM(3, 4, 2, bidirectional=True), (5, 2, 3), 2 * 5 * 2 * 16 * (7 + 12)),
        (nn.GRU(3, 4), (5, 1, 3), 5 * 12 * 7),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, nn.Module) else "",
)
def test_layers_by_hand(layer, shape, macs):
    assert count_layers(layer, shape).macs == macs


class Attention(nn.Module):
    """Two heads of 4 channels, query, key and value from one layer."""

    def __init__(self):
        super().__init__()
        self.qkv = nn.Linear(8, 24)

    def forward(self, x):
        q, k, v = self.qkv(x).unflatten(-1, (3, 2, 4)).permute(2, 0, 3, 1, 4)
        return F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)


def test_attention_by_hand():
    layers = by_name(count_layers(Attention(), (1, 10, 8)))
    assert layers["qkv"].macs == 10 * 8 * 24
    # Two heads: 10 x 10 products of 4 channels, then 10 outputs of 4 sums over 10 values.
    assert layers[""].macs == 2 * (10 * 10 * 4 + 10 * 4 * 10)
    assert layers[""].kind == "Attention"


class ByHand(nn.Module):
    """Two heads of 4 channels; how the products are written is a word."""

    def __init__(self, way):
        super().__init__()
        self.way = way

    def forward(self, x):
        q = x.unflatten(-1, (2, 4)).transpose(1, 2)  # (N, 2, L, 4)
        if self.way == "matmul":
            return (q @ q.transpose(-1, -2)).softmax(-1) @ q
        if self.way == "einsum":
            pairs = torch.einsum("nhld,nhmd->nhlm", q, q).softmax(-1)
            return torch.einsum("nhlm,nhmd->nhld", pairs, q)
        mask = x.new_zeros(x.shape[1], x.shape[1]) if self.way == "masked" else None
        return F.scaled_dot_product_attention(
            q, q, q, attn_mask=mask, is_causal=self.way == "causal"
        )


@pytest.mark.parametrize("way", ["fused", "masked", "causal", "matmul", "einsum"])
def test_attention_costs_the_same_however_it_is_written(way):
    cost = count_layers(ByHand(way), (1, 10, 8))
    assert cost.macs == 2 * (10 * 10 * 4 + 10 * 4 * 10)
    # What is written out holds the table of all pairs of each head twice, before and after softmax.
    table = 2 * 4 * 2 * 10 * 10
    assert (cost.activations["float32"].sum_bytes > table) == (way in ("matmul", "einsum"))


class SelfAttention(nn.MultiheadAttention):
    """Of one input."""

    def forward(self, x):
        return super().forward(x, x, x, need_weights=False)[0]


@pytest.mark.parametrize(
    ("model", "linear"),
    [
        (SelfAttention(8, 2, batch_first=True), 8 * 24 + 8 * 8),
        (nn.TransformerEncoderLayer(8, 2, 16, batch_first=True), 8 * 24 + 8 * 8 + 2 * 8 * 16),
    ],
    ids=["attention", "encoder"],
)
def test_torchs_own_attention_is_counted(model, linear):
    # In eval mode it is one kernel that torch's counter does not know.
    fast = torch.backends.mha.get_fastpath_enabled()
    try:
        for given in (False, True):
            torch.backends.mha.set_fastpath_enabled(given)
            macs = count_layers(model, (1, 10, 8)).macs
            assert macs == 10 * linear + 2 * (10 * 10 * 4 + 10 * 4 * 10)
            assert torch.backends.mha.get_fastpath_enabled() == given
    finally:
        torch.backends.mha.set_fastpath_enabled(fast)


def test_a_layer_that_runs_twice_counts_twice():
    shared = nn.Linear(4, 4)
    cost = count_layers(nn.Sequential(shared, nn.ReLU(), shared), (1, 4))
    layer = by_name(cost)["0"]
    assert (layer.calls, layer.flops, layer.params) == (2, 64, 20)
    assert (cost.flops, cost.params) == (64, 20)


def test_memory_by_hand():
    # 1 x 8 numbers in, then 100 and 4 made; the 100 are freed before nothing else is made.
    cost = count_layers(nn.Sequential(nn.Linear(8, 100), nn.Tanh(), nn.Linear(100, 4)), (1, 8))
    memory = cost.activations["float32"]
    assert memory.sum_bytes == 4 * (100 + 100 + 4)
    assert memory.peak_bytes == 4 * (8 + 100 + 100)
    half = cost.activations["bfloat16"]
    assert (half.sum_bytes, half.peak_bytes) == (memory.sum_bytes // 2, memory.peak_bytes // 2)


def test_memory_is_that_of_eval_mode():
    model = nn.Sequential(nn.Linear(8, 100), nn.BatchNorm1d(100), nn.Dropout(0.5)).train()
    # Two outputs, and none of what training draws and keeps.
    assert count_layers(model, (2, 8)).activations["float32"].sum_bytes == 4 * 2 * (100 + 100)


def test_views_and_work_in_place_make_nothing():
    model = nn.Sequential(nn.Flatten(), nn.ReLU(inplace=True), nn.Unflatten(1, (2, 4)))
    assert count_layers(model, (1, 4, 2)).activations["float32"].sum_bytes == 0


@pytest.mark.parametrize("name", ["test_timesformer_divided", "test_videomae"])
def test_the_peak_is_what_torch_allocates(name, monkeypatch):
    # Forms that only suit this machine's memory step aside for who counts.
    monkeypatch.setattr(eager, "is_counted", lambda: True)
    model = zoo.create(name)
    clip = torch.randn(1, 3, model.num_frames, model.img_size, model.img_size)
    cost = count_layers(model, tuple(clip.shape))
    with torch.no_grad():
        model(clip)
        with torch.profiler.profile(
            activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True
        ) as profile:
            model(clip)
    alive = peak = 0
    events = profile.profiler.kineto_results.events()
    for event in sorted(events, key=lambda event: event.start_ns()):
        if event.name() == "[memory]":
            alive += event.nbytes()
            peak = max(peak, alive)
    # A convolution's scratch space is not seen, and is small beside the blocks here.
    assert cost.activations["float32"].peak_bytes - 4 * clip.numel() == peak


# ---- published figures ----


@pytest.mark.parametrize(
    ("name", "weights"),
    [
        ("r3d_18", torchvision.models.video.R3D_18_Weights.KINETICS400_V1),
        ("mc3_18", torchvision.models.video.MC3_18_Weights.KINETICS400_V1),
        ("r2p1d_18", torchvision.models.video.R2Plus1D_18_Weights.KINETICS400_V1),
        pytest.param(
            "mvit_v1_b",
            torchvision.models.video.MViT_V1_B_Weights.KINETICS400_V1,
            marks=pytest.mark.slow,
        ),
    ],
)
def test_totals_are_torchvisions(name, weights):
    cost = zoo.flops(name)
    # Published as GFLOPs, three digits behind the point; they are multiply-adds.
    assert round(cost.macs / 1e9, 3) == weights.meta["_ops"]
    assert cost.params == weights.meta["num_params"]


@pytest.mark.parametrize(
    "name",
    [
        "framepool_r18",
        "xclip_b32.k400",
        *(
            pytest.param(name, marks=pytest.mark.slow)
            for name in ("x3d_s", "slowfast_r50.ssv2", "movinet_a0_stream.k600")
        ),
    ],
)
def test_totals_are_the_records(name):
    record = registry.info(name)
    record = record.weights[0] if "." in name else record
    cost = zoo.flops(name)
    assert round(cost.macs / 1e9, 3) == record.gflops
    assert cost.params == record.params == sum(layer.params for layer in cost.layers)
    made = sum(layer.activation_bytes for layer in cost.layers)
    assert made == cost.activations["float32"].sum_bytes


def test_a_lifted_name_is_counted():
    flat, deep = zoo.flops("framepool:resnet18"), zoo.flops("i3d:resnet18")
    # torchvision gives ResNet-18 1.814 x 10^9 a picture.
    assert flat.macs / 8 == pytest.approx(1.814e9, rel=1e-3)
    assert 2.9 < deep.macs / flat.macs < 3
    assert deep.name == "i3d:resnet18"


# ---- the model in hand ----


def test_a_model_in_hand_is_left_as_it_is():
    model = zoo.create("test_xclip").train()
    before = {key: (value.clone(), id(value)) for key, value in model.state_dict().items()}
    cost = zoo.flops(model)
    assert model.training
    assert cost.name == model.record.name
    assert cost.macs == zoo.flops("test_xclip").macs
    for key, value in model.state_dict().items():
        torch.testing.assert_close(value, before[key][0], rtol=0, atol=0)
    hooks = [(m._forward_hooks, m._forward_pre_hooks) for m in model.modules()]
    assert not any(forward or pre for forward, pre in hooks)
    assert model.eval()(torch.zeros(1, 3, model.num_frames, model.img_size, model.img_size)).sum()


def test_weights_that_are_shared_stay_shared():
    first, second = nn.Linear(4, 4), nn.Linear(4, 4)
    second.weight = first.weight
    assert count_layers(nn.Sequential(first, second), (1, 4)).params == 16 + 4 + 4


def test_no_weights_are_fetched_and_nothing_is_said():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert zoo.flops("r2p1d_18.k400").clip == (1, 3, 16, 112, 112)
    assert zoo.flops("r2p1d_18", num_frames=8, img_size=224).clip == (1, 3, 8, 224, 224)


def test_layers_fold():
    cost = zoo.flops("test_timesformer_divided")
    folded = cost.folded(1)
    assert [layer.name for layer in folded] == ["", "patch_embed", "blocks", "norm", "head"]
    for total in ("macs", "params", "activation_bytes"):
        assert sum(getattr(layer, total) for layer in folded) == sum(
            getattr(layer, total) for layer in cost.layers
        )
    assert cost.folded(99) == cost.layers
    # A block runs as often as its busiest layer, and is named by what it is where it is one layer.
    assert [layer.calls for layer in folded] == [1] * 5
    assert [layer.kind for layer in folded] == [
        *("TimeSformer", "block", "block", "LayerNorm", "linear")
    ]
    with pytest.raises(ValueError, match=r"depth=0 is given; keep at least 1 part"):
        cost.folded(0)


# ---- families ----


def test_the_families_ratios_are_explained(families):
    flat, deep = families["framepool_r18"], families["i3d_r18"]
    assert deep.macs / flat.macs == pytest.approx(2.979, abs=5e-4)
    # The blocks of a ViT by hand: D = 768, 197 tokens a frame with the class token.
    space, divided = families["timesformer_space"], families["timesformer_divided"]
    block = 12 * 768**2 * 197 + 2 * 197**2 * 768
    patches, head = 196 * 768 * 3 * 256, 768 * 400
    assert space.macs == 8 * (12 * block + patches) + head
    # Divided: 5 D^2 more and products over 8 frames, at 196 places and not for the class token.
    time = 196 * 8 * 5 * 768**2 + 196 * 2 * 8**2 * 768
    assert divided.macs == space.macs + 12 * time
    page = families_page(tuple(families.values()))
    assert "the ratio is 3 - 2 x 0.0106 = 2.979" in page
    assert f"Counted: {divided.macs / space.macs - 1:.1%}" in page
    assert "| `i3d_r18` | every spatial kernel 3 frames deep | 33.4 M | 43.22 | 86.43 | 2.98 |" in (
        page
    )


def test_the_first_stage_of_r2p1d_is_what_the_page_says(families):
    flat, factorised = families["framepool_r18"], families["r2p1d_18"]

    def stage(cost):
        return sum(layer.macs for layer in cost.layers if ".layer1." in f".{layer.name}.")

    page = families_page(tuple(families.values()))
    assert f"takes {stage(factorised) / stage(flat):.1f} times the baseline's" in page
    assert stage(factorised) / stage(flat) == pytest.approx(12, rel=0.01)


# ---- the command ----


def test_the_command_prints_layers_and_totals(run):
    code, out, err = run("test_r2p1d", "--depth", 1)
    assert (code, err) == (0, "")
    rows = [line for line in out.splitlines() if line.startswith("| `")]
    assert [re.match(r"\| `(\w+)`", row)[1] for row in rows] == [
        *("stem", "layer1", "layer2", "fc"),
    ]
    cost = zoo.flops("test_r2p1d")
    assert f"| all | | | {cost.params:,} | {cost.macs:,} | {cost.flops:,} |" in out
    for memory in cost.activations.values():
        assert f"{memory.sum_bytes:,} bytes made in all, at most {memory.peak_bytes:,}" in out


def test_the_command_writes_json(run):
    code, out, _ = run("test_r2p1d", "--num-frames", 4, "--json")
    record = json.loads(out)
    assert code == 0
    assert record["clip"][2] == 4
    assert record["flops"] == 2 * record["macs"] == sum(item["flops"] for item in record["layers"])
    assert set(record["activations"]) == {"float32", "bfloat16"}
    folded = json.loads(run("test_r2p1d", "--num-frames", 4, "--json", "--depth", 1)[1])
    assert len(folded["layers"]) < len(record["layers"])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "Give a model's name, or --families"),
        (("r2p1d_18", "--families"), "Give a model's name, or --families"),
        (("--families", "--depth", 1), "--depth folds the layers of one model"),
        (("r2p1d_81",), "Unknown model 'r2p1d_81'. Did you mean 'r2p1d_18'?"),
        (("test_vivit", "--num-frames", 3), "no multiple of the tubelet"),
        (("quick:resnet18",), "Unknown scheme 'quick:'"),
    ],
)
def test_mistakes_are_one_sentence(run, arguments, message):
    code, out, err = run(*arguments)
    assert (code, out) == (1, "")
    assert err.count("\n") == 1
    assert message in err
