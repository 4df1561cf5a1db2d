"""Fresh weights hide errors: scales start at zero, so that whole branches are silent."""

import deviations
import torch
from torch import nn

BATCH_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)
NORMS = (*BATCH_NORMS, nn.LayerNorm, nn.GroupNorm)


@torch.no_grad()
def scramble(model, clip, *, seed=0, keep=()):
    """Put noise on every parameter and BatchNorm statistic, so that each layer is heard.

    Args:
        model: Changed in place, left in eval mode.
        clip: Input of the shape the model takes, for the BatchNorm statistics.
        seed: Seed of the noise.
        keep: Parts of names of parameters that stay as they are.
    """
    rng = torch.Generator().manual_seed(seed)

    def noise(tensor):
        return torch.randn(tensor.shape, generator=rng)

    scales = {
        f"{name}.weight" for name, module in model.named_modules() if isinstance(module, NORMS)
    }
    for name, parameter in model.named_parameters():
        if any(part in name for part in keep):
            continue
        if name in scales or parameter.ndim == 0:
            parameter.copy_(0.3 + 0.7 * torch.rand(parameter.shape, generator=rng))
        elif parameter.ndim < 2:
            parameter.add_(0.2 * noise(parameter))
        elif "pos_embed" in name or name.endswith(("embed", "token", "table")):
            parameter.copy_(0.2 * noise(parameter))
        else:
            fan_in = parameter[0].numel()
            parameter.copy_(noise(parameter) / fan_in**0.5)
    norms = [module for module in model.modules() if isinstance(module, BATCH_NORMS)]
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.momentum = 1.0
    if norms:
        model.train()
        model(torch.randn(clip.shape, generator=rng))
    model.eval()
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
        norm.running_mean.add_(0.1 * norm.running_var.sqrt() * noise(norm.running_mean))
        norm.running_var.mul_(1 + 0.1 * torch.rand(norm.running_var.shape, generator=rng))
        # Of a few values some channels have hardly any variance, and would drown all others.
        norm.running_var.clamp_(min=0.1 * norm.running_var.mean())
    return model


def random_clip(shape, *, seed):
    """A clip (N, C, T, H, W) of noise with structure: frames differ in more than noise."""
    rng = torch.Generator().manual_seed(seed)
    n, c, t, h, w = shape
    coarse = torch.randn(n, c, t, max(1, h // 8), max(1, w // 8), generator=rng)
    smooth = nn.functional.interpolate(coarse, size=(t, h, w), mode="nearest")
    return smooth + 0.5 * torch.randn(shape, generator=rng)


def assert_listens(model, shape):
    """Two clips must differ by 1 % of the largest logit, else equality proves nothing."""
    with torch.no_grad():
        a, b = (model(random_clip(shape, seed=seed)) for seed in (11, 12))
    assert (a - b).abs().max() > 0.01 * max(a.abs().max(), b.abs().max())


def assert_close(found, wanted, *, tolerance=1e-4):
    """Equal to `tolerance` of the largest value wanted."""
    assert found.shape == wanted.shape
    error = (found - wanted).abs().max() / wanted.abs().max()
    deviations.note(error)
    assert error < tolerance, f"deviates by {error:.2e} of the largest value"


def clip_shape(model, n=2):
    """The shape of a batch of the model's own clips, (N, C, T, H, W)."""
    return (n, model.in_chans, model.num_frames, model.img_size, model.img_size)


def count_batch_norms(model):
    """How many BatchNorms a model runs."""
    return sum(isinstance(module, BATCH_NORMS) for module in model.modules())
