"""The experiments: their arithmetic against hand and published figures, and a run in small."""

import dataclasses
import json
import math
import re
from pathlib import Path

import pytest
import torch
import torchvision
from PIL import Image
from safetensors.torch import save_file
from torch import nn

import registry
import zoo
from zoo.benchmarking.machine import Machine
from zoo.benchmarking.timing import Spread
from zoo.datasets import MovingBalls
from zoo.experiments import (
    Budget,
    Plan,
    costs_as_json,
    costs_page,
    describe_machine,
    measure_costs,
    motion_as_json,
    motion_page,
    write_motion,
)
from zoo.experiments.curves import COLOURS, Curve, draw_curves
from zoo.experiments.fitting import (
    ClipAndVideo,
    Epoch,
    Videos,
    draw_videos,
    fit,
    measure,
    measure_pairs,
)
from zoo.experiments.flops import Cost, flops_by_hand
from zoo.experiments.motion import Outcome, Run, lesson_contestants

MACHINE = Machine(processor="an abacus", cores=2, threads=1, versions={"torch": "9.9"})
RECIPE = registry.info("framepool_r18").preprocess
BUDGET = Budget(epochs=2, num_frames=4, num_clips=3, learning_rates=(1e-3,))


# ---- operations ----


def cost(name, factor):
    spread = Spread(0.5 * factor, 1.0 * factor, 2.0 * factor)
    counted = zoo.flops(name, num_frames=8, img_size=224)
    return Cost(counted=counted, seconds=spread, times_baseline=spread)


def test_a_convolution_by_hand():
    assert flops_by_hand((1, 64, 8, 112, 112), in_chans=3, kernel=(3, 7, 7)) == 5_664_669_696


def test_the_page_shows_ratios_and_the_hand_count():
    costs = [cost("framepool_r18", 1), cost("i3d_r18", 2)]
    page = costs_page(costs, MACHINE, rounds=5)
    assert "an abacus, 2 cores, 1 threads; torch 9.9" in page
    assert "zoo experiment flops" in page
    row = next(line for line in page.splitlines() if line.startswith("| `i3d_r18` | 33.4 M"))
    assert "| 43.22 | 86.43 | 2.98 | 2.000 (1.000 to 4.000) | 2.00 (1.00 to 4.00) |" in row
    assert "| 3x3, in the blocks | 13.4102 | 92.43% | 40.2307 | 3.00 |" in page
    share = 1 - (13.41017088 + 0.944111616) / 14.508695552
    assert f"{3 - 2 * share:.3f}" == "2.979"
    assert "and the ratio is 3 - 2 x 0.0106 = 2.979" in page
    assert "5,664,669,696 | 5,664,669,696 | yes |" in page
    assert "NO" not in page.split("by hand")[-1]
    record = json.loads(json.dumps(costs_as_json(costs, MACHINE, rounds=5)))
    assert record["models"][1]["macs"] == record["models"][1]["flops"] // 2
    assert record["by_hand"]["i3d_r18"]["counted"] == 5_664_669_696


def test_every_round_times_every_model():
    names = ("test_framepool", "test_i3d")
    costs = measure_costs(names, rounds=3, num_frames=4, img_size=32)
    assert [item.counted.name for item in costs] == list(names)
    for item in costs:
        assert 0 < item.seconds.smallest <= item.seconds.median <= item.seconds.largest
        module = zoo.create(item.counted.name)
        assert item.counted.params == sum(value.numel() for value in module.parameters())
    assert costs[0].times_baseline == Spread(1.0, 1.0, 1.0)
    with pytest.raises(ValueError, match="rounds=0 is given; give at least 1"):
        measure_costs(names, rounds=0)


def test_a_spread_is_the_smallest_middle_and_largest():
    assert Spread.of([5.0, 1.0, 2.0]) == Spread(1.0, 2.0, 5.0)


# ---- training and measuring ----


class Sees(nn.Module):
    """Answers by a rule over clips (N, C, T, H, W)."""

    def __init__(self, rule):
        super().__init__()
        self.rule = rule

    def forward(self, x):
        return self.rule(x)


def brightness_moves(x):
    """Logits for left-to-right and right-to-left by where the light goes."""
    light = x.mean(dim=1)  # (N, T, H, W)
    columns = (light - light.amin(dim=(1, 2, 3), keepdim=True)).sum(dim=2)  # (N, T, W)
    centre = columns @ torch.arange(columns.shape[2]).float() / columns.sum(dim=2)  # (N, T)
    step = centre[:, -1] - centre[:, 0]
    return torch.stack([step, -step], dim=1)


def frame_numbers(*numbers):
    """Videos whose frame i is as bright as the i-th of `numbers`, uint8 (V, F, 2, 2, 3)."""
    levels = torch.tensor(numbers, dtype=torch.uint8)
    return levels[:, :, None, None, None].expand(-1, -1, 2, 2, 3).contiguous()


def test_clips_and_videos_are_measured_apart():
    """Clips of one frame: one of three is wrong, and surer of itself than the two together."""
    budget = dataclasses.replace(BUDGET, num_frames=1, frame_stride=1, num_clips=3)
    recipe = dataclasses.replace(RECIPE, mean=(0.0,) * 3, std=(1.0,) * 3)
    model = Sees(lambda x: torch.stack([x.mean(dim=(1, 2, 3, 4)) * 255 - 100] * 2, 1) * ONE_SIDE)
    # Brightness above 100 votes for class 0. Frames 0, 2 and 4 are the clips.
    videos = Videos(
        frame_numbers((102, 0, 102, 0, 98), (102, 0, 98, 0, 98), (101, 0, 101, 0, 90)),
        torch.zeros(3, dtype=torch.long),
        1,
    )
    found = measure(model, videos, recipe=recipe, budget=budget)
    assert found.clip == pytest.approx((2 + 1 + 2) / 9)
    # Mean probability of class 0: votes of the third video are 0.88, 0.88 and 0.
    assert found.video == pytest.approx(2 / 3)
    one = dataclasses.replace(videos, labels=torch.ones(3, dtype=torch.long))
    assert measure(model, one, recipe=recipe, budget=budget).clip == pytest.approx(4 / 9)


ONE_SIDE = torch.tensor([1.0, -1.0])


def test_pairs_are_measured_on_clips_and_on_videos():
    balls = MovingBalls(
        8, seed=0, directions=("left-to-right", "right-to-left"), num_frames=12, size=32
    )
    options = {"recipe": RECIPE, "budget": BUDGET}
    assert measure_pairs(Sees(brightness_moves), balls, **options) == ClipAndVideo(1.0, 1.0)
    backwards = Sees(lambda x: -brightness_moves(x))
    assert measure_pairs(backwards, balls, **options) == ClipAndVideo(0.0, 0.0)
    blind = Sees(lambda x: x.mean(dim=(3, 4)).sum(dim=2)[:, :2].cos())
    assert measure_pairs(blind, balls, **options) == ClipAndVideo(0.5, 0.5)
    # A third class is no answer to this question, however sure a network is of it.
    third = Sees(lambda x: torch.cat([brightness_moves(x), torch.full((len(x), 1), 99.0)], dim=1))
    assert measure_pairs(third, balls, **options) == ClipAndVideo(1.0, 1.0)


def test_an_order_blind_model_cannot_pass_the_ceiling():
    """On whole groups, clips of the two opposite directions show it the same frames."""
    videos = draw_videos(MovingBalls(30, seed=0, num_frames=12, size=32))
    torch.manual_seed(0)
    weights = torch.randn(3 * 32 * 32, 3)
    blind = Sees(lambda x: x.transpose(1, 2).flatten(2).matmul(weights).tanh().double().sum(dim=1))
    found = measure(blind, videos, recipe=RECIPE, budget=BUDGET)
    assert found.clip <= 2 / 3 + 1e-9
    assert found.video <= 2 / 3 + 1e-9


def test_training_shows_each_video_once_an_epoch_in_whole_groups():
    numbers = torch.arange(18).repeat_interleave(10).reshape(18, 10)
    videos = Videos(frame_numbers(*(10 * numbers).tolist()), torch.arange(18) % 3, 3)
    seen = []

    class Records(nn.Linear):
        def forward(self, x):
            if self.training:
                level = x[:, 0, :, 0, 0] * RECIPE.std[0] + RECIPE.mean[0]  # (N, T)
                assert torch.allclose(level, level[:, :1])
                seen.append([round(float(value) * 25.5) for value in level[:, 0]])
            return super().forward(x.mean(dim=(3, 4))[:, :, 0])

    budget = dataclasses.replace(BUDGET, groups=2)
    epochs = list(
        fit(
            Records(3, 3),
            videos,
            videos,
            recipe=RECIPE,
            budget=budget,
            learning_rate=1e-3,
            seed=0,
        )
    )
    assert len(epochs) == 2
    assert [len(batch) for batch in seen] == [6] * 6
    for epoch in (seen[:3], seen[3:]):
        assert sorted(number for batch in epoch for number in batch) == list(range(18))
    assert seen[:3] != seen[3:]
    for batch in seen:
        assert [number % 3 for number in batch] == [0, 1, 2] * 2
        assert batch[0] // 3 == batch[2] // 3


def tiny_fit(name, seed=0, learning_rate=3e-3, **changes):
    torch.manual_seed(0)
    model = zoo.create(name, num_classes=2, num_frames=4)
    opposites = ("left-to-right", "right-to-left")
    videos = draw_videos(MovingBalls(24, seed=0, directions=opposites, num_frames=10, size=32))
    budget = dataclasses.replace(BUDGET, num_clips=2, **changes)
    return model, list(
        fit(
            model,
            videos,
            videos,
            recipe=RECIPE,
            budget=budget,
            learning_rate=learning_rate,
            seed=seed,
        )
    )


def test_training_teaches_the_direction():
    _, epochs = tiny_fit("test_r2p1d", epochs=12)
    assert epochs[-1].loss < 0.7 * epochs[0].loss
    assert epochs[-1].validation.video > 0.9


def test_training_repeats_itself():
    model, epochs = tiny_fit("test_r2p1d")
    again, same = tiny_fit("test_r2p1d")
    assert epochs == same
    for value, other in zip(model.parameters(), again.parameters(), strict=True):
        assert torch.equal(value, other)
    _, others = tiny_fit("test_r2p1d", seed=1, epochs=1)
    assert others[0].loss != epochs[0].loss


def test_a_loss_that_is_no_number_ends_in_a_sentence():
    with pytest.raises(ValueError, match="epoch 1 is not a number at a learning rate of 1e\\+30"):
        tiny_fit("test_timesformer_divided", learning_rate=1e30)


# ---- the networks ----


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_networks_start_from_the_given_image_weights(tmp_path, suffix):
    torch.manual_seed(3)
    state = torchvision.models.resnet18(num_classes=5).state_dict()
    path = tmp_path / f"mine{suffix}"
    if suffix == ".pth":
        torch.save(state, path)
    else:
        save_file(state, path)
    plan = Plan(budget=Budget(epochs=1), weights=path)
    pooled, factored, transformer = (item.build() for item in lesson_contestants(plan, path, "it"))
    assert torch.equal(pooled.backbone.layer4[1].conv2.weight, state["layer4.1.conv2.weight"])
    assert factored.stem.conv.weight.shape == (64, 3, 3, 7, 7)
    # Mean inflation: what a still clip gets is the picture's kernel.
    flat = factored.stem.conv.weight.sum(dim=2)
    assert torch.allclose(flat, state["conv1.weight"], atol=1e-6)
    shortcut = factored.layer2[0].downsample[0].weight[:, :, 0]
    assert torch.equal(shortcut, state["layer2.0.downsample.0.weight"])
    assert (transformer.pattern, len(transformer.blocks)) == ("divided", 4)
    clip = torch.zeros(1, 3, 8, 32, 32)
    for model in (pooled, factored, transformer):
        assert model(clip).shape == (1, 3)
        assert not model.training


def test_the_sets_of_videos_share_no_seed():
    plans = [Plan(budget=BUDGET, seed=seed) for seed in range(5)]
    seeds = [seed for plan in plans for seed in plan.seeds.values()]
    assert len(set(seeds)) == 20
    assert plans[0].balls("pairs").directions == ("left-to-right", "right-to-left")
    assert plans[0].balls("test").directions[:2] == ("left-to-right", "right-to-left")
    assert len(plans[0].balls("train")) == 600


# ---- pages and pictures ----


def outcome(name, *, best=1):
    runs = tuple(
        Run(rate, tuple(Epoch(1 / n, ClipAndVideo(rate * n, rate * n)) for n in (1, 2)))
        for rate in (0.1, 0.2)
    )
    return Outcome(
        name=name,
        start="random",
        parameters=2_500_000,
        runs=runs,
        best=best,
        test=ClipAndVideo(0.625, 0.65),
        pairs=ClipAndVideo(0.5, 0.525),
        seconds=90.0,
        processor_seconds=120.0,
    )


def test_the_page_shows_chance_ceiling_and_measured_side_by_side(tmp_path):
    plan = Plan(budget=dataclasses.replace(BUDGET, learning_rates=(0.1, 0.2)), seed=2)
    outcomes = [outcome("one"), outcome("two")]
    page = motion_page(plan, outcomes, MACHINE)
    lines = page.splitlines()
    assert "| chance | 33.3 | 33.3 | 50.0 | 50.0 |" in lines
    assert "| ceiling without order | 66.7 | 66.7 | 50.0 | 50.0 |" in lines
    assert "| two | 62.5 | 65.0 | 50.0 | 52.5 |" in lines
    assert "| one | random | 2.5 M | 20.0 | **40.0** | 1.5 | 2.0 |" in lines
    assert "`zoo experiment motion --out benchmarks/experiments --seed 2 --epochs 2`" in page
    assert "3 minutes on the clock and 4 of processor time." in page
    assert "train 8, validation 9, test 10, pairs 11" in page
    write_motion(tmp_path / "new" / "folder", plan, outcomes, MACHINE)
    files = tmp_path / "new" / "folder"
    assert (files / "motion.md").read_text() == page
    record = json.loads((files / "motion.json").read_text())
    assert record == json.loads(json.dumps(motion_as_json(plan, outcomes, MACHINE)))
    assert record["plan"]["seeds"]["test"] == 10
    assert record["outcomes"][1]["runs"][1]["epochs"][1]["validation"]["clip"] == 0.4
    with Image.open(files / "motion.png") as picture:
        assert picture.size == (1000, 560)


def test_the_command_on_the_page_names_the_weights(tmp_path):
    plan = Plan(budget=BUDGET, weights=tmp_path / "mine.pth")
    page = motion_page(plan, [outcome("one")], MACHINE)
    assert "--epochs 2 --weights mine.pth`" in page
    assert str(tmp_path) not in page
    assert motion_as_json(plan, [outcome("one")], MACHINE)["plan"]["weights"] == "mine.pth"


def test_a_run_is_chosen_by_its_last_epoch():
    def run(*pairs):
        return Run(0.1, tuple(Epoch(loss, ClipAndVideo(clip, 0.0)) for loss, clip in pairs))

    better = run((0.1, 0.9), (1.0, 0.6))
    worse = run((0.1, 0.99), (0.1, 0.5))
    lucky = run((0.1, 0.1), (0.9, 0.6))
    assert max([worse, better], key=lambda item: item.score) is better
    assert max([better, lucky], key=lambda item: item.score) is lucky  # its loss is smaller


def test_curves_pass_where_the_values_are(tmp_path):
    path = tmp_path / "curves.png"
    curves = [Curve("low", (0.0, 0.0, 0.0)), Curve("high", (1.0, 1.0, 1.0))]
    draw_curves(curves, {"half": 0.5}, path, title="curves")
    with Image.open(path) as file:
        picture = file.convert("RGB")
    points = {(76, 500): COLOURS[0], (373, 500): COLOURS[0], (373, 60): COLOURS[1]}
    for place, colour in points.items():
        assert math.dist(picture.getpixel(place), colour) < 30
    row = [picture.getpixel((x, 280)) for x in range(76, 670)]
    dark = sum(max(pixel) < 160 for pixel in row)
    assert 0.3 * len(row) < dark < 0.8 * len(row)  # dashes
    for count in (0, 5):
        with pytest.raises(ValueError, match=f"{count} curves are given; draw 1 to 4"):
            draw_curves([curves[0]] * count, {}, path, title="none")


def test_the_machine_is_described():
    machine = describe_machine()
    assert machine.versions["torch"] == torch.__version__.partition("+")[0]
    assert machine.cores >= 1
    assert machine.threads == torch.get_num_threads()
    assert machine.processor


RESULTS = Path(__file__).parents[2] / "benchmarks" / "experiments"


def test_the_committed_results_show_the_lesson():
    record = json.loads((RESULTS / "motion.json").read_text())
    page = (RESULTS / "motion.md").read_text()
    assert f"`{record['command']}`" in page
    found = {item["name"]: item for item in record["outcomes"]}
    pooled, factored = found["framepool_r18"], found['r2p1d_18(stem="inflated")']
    for level in ("clip", "video"):
        assert 0.60 < pooled["test"][level] <= 2 / 3  # its ceiling: trained enough
        assert pooled["pairs"][level] == 0.5
        assert min(factored["test"][level], factored["pairs"][level]) > 0.95
    for item in found.values():
        parts = [100 * item[part][level] for part in ("test", "pairs") for level in item[part]]
        assert f"| {item['name']} | {' | '.join(f'{part:.1f}' for part in parts)} |" in page
        assert len(item["runs"]) == len(record["plan"]["budget"]["learning_rates"])
        assert {len(run["epochs"]) for run in item["runs"]} == {record["plan"]["budget"]["epochs"]}


@pytest.mark.parametrize("name", ["framepool_r18", "i3d_r18", "r2p1d_18", "timesformer_divided"])
def test_the_committed_costs_are_what_is_counted(name):
    record = json.loads((RESULTS / "flops.json").read_text())
    (found,) = (item for item in record["models"] if item["name"] == name)
    counted = zoo.flops(name, num_frames=8, img_size=224)
    assert (found["flops"], found["parameters"]) == (counted.flops, counted.params)
    assert found["layers"] == [
        {"name": layer.name, "kind": layer.kind, "flops": layer.flops}
        for layer in counted.layers
        if layer.macs
    ]


# ---- the commands ----


def test_what_cannot_be_written_is_said_before_the_work(run_zoo, tmp_path):
    (tmp_path / "file").write_text("")
    for command in ("motion", "flops"):
        code, out, err = run_zoo("experiment", command, "--out", tmp_path / "file" / "x")
        assert (code, out) == (1, "")
        assert re.search("Cannot write into '.*x'; name a folder that you may write to", err)
    code, _, err = run_zoo(
        "experiment", "motion", "--out", tmp_path, "--weights", tmp_path / "none"
    )
    assert code == 1
    assert "none' is no file; give the weights of a 2D ResNet-18." in err
    assert run_zoo("experiment", "motion", "--epochs", "0")[0] == 2


def test_a_file_that_holds_no_resnet_is_refused_before_training(run_zoo, tmp_path):
    save_file({"a.weight": torch.zeros(2)}, tmp_path / "other.safetensors")
    code, out, err = run_zoo(
        "experiment", "motion", "--out", tmp_path, "--weights", tmp_path / "other.safetensors"
    )
    assert (code, out) == (1, "")
    assert "other.safetensors" in err
    assert "epoch 1" not in err


@pytest.mark.slow
def test_the_experiment_in_small(tmp_path, monkeypatch):
    """Every part of the real one, with too little training to learn anything."""
    from zoo.experiments.motion import run_motion

    plan = Plan(
        budget=Budget(epochs=1, learning_rates=(1e-3, 3e-3)),
        num_train=24,
        num_validation=6,
        num_test=6,
        num_pairs=4,
    )
    told = []
    outcomes = run_motion(plan, tell=told.append)
    names = [item.name for item in outcomes]
    assert names[0] == "2D ResNet-18 on single frames"
    assert names[1:3] == ["framepool_r18", 'r2p1d_18(stem="inflated")']
    assert len(told) == 4 * 2
    for item in outcomes[:2]:
        assert (item.pairs.clip, item.pairs.video) == (0.5, 0.5)
        assert max(item.test.clip, item.test.video) <= 2 / 3
    assert all(len(item.runs) == 2 and item.processor_seconds > 0 for item in outcomes)
    write_motion(tmp_path, plan, outcomes, MACHINE)
    assert {path.name for path in tmp_path.iterdir()} == {"motion.md", "motion.json", "motion.png"}


@pytest.mark.slow
def test_the_command_writes_the_costs(run_zoo, tmp_path):
    code, out, err = run_zoo("experiment", "flops", "--rounds", 1, "--out", tmp_path, "--json")
    assert code == 0
    record = json.loads(out)
    assert record == json.loads((tmp_path / "flops.json").read_text())
    assert [item["name"] for item in record["models"]][:2] == ["framepool_r18", "i3d_r18"]
    assert "2.979" in (tmp_path / "flops.md").read_text()
    assert "holds flops.md and flops.json" in err
