"""Inflation of kernels and tables, against direct computation."""

import pytest
import torch
import torch.nn.functional as F

from converters import (
    adapt_in_chans,
    inflate_conv,
    inflate_patch_embed,
    inflate_pos_embed,
    resize_clip_table,
    resize_spatial_table,
    resize_temporal_table,
)
from zoo.layers import Conv2Plus1D, InflatedConv3d, middle_channels


def _still(frame, t):
    return frame[:, :, None].repeat(1, 1, t, 1, 1)  # (N, C, T, H, W)


@pytest.mark.parametrize("mode", ["mean", "center"])
def test_kernels_are_contiguous_whatever_they_come_from(mode):
    weight = torch.randn(4, 3, 3, 3).to(memory_format=torch.channels_last)
    assert inflate_conv(weight, num_frames=3, mode=mode).is_contiguous()


@pytest.mark.parametrize("mode", ["mean", "center"])
@pytest.mark.parametrize("kernel", [1, 3, 7])
@pytest.mark.parametrize("t", [1, 3, 5])
def test_a_still_clip_gives_the_2d_response_on_every_frame(mode, kernel, t):
    conv = torch.nn.Conv2d(3, 5, kernel, stride=2, padding=kernel // 2)
    new = InflatedConv3d.from_conv2d(conv, num_frames=t, mode=mode)
    frame = torch.randn(2, 3, 13, 17)
    wanted = conv(frame)
    found = new(_still(frame, 6))
    assert found.shape[2] == 6
    for index in range(6):
        assert torch.allclose(found[:, :, index], wanted, atol=1e-5)


def test_zero_padding_in_time_is_a_third_short_at_the_ends_for_mean_only():
    conv = torch.nn.Conv2d(3, 5, 3, padding=1, bias=False)
    frame = torch.randn(1, 3, 8, 8)
    wanted = conv(frame)
    mean, center = (
        InflatedConv3d.from_conv2d(conv, mode=mode, temporal_padding="zeros")(_still(frame, 4))
        for mode in ("mean", "center")
    )
    assert torch.allclose(mean[:, :, 0], wanted * 2 / 3, atol=1e-5)
    assert torch.allclose(mean[:, :, 1], wanted, atol=1e-5)
    assert torch.allclose(center[:, :, 0], wanted, atol=1e-5)


def test_replicate_padding_equals_torch_functional_pad():
    conv = InflatedConv3d(2, 3, (3, 3, 3))
    clip = torch.randn(1, 2, 5, 6, 6)
    padded = F.pad(clip, (0, 0, 0, 0, 1, 1), mode="replicate")
    wanted = F.conv3d(padded, conv.weight, padding=(0, 1, 1))
    assert torch.allclose(conv(clip), wanted, atol=1e-6)


def test_inflated_kernels_differ_on_motion():
    weight = torch.randn(2, 3, 3, 3)
    moving = torch.randn(1, 3, 3, 8, 8)
    mean, center = (
        F.conv3d(moving, inflate_conv(weight, num_frames=3, mode=mode))
        for mode in ("mean", "center")
    )
    assert (mean - center).abs().max() > 0.1
    assert torch.allclose(center[:, :, 0], F.conv2d(moving[:, :, 1], weight), atol=1e-5)


@pytest.mark.parametrize("mode", ["mean", "center"])
@pytest.mark.parametrize("t", [2, 3, 4])
def test_a_tubelet_answers_a_still_clip_like_the_patch(mode, t):
    weight = torch.randn(6, 3, 4, 4)
    frame = torch.randn(2, 3, 8, 8)
    tubelet = inflate_patch_embed(weight, num_frames=t, mode=mode)
    found = F.conv3d(_still(frame, 2 * t), tubelet, stride=(t, 4, 4))
    assert torch.allclose(found, _still(F.conv2d(frame, weight, stride=4), 2), atol=1e-5)


def test_dtype_is_kept_and_the_source_untouched():
    weight = torch.randn(2, 3, 3, 3, dtype=torch.float64)
    before = weight.clone()
    found = inflate_conv(weight, num_frames=3, mode="center")
    found.zero_()
    assert found.dtype == torch.float64
    assert torch.equal(weight, before)


@pytest.mark.parametrize(
    ("call", "sentence"),
    [
        (lambda w: inflate_conv(w, num_frames=4, mode="center"), "4 frames has no centre"),
        (lambda w: inflate_conv(w, num_frames=0, mode="mean"), "num_frames must be 1 or more"),
        (lambda w: inflate_conv(w[None], num_frames=3, mode="mean"), "takes a 2D kernel"),
        (lambda w: inflate_conv(w, num_frames=3, mode="middle"), "Unknown inflation 'middle'"),
        (
            lambda w: inflate_pos_embed(w, num_frames=3, num_prefix_tokens=1),
            r"position table is \(1, P",
        ),
    ],
)
def test_bad_input_is_refused(call, sentence):
    with pytest.raises(ValueError, match=sentence):
        call(torch.randn(2, 3, 3, 3))


def test_grouped_and_dilated_convolutions_are_refused():
    with pytest.raises(ValueError, match="groups and dilation must be 1"):
        InflatedConv3d.from_conv2d(torch.nn.Conv2d(4, 4, 3, padding=1, groups=2))


def test_positions_are_repeated_time_slowest_with_one_prefix():
    table = torch.arange(5.0).reshape(1, 5, 1)
    found = inflate_pos_embed(table, num_frames=2, num_prefix_tokens=1)
    assert found.flatten().tolist() == [0, 1, 2, 3, 4, 1, 2, 3, 4]


def test_one_channel_answers_gray_as_three_do():
    weight = torch.randn(4, 3, 3, 7, 7)
    gray = torch.randn(1, 1, 3, 7, 7)
    wanted = F.conv3d(gray.repeat(1, 3, 1, 1, 1), weight)
    assert torch.allclose(F.conv3d(gray, adapt_in_chans(weight, 1)), wanted, atol=1e-4)


@pytest.mark.parametrize("in_chans", [1, 2, 4, 6, 7])
def test_in_chans_follows_timm(in_chans):
    from timm.models._manipulate import adapt_input_conv

    weight = torch.randn(4, 3, 7, 7)
    wanted = adapt_input_conv(in_chans, weight)
    assert torch.allclose(adapt_in_chans(weight, in_chans), wanted, atol=1e-6)


def test_spatial_tables_follow_timm_and_keep_the_prefix():
    from timm.layers import resample_abs_pos_embed

    table = torch.randn(1, 1 + 14 * 14, 8)
    found = resize_spatial_table(table, old=(14, 14), new=(9, 20), num_prefix_tokens=1)
    wanted = resample_abs_pos_embed(table, [9, 20], [14, 14])
    assert torch.allclose(found, wanted, atol=1e-6)
    assert torch.equal(found[:, :1], table[:, :1])
    assert resize_spatial_table(table, old=(14, 14), new=(14, 14), num_prefix_tokens=1) is table
    with pytest.raises(ValueError, match="does not hold"):
        resize_spatial_table(table, old=(13, 14), new=(9, 20), num_prefix_tokens=1)


def test_temporal_tables_are_linear_and_spare_what_fits():
    table = torch.linspace(0, 7, 8).reshape(1, 8, 1)
    found = resize_temporal_table(table, num_frames=16).flatten()
    middle = found[1:-1]
    assert torch.allclose(middle.diff(), torch.full_like(middle.diff(), 0.5))
    assert torch.allclose(found + found.flip(0), torch.full_like(found, 7.0))
    assert resize_temporal_table(table, num_frames=8) is table


@pytest.mark.parametrize(("in_c", "out_c"), [(64, 64), (64, 128), (16, 48), (3, 7)])
def test_the_middle_width_matches_the_full_kernels_parameters(in_c, out_c):
    full = 27 * in_c * out_c
    per_channel = 9 * in_c + 3 * out_c
    factorised = Conv2Plus1D(in_c, out_c)
    weights = factorised.spatial.weight.numel() + factorised.temporal.weight.numel()
    assert full - per_channel < weights <= full
    assert middle_channels(64, 64) == 144  # Tran et al.'s and torchvision's first stage


def test_clip_tables_are_linear_along_each_axis_and_spare_what_fits():
    axes = torch.meshgrid(*(torch.arange(n) / n for n in (4, 6, 8)), indexing="ij")
    table = torch.stack(axes, dim=-1).reshape(1, 4 * 6 * 8, 3)
    found = resize_clip_table(table, old=(4, 6, 8), new=(8, 12, 4)).reshape(8, 12, 4, 3)
    for axis, step in enumerate((1 / 8, 1 / 12, 1 / 4)):
        line = found[..., axis].movedim(axis, 0)[1:-1]
        assert torch.allclose(line.diff(dim=0), torch.full_like(line.diff(dim=0), step))
        assert torch.allclose(line, line[:, :1, :1].expand_as(line))
    assert resize_clip_table(table, old=(4, 6, 8), new=(4, 6, 8)) is table
    with pytest.raises(ValueError, match="does not hold a grid of 4x6x6"):
        resize_clip_table(table, old=(4, 6, 6), new=(8, 12, 4))
