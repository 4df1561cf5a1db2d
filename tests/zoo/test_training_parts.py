"""What a run is made of: plan of the data, rates, frozen parts, averages, log, state file."""

import json
import math
import random

import numpy as np
import pytest
import torch
from training_runs import differences

import zoo
from zoo.training import PretrainRecipe, TrainRecipe
from zoo.training.batches import plan_epoch
from zoo.training.ema import MovingAverage
from zoo.training.logs import RunLog, read_log
from zoo.training.optimisers import freeze, make_optimizer, set_learning_rate, train_mode
from zoo.training.recipe import differences as recipe_differences
from zoo.training.resuming import get_rng, read_state, seed_rng, set_rng, write_state

CPU = torch.device("cpu")


def sets_of(plan):
    return [sorted(i for batch in step for rank in batch for i in rank) for step in plan]


@pytest.mark.parametrize("count", [1, 2, 5, 9, 16, 23])
@pytest.mark.parametrize(
    ("batch_size", "accumulate", "processes"), [(4, 1, 1), (1, 2, 2), (2, 1, 2), (1, 1, 4)]
)
def test_an_epoch_deals_every_clip_out_once_in_steps_of_one_size(
    count, batch_size, accumulate, processes
):
    sizes = {"batch_size": batch_size, "accumulate": accumulate, "processes": processes}
    plan = plan_epoch(count, seed=3, epoch=1, **sizes)
    assert sorted(i for step in sets_of(plan) for i in step) == list(range(count))
    assert all(len(rank) <= batch_size for step in plan for batch in step for rank in batch)
    assert {len(batch) for step in plan for batch in step} == {processes}
    assert max(map(len, plan)) <= accumulate
    lengths = [len(step) for step in sets_of(plan)]
    assert max(lengths) - min(lengths) <= 1
    assert len(plan) == math.ceil(count / 4)
    # The step's clips are the same however it is split.
    whole = plan_epoch(count, seed=3, epoch=1, batch_size=4, accumulate=1, processes=1)
    assert sets_of(plan) == sets_of(whole)


def test_no_batch_of_one_clip_is_left_over():
    for count in range(4, 60):
        plan = plan_epoch(count, seed=0, epoch=0, batch_size=4, accumulate=1, processes=1)
        assert min(len(step) for step in sets_of(plan)) >= 2


def test_each_epoch_and_seed_has_an_order_of_its_own():
    common = {"batch_size": 5, "accumulate": 1, "processes": 1}
    one, two, three = (
        plan_epoch(30, seed=seed, epoch=epoch, **common) for seed, epoch in ((0, 0), (0, 1), (1, 0))
    )
    assert one == plan_epoch(30, seed=0, epoch=0, **common)
    assert len({json.dumps(plan) for plan in (one, two, three)}) == 3


def rates(recipe, steps_per_epoch):
    parameter = torch.nn.Parameter(torch.zeros(1))
    optimizer = torch.optim.SGD(
        [{"params": [parameter]}, {"params": [torch.nn.Parameter(torch.zeros(1))], "lr_scale": 0.5}]
    )
    found = []
    for step in range(recipe.epochs * steps_per_epoch):
        lr = set_learning_rate(optimizer, recipe, step, steps_per_epoch=steps_per_epoch)
        assert [group["lr"] for group in optimizer.param_groups] == [lr, 0.5 * lr]
        found.append(lr)
    return found


def test_the_rate_rises_and_falls_as_torchs_schedules_do():
    recipe = TrainRecipe(epochs=4, lr=0.8, min_lr=0.2, warmup_epochs=0.5)
    found = rates(recipe, 10)
    assert found[:5] == pytest.approx([0.2 + 0.6 * k / 5 for k in (1, 2, 3, 4, 5)])
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.8)
    cosine = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 35, eta_min=0.2)
    expected = []
    for _ in range(35):
        expected += cosine.get_last_lr()
        optimizer.step()
        cosine.step()
    assert found[5:] == pytest.approx(expected)


def test_pretraining_rises_for_videomaes_part_of_the_run_however_short():
    usual = PretrainRecipe().to_json()
    assert usual["warmup_epochs"] == 40  # of 800, as VideoMAE was pre-trained
    assert recipe_differences(PretrainRecipe(warmup_epochs=40.0).to_json(), usual) == []
    found = rates(PretrainRecipe(epochs=2, lr=0.5), 20)
    assert found[:3] == pytest.approx([0.25, 0.5, 0.5])
    assert found[3] < 0.5


def test_without_warmup_the_first_rate_is_the_highest():
    assert rates(TrainRecipe(epochs=2, lr=0.3, warmup_epochs=0), 3)[0] == pytest.approx(0.3)


def test_layer_decay_lowers_rates_towards_the_input():
    model = zoo.create("test_videomae")
    optimizer = make_optimizer(model, TrainRecipe(layer_decay=0.5, weight_decay=0.3))
    scale = {
        id(parameter): (group["lr_scale"], group["weight_decay"])
        for group in optimizer.param_groups
        for parameter in group["params"]
    }
    found = {name: scale[id(parameter)] for name, parameter in model.named_parameters()}
    # Stem, two blocks, the norm behind them, the head.
    assert found["head.weight"] == (1.0, 0.3)
    assert found["head.bias"] == (1.0, 0.0)
    assert found["blocks.1.mlp.fc1.weight"] == (0.25, 0.3)
    assert found["blocks.0.mlp.fc1.weight"] == (0.125, 0.3)
    assert found["patch_embed.proj.weight"] == (0.0625, 0.3)
    assert len(found) == len(list(model.parameters()))


def test_the_optimisers_are_the_ones_asked_for():
    model = zoo.create("test_videomae_pretrain")
    adamw = make_optimizer(model, PretrainRecipe())
    assert isinstance(adamw, torch.optim.AdamW)
    assert {group["betas"] for group in adamw.param_groups} == {(0.9, 0.95)}
    spared = {
        id(p) for group in adamw.param_groups if not group["weight_decay"] for p in group["params"]
    }
    assert id(model.mask_token) in spared  # the model excepts it
    sgd = make_optimizer(model, TrainRecipe(optimizer="sgd", momentum=0.8))
    assert isinstance(sgd, torch.optim.SGD)
    assert {(group["momentum"], group["nesterov"]) for group in sgd.param_groups} == {(0.8, True)}


def test_freezing_takes_whole_parts_and_their_statistics():
    model = zoo.create("test_r2p1d")
    freeze(model, ["stem", "layer1.0"])
    frozen = {name for name, p in model.named_parameters() if not p.requires_grad}
    assert frozen == {
        n for n, _ in model.named_parameters() if n.startswith(("stem.", "layer1.0."))
    }
    train_mode(model)
    quiet = {
        name
        for name, module in model.named_modules()
        if isinstance(module, torch.nn.BatchNorm3d) and not module.training
    }
    assert quiet == {
        name
        for name, module in model.named_modules()
        if isinstance(module, torch.nn.BatchNorm3d) and name.startswith(("stem.", "layer1.0."))
    }
    assert quiet
    assert model.layer2.training


def test_parameters_that_only_pretraining_uses_are_frozen():
    model = zoo.create("test_videomae_pretrain")
    freeze(model, [])
    frozen = {name for name, p in model.named_parameters() if not p.requires_grad}
    assert frozen
    assert frozen == {
        n for n, _ in model.named_parameters() if n.startswith(("encoder_to_", "mask_", "decoder."))
    }


@pytest.mark.parametrize(
    ("prefixes", "sentence"),
    [
        (["layer"], "No parameter's name begins with 'layer', which is to be frozen; they begin"),
        (["layer1."], None),
        (["stem", "layer1", "layer2", "fc"], "nothing to train"),
    ],
)
def test_what_cannot_be_frozen_is_refused(prefixes, sentence):
    model = zoo.create("test_r2p1d")
    if sentence is None:
        freeze(model, prefixes)
    else:
        with pytest.raises(ValueError, match=sentence):
            freeze(model, prefixes)


def test_the_average_follows_its_formula():
    model = torch.nn.BatchNorm1d(2)
    average = MovingAverage(model, 0.6)
    expected, rng = (
        {k: v.double().numpy().copy() for k, v in model.state_dict().items()},
        np.random.default_rng(0),
    )
    for step in range(1, 12):
        with torch.no_grad():
            model.weight.copy_(torch.from_numpy(rng.normal(size=2)))
            model.running_mean.copy_(torch.from_numpy(rng.normal(size=2)))
        model.num_batches_tracked += 1
        average.update(step)
        decay = min(0.6, (1 + step) / (10 + step))
        for key in ("weight", "running_mean"):
            now = model.state_dict()[key].double().numpy()
            expected[key] = decay * expected[key] + (1 - decay) * now
    for key in ("weight", "running_mean"):
        np.testing.assert_allclose(average.state[key].numpy(), expected[key], rtol=1e-5)
    assert int(average.state["num_batches_tracked"]) == 11
    own = model.weight.detach().clone()
    with average.applied():
        assert torch.equal(model.weight, average.state["weight"])
        assert not torch.equal(model.weight, own)
    assert torch.equal(model.weight, own)


def draw():
    return [random.random(), float(np.random.rand()), float(torch.rand(()))]


def test_the_state_file_gives_back_tensors_numbers_and_chance(tmp_path):
    seed_rng(2**63 - 5)
    random.gauss(0, 1)  # keeps a second number for later
    np.random.standard_normal()
    draw()
    path = tmp_path / "last" / "state.pt"
    state = {"rng": [get_rng(CPU)], "model": {"w": torch.arange(3.0)}, "position": {"step": 3}}
    write_state(state, path)
    expected = [*draw(), random.gauss(0, 1), np.random.standard_normal()]
    again = read_state(path)
    assert differences({**again, "rng": 0}, {**state, "rng": 0}) == []
    seed_rng(0)
    set_rng(again["rng"][0], CPU)
    assert [*draw(), random.gauss(0, 1), np.random.standard_normal()] == expected
    assert [item.name for item in path.parent.iterdir()] == ["state.pt"]


@pytest.mark.parametrize("damage", ["cut", "empty", "text"])
def test_a_damaged_state_file_is_refused(tmp_path, damage):
    path = tmp_path / "state.pt"
    write_state({"a": torch.zeros(1000)}, path)
    whole = path.read_bytes()
    path.write_bytes({"cut": whole[: len(whole) // 2], "empty": b"", "text": b"hello"}[damage])
    with pytest.raises(ValueError, match=r"state.pt' is damaged and cannot be resumed from"):
        read_state(path)


def test_a_resumed_log_forgets_what_came_after_the_checkpoint(tmp_path):
    with RunLog(tmp_path, step=0, tensorboard=False, progress=False) as log:
        for step in (1, 2, 3):
            log.write("step", step=step, epoch=1, loss=0.5 * step)
    with (tmp_path / "log.jsonl").open("a") as file:
        file.write('{"event": "step", "st')  # killed while writing
    with RunLog(tmp_path, step=2, tensorboard=False, progress=False) as log:
        log.write("step", step=3, epoch=1, loss=7.0, name="Tür")
    lines = read_log(tmp_path / "log.jsonl")
    assert [(line["step"], line["loss"]) for line in lines] == [(1, 0.5), (2, 1.0), (3, 7.0)]
    assert lines[-1]["name"] == "Tür"
    assert (tmp_path / "log.jsonl").read_text().count("\n") == 3


@pytest.mark.parametrize(
    ("choice", "sentence"),
    [
        ({"epochs": 0}, "epochs must be a whole number of 1 or more, not 0"),
        ({"batch_size": 2.0}, "batch_size must be a whole number of 1 or more, not 2.0"),
        ({"workers": True}, "workers must be a whole number"),
        ({"lr": 0.0}, "lr must be above 0, not 0.0"),
        ({"lr": math.nan}, "lr must be above 0, not nan"),
        ({"lr": "0.1"}, "lr must be above 0, not '0.1'"),
        ({"min_lr": 1.0}, "min_lr must be 0 or more and at most 0.0001, not 1.0"),
        ({"weight_decay": -1}, "weight_decay must be 0 or more, not -1"),
        ({"warmup_epochs": 11}, "warmup_epochs must be 0 or more and at most 10, not 11"),
        ({"layer_decay": 0.0}, "layer_decay must be above 0 and at most 1, not 0.0"),
        ({"clip_grad": math.inf}, "clip_grad must be above 0, not inf"),
        ({"ema": 1.5}, "ema must be above 0 and at most 1, not 1.5"),
        ({"optimizer": "adam"}, "optimizer must be 'adamw' or 'sgd', not 'adam'"),
        ({"on_error": "stop"}, "on_error must be 'skip' or 'raise', not 'stop'"),
        ({"label_smoothing": 2}, "label_smoothing must be 0 or more and at most 1, not 2"),
        ({"val_crops": 2}, "val_crops must be 1 or 3, not 2"),
    ],
)
def test_a_recipe_refuses_what_no_run_can_have(choice, sentence):
    with pytest.raises(ValueError, match=sentence):
        TrainRecipe(**choice)


def test_a_recipe_of_pretraining_refuses_its_own():
    with pytest.raises(ValueError, match="mask_ratio must be above 0 and at most 1, not 0"):
        PretrainRecipe(mask_ratio=0)


def test_recipes_differ_by_what_changes_weights():
    then, now = (
        {"recipe": TrainRecipe(lr=lr, workers=w).to_json()} for lr, w in ((0.1, 0), (0.2, 4))
    )
    then = json.loads(json.dumps(then))
    assert recipe_differences(then, now) == ["recipe.lr was 0.1 and is 0.2"]
    assert recipe_differences(then, then) == []
