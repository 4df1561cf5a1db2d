"""Folding BatchNorms into the layers before them, and leaving those that somebody would miss."""

import pytest
import torch
from scrambling import (
    BATCH_NORMS,
    assert_close,
    clip_shape,
    count_batch_norms,
    random_clip,
    scramble,
)
from torch import nn

import zoo
from zoo.folding import fold_batch_norms
from zoo.lifting.convolution import FrameConv3d, TemporalConv

# Lifted networks and the BatchNorms that stay: those before a convolution, after a sum, a
# concatenation or a split, or after a linear layer over more than rows.
LIFTED = {
    "r2p1d:resnet18": 0,
    "i3d:resnet18": 0,
    "tsm:resnet18": 0,
    "r2p1d:resnext26ts": 0,
    "r2p1d:efficientnet_b0": 0,
    "i3d:mobilenetv3_small_050": 0,
    "i3d:regnety_002": 0,
    "i3d:ghostnet_100": 1,
    "framepool:dla34": 0,
    "framepool:repvgg_a0": 17,
    "framepool:res2net50_26w_4s": 0,
    "framepool:resnetv2_50": 17,
    "i3d:densenet121": 62,
    "framepool:nf_regnet_b0": 0,
    "divided:vit_tiny_patch16_224": 0,
}


@pytest.mark.parametrize(
    "name",
    [pytest.param(n, marks=[pytest.mark.slow] if i % 2 else []) for i, n in enumerate(LIFTED)],
)
def test_lifted_image_models_are_folded_by_what_they_do(name):
    model = zoo.create(name, num_frames=2, img_size=224 if "vit" in name else 64)
    rng = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for key, parameter in model.named_parameters():
            if key.startswith("temporal."):
                parameter.add_(0.1 * torch.randn(parameter.shape, generator=rng))
        for norm in model.modules():
            if isinstance(norm, BATCH_NORMS):
                norm.running_mean.normal_(0, 0.2, generator=rng)
                norm.running_var.uniform_(0.5, 1.5, generator=rng)
                norm.weight.uniform_(0.5, 1.2, generator=rng)
                norm.bias.normal_(0, 0.2, generator=rng)
    fast = zoo.optimize(model)
    assert count_batch_norms(fast) == LIFTED[name]
    clip = random_clip(clip_shape(model, 1), seed=1)
    with torch.no_grad():
        assert_close(fast(clip), model(clip), tolerance=2e-5)


class _Tiny(zoo.StagedModel):
    """One convolution and one BatchNorm, joined as a test says."""

    classifier_name = "fc"

    def __init__(self, join):
        super().__init__()
        self.in_chans, self.num_frames, self.img_size = 3, 4, 8
        self.num_features = self.num_classes = 6
        self.conv = nn.Conv3d(3, 6, 3, padding=1, padding_mode="circular", groups=3)
        self.bn = nn.BatchNorm3d(6)
        self.drop, self.fc = nn.Dropout(0.0), nn.Identity()
        self.feature_info = [{"num_chs": 6, "reduction": 1, "module": "conv"}]
        self.join = join

    def forward_features(self, x):
        return self.join(self, x)

    def forward_intermediates(self, x, *_, **__):
        return [self.join(self, x)]


def _read_twice(model, x):
    x = model.conv(x)
    return model.bn(x) + x


def _run_twice(model, x):
    return model.bn(model.conv(x)) + model.conv(x.flip(2))


def _normed_twice(model, x):
    return model.bn(model.bn(model.conv(x)))


def _changed_between(model, x):
    return model.bn(model.conv(x).mul_(2.0).relu_())


def _without_offset(model, x):
    return model.bn(nn.functional.conv3d(x, model.conv.weight, None, padding=1, groups=3))


def _scaled_weights(model, x):
    return model.bn(nn.functional.conv3d(x, model.conv.weight * 2, model.conv.bias, groups=3))


@pytest.mark.parametrize(
    ("join", "folded"),
    [
        (lambda model, x: model.bn(model.conv(x)), 1),
        (_read_twice, 0),
        (_run_twice, 0),
        (_normed_twice, 0),
        (_changed_between, 0),
        (_without_offset, 0),
        (_scaled_weights, 0),
    ],
)
def test_a_batch_norm_stays_where_folding_it_would_change_something(join, folded):
    torch.manual_seed(0)
    model = _Tiny(join)
    scramble(model, torch.zeros(4, 3, 4, 8, 8))
    fast = zoo.optimize(model)
    assert count_batch_norms(fast) == 1 - folded
    clip = random_clip((2, 3, 4, 8, 8), seed=1)
    with torch.no_grad():
        assert_close(fast(clip), model(clip), tolerance=1e-5)


class _Shown(_Tiny):
    """Its levels show what the convolution gives before the BatchNorm."""

    def __init__(self):
        super().__init__(lambda model, x: model.bn(model.conv(x)))

    def forward_intermediates(self, x, *_, **__):
        shown = self.conv(x)
        self.bn(shown)
        return [shown]


def _rows_are_channels(model, x):
    rows = model.mix(x.flatten(3).mean(dim=3).mean(dim=1)[:, None].expand(-1, 6, -1))
    return model.rows(rows)[..., None, None]  # BatchNorm1d takes the axis before the last


def test_a_batch_norm_stays_where_a_caller_or_another_axis_would_notice():
    torch.manual_seed(0)
    across = _Tiny(_rows_are_channels)
    across.mix, across.rows = nn.Linear(4, 6), nn.BatchNorm1d(6)
    for model in (_Shown(), across):
        assert fold_batch_norms(model.eval()) == 0


def _plain(model, x):
    return model.bn(model.conv(x))


def test_batch_norms_without_statistics_or_with_hooks_and_computed_weights_stay():
    loose = _Tiny(_plain)
    loose.bn = nn.BatchNorm3d(6, track_running_stats=False)
    hooked = _Tiny(_plain)
    hooked.bn.register_forward_hook(lambda _, __, output: output * 2)
    computed = _Tiny(_plain)
    nn.utils.parametrizations.weight_norm(computed.conv)
    for model in (loose, hooked, computed):
        assert fold_batch_norms(model.eval()) == 0


def _alias_norm(model):
    model.outer = nn.Sequential(model.bn)
    model.join = lambda model, x: model.outer(model.conv(x))


def _alias_layer(model):
    model.outer = nn.Sequential(model.conv)


def _alias_both(model):
    model.outer = nn.Sequential(model.conv, model.bn)
    model.join = lambda model, x: model.outer(x)


@pytest.mark.parametrize("alias", [_alias_norm, _alias_layer, _alias_both])
def test_what_has_two_names_stays(alias):
    torch.manual_seed(0)
    model = _Tiny(_plain)
    alias(model)
    scramble(model, torch.zeros(4, 3, 4, 8, 8))
    clip = random_clip((2, 3, 4, 8, 8), seed=1)
    fast = zoo.optimize(model)
    with torch.no_grad():
        assert_close(fast(clip), model(clip), tolerance=1e-5)
    assert count_batch_norms(fast) == 1


def _keep_output(model, keep):
    model.conv.register_forward_hook(lambda _, __, output: keep(output))


def _keep_output_of_a_parent(model, keep):
    model.outer = nn.Sequential(model.conv)
    del model.conv
    model.outer.register_forward_hook(lambda _, __, output: keep(output))
    model.join = lambda model, x: model.bn(model.outer(x))


def _keep_input_by_name(model, keep):
    model.next = nn.Identity()
    model.next.register_forward_pre_hook(
        lambda _, __, given: keep(given["input"]), with_kwargs=True
    )
    model.join = lambda model, x: model.bn(model.next(input=model.conv(x)))


@pytest.mark.parametrize("hook", [_keep_output, _keep_output_of_a_parent, _keep_input_by_name])
def test_hooks_are_given_in_a_copy_what_they_are_given_in_the_model(hook):
    torch.manual_seed(0)
    seen = []
    model = _Tiny(_plain)
    hook(model, seen.append)
    scramble(model, torch.zeros(4, 3, 4, 8, 8))
    clip = random_clip((2, 3, 4, 8, 8), seed=1)
    fast = zoo.optimize(model)
    seen.clear()
    with torch.no_grad():
        assert_close(fast(clip), model(clip), tolerance=1e-5)
    found, wanted = seen
    assert_close(found, wanted, tolerance=1e-5)


@pytest.mark.parametrize("method", ["i3d", "r2p1d"])
def test_a_hook_that_changes_what_a_lifted_layer_gives_is_no_part_of_its_weights(method):
    model = zoo.create(f"{method}:resnet10t", num_frames=2, img_size=32)
    scramble(model, torch.zeros(clip_shape(model, 4)))
    layers = [m for m in model.modules() if isinstance(m, FrameConv3d | TemporalConv)]
    layers[-1].register_forward_hook(lambda _, __, output: output * 2)
    fast = zoo.optimize(model)
    assert count_batch_norms(fast) == 1
    clip = random_clip(clip_shape(model, 1), seed=1)
    with torch.no_grad():
        assert_close(fast(clip), model(clip), tolerance=2e-5)
