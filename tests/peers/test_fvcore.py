"""Multiply-adds as fvcore counts them, by which SlowFast, X3D and MViT print their figures."""

import logging

import pytest
import torch

import zoo
from zoo.counting import count_layers

pytestmark = pytest.mark.slow
# What fvcore counts beyond multiplications of matrices; the zoo, as torch, leaves it out.
NORMS = {"batch_norm", "layer_norm", "adaptive_avg_pool2d", "adaptive_avg_pool3d"}


@pytest.mark.parametrize(
    "name", ["test_r2p1d", "test_x3d", "test_slowfast", "test_timesformer_divided", "test_mvit_v2"]
)
def test_multiply_adds_are_fvcores(name, monkeypatch):
    analysis = pytest.importorskip("fvcore.nn")
    logging.getLogger("fvcore").setLevel(logging.ERROR)
    model = zoo.create(name).eval()
    clip = torch.zeros(1, 3, model.num_frames, model.img_size, model.img_size)

    def written_out(query, key, value, scale=None):
        scale = query.shape[-1] ** -0.5 if scale is None else scale
        return (query @ key.transpose(-1, -2) * scale).softmax(-1) @ value

    # fvcore passes fused attention over with a warning.
    monkeypatch.setattr(torch.nn.functional, "scaled_dot_product_attention", written_out)
    # With gradients, since without them convolutions run in an operation that fvcore does not know.
    counted = analysis.FlopCountAnalysis(model, clip).unsupported_ops_warnings(False)
    counted = counted.uncalled_modules_warnings(False).by_operator()
    assert set(counted) & NORMS
    products = sum(count for kind, count in counted.items() if kind not in NORMS)
    assert count_layers(model, tuple(clip.shape)).macs == products
