"""Masked pre-training: the loss falls, a kill does not matter, and the encoder moves on."""

import json
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
from training_runs import assert_same_run, run, write_classes

import zoo
from zoo import cli
from zoo.augmentation import Augmentation
from zoo.clip_dataset import ClipDataset
from zoo.datasets.pans import write_mp4
from zoo.datasets.sources import VideoDataset, VideoItem
from zoo.training import PretrainRecipe, TrainRecipe, autoencoder_for, classifier_for, pretrain
from zoo.training.logs import read_log
from zoo.training.pretraining import Reconstruction
from zoo.training.steps import Stepper

NAME = "test_videomae_pretrain"
SHORT = PretrainRecipe(
    epochs=2,
    batch_size=2,
    lr=1e-3,
    warmup_epochs=0.0,
    mask_ratio=0.75,
    log_steps=1,
    save_steps=1,
    augmentation=Augmentation.none(),
)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    found = write_classes(tmp_path_factory.mktemp("videos"), videos=2)
    return replace(found, labels=(), items=tuple(replace(item, label=-1) for item in found.items))


def test_the_loss_is_the_models_own(data):
    model = autoencoder_for(NAME)
    dataset = ClipDataset(data, model.record, train=True)
    clips = torch.cat([dataset[index].clip for index in range(3)])
    mask = model.tube_mask(3, 0.75, generator=torch.Generator().manual_seed(0))
    for normalise in (True, False):
        losses, _ = Reconstruction(model, normalise)(clips, mask)
        assert losses.shape == (3,)
        torch.testing.assert_close(losses.mean(), model.loss(clips, mask, normalise=normalise))


def write_stripes(folder):
    """Four still videos of stripes a patch wide that differ only in where the stripes are.

    What is hidden cannot be told from its place, only from what is visible.
    """
    items = []
    for number in range(4):
        wave = 128 + 100 * np.sin(2 * np.pi * (np.arange(48) / 12 + number / 4))
        frames = np.broadcast_to(wave[None, None, :, None], (24, 48, 48, 3)).astype(np.uint8)
        path = folder / f"{number}.mp4"
        write_mp4(path, frames)
        items.append(VideoItem(path=path, label=-1, video_id=path.name))
    return VideoDataset(name="stripes", split="train", labels=(), items=tuple(items))


def test_the_loss_falls_to_what_only_the_visible_part_can_tell(tmp_path):
    stripes = write_stripes(tmp_path)
    recipe = replace(SHORT, epochs=20, batch_size=4, lr=1e-2, save_steps=0)
    result = pretrain(NAME, stripes, recipe, tmp_path / "run")
    lines = read_log(tmp_path / "run" / "log.jsonl")
    losses = [line["loss"] for line in lines if line["event"] == "epoch"]
    # Targets have mean 0 and deviation 1, so that 1 is the loss of knowing nothing.
    assert losses[0] > 0.95
    assert losses[-1] < 0.3
    assert not any("clip_top1" in line for line in lines)  # nothing is classified
    model = zoo.create(f"local-dir:{result.best}")
    clips = torch.cat([zoo.load_clip(item.path, model) for item in stripes.items])
    mask = model.tube_mask(4, 0.75, generator=torch.Generator().manual_seed(5))
    assert float(model.loss(clips, mask).detach()) < 0.3


def test_masks_are_others_at_each_step_and_hide_the_given_part(data, tmp_path, monkeypatch):
    seen = []
    forward = Reconstruction.forward

    def noted(self, clips, mask):
        seen.append(mask)
        return forward(self, clips, mask)

    monkeypatch.setattr(Reconstruction, "forward", noted)
    pretrain(NAME, data, SHORT, tmp_path)
    rows = torch.cat(seen)
    assert rows.shape[0] == 12
    assert set(rows.float().mean(dim=1).tolist()) == {0.75}
    assert len({tuple(row.tolist()) for row in rows}) == 12


def test_a_resumed_run_ends_as_an_uninterrupted_one(data, tmp_path, monkeypatch):
    recipe = replace(SHORT, ema=0.9)
    pretrain(NAME, data, recipe, tmp_path / "whole")
    take = Stepper.take

    def killed(self, batches, *, number, stop):
        if number == 4:
            raise SystemExit
        return take(self, batches, number=number, stop=stop)

    with monkeypatch.context() as patch:
        patch.setattr(Stepper, "take", killed)
        with pytest.raises(SystemExit):
            pretrain(NAME, data, recipe, tmp_path / "killed")
    pretrain(NAME, data, recipe, tmp_path / "killed", resume=True)
    assert_same_run(tmp_path / "whole", tmp_path / "killed")


def test_the_encoder_starts_a_classifier(data, tmp_path):
    result = pretrain(NAME, data, replace(SHORT, epochs=1), tmp_path / "pretrained")
    encoder = zoo.create(f"local-dir:{result.best}").state_dict()
    model = classifier_for("test_videomae", tuple("abc"), checkpoint=result.best)
    fresh = zoo.create("test_videomae").state_dict()
    moved = [key for key in model.state_dict() if key.startswith(("patch_embed.", "blocks."))]
    assert len(moved) > 20
    for key in moved:
        assert torch.equal(model.state_dict()[key], encoder[key]), key
        assert not torch.equal(fresh[key], encoder[key]) or key.endswith("bias"), key
    labelled = write_classes(tmp_path / "videos", videos=1)
    recipe = TrainRecipe(epochs=1, batch_size=2)
    arguments = {"checkpoint": result.best}
    done, _ = run(labelled, recipe, tmp_path / "run", name="test_videomae", arguments=arguments)
    assert zoo.create(f"local-dir:{done.best}").record.labels == labelled.labels


@pytest.mark.parametrize(
    ("name", "recipe", "sentence"),
    [
        ("test_r2p1d", SHORT, "Only a videomae_pretrain model has a decoder to pre-train with"),
        (NAME, replace(SHORT, mask_ratio=0.01), "ratio=0.01 hides 0 of 16 places"),
        (NAME, replace(SHORT, mask_ratio=1.0), "ratio=1.0 hides 16 of 16 places"),
    ],
)
def test_what_cannot_be_pretrained_is_refused(data, tmp_path, name, recipe, sentence):
    with pytest.raises(ValueError, match=sentence):
        pretrain(name, data, recipe, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_the_command_pretrains(data, tmp_path, monkeypatch, capsys):
    table = tmp_path / "list.csv"
    table.write_text("path\n" + "".join(f"{item.path}\n" for item in data.items))
    words = ["pretrain", NAME, "--data", table, "--out", tmp_path / "run", "--epochs", 1]
    words += ["--warmup-epochs", 0, "--mask-ratio", 0.75, "--plain-targets", "--flip", 0.5]
    monkeypatch.setattr(sys, "argv", ["zoo", *map(str, words)])
    with pytest.raises(SystemExit) as exit_:
        cli.main()
    out, err = capsys.readouterr()
    assert (exit_.value.code, out) == (0, f"{tmp_path / 'run' / 'best'}\n"), err
    recipe = json.loads((tmp_path / "run" / "recipe.json").read_text())["recipe"]
    assert (recipe["normalise_targets"], recipe["mask_ratio"]) == (False, 0.75)
    assert (recipe["augmentation"]["crop_scale"], recipe["augmentation"]["flip"]) == (
        [0.43, 1.0],
        0.5,
    )
