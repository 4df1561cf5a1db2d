"""What the families of video networks cost on one clip of 8 frames, side by side and explained.

Costs are compared within a backbone, where width and depth are the same and only time is treated
differently: three ways over a ResNet-18, and three over a ViT-B/16. Across the two backbones a
ratio would say which backbone is larger, not what time costs.
"""

from __future__ import annotations

from collections.abc import Sequence

from zoo.counting import ModelCost, flops

__all__ = [
    "BACKBONES",
    "BASELINE",
    "INFLATED",
    "NUM_FRAMES",
    "compare_families",
    "families_page",
    "why_inflation_costs",
]

BASELINE, INFLATED, FACTORISED = "framepool_r18", "i3d_r18", "r2p1d_18"
SPACE, DIVIDED, JOINT = "timesformer_space", "timesformer_divided", "timesformer_joint"
BACKBONES = {
    "ResNet-18, 64 to 512 channels": (BASELINE, INFLATED, FACTORISED),
    "ViT-B/16, 12 blocks of 768": (SPACE, DIVIDED, JOINT),
}
"""By backbone, the network that takes frames one by one, and those that see time."""

NUM_FRAMES = 8
_WORDS = {
    BASELINE: "2D on each frame, then the mean",
    INFLATED: "every spatial kernel 3 frames deep",
    FACTORISED: "2D kernel, then 3 frames deep",
    SPACE: "attention within a frame, then the mean",
    DIVIDED: "attention over time, then within a frame",
    JOINT: "attention over all patches of all frames",
}


def compare_families(
    *, num_frames: int = NUM_FRAMES, img_size: int | None = None
) -> tuple[ModelCost, ...]:
    """Count every network of `BACKBONES` on one clip.

    Args:
        num_frames: Frames T of the clip.
        img_size: Height and width of the clip in pixels; 224 if left out.

    Raises:
        ValueError: A size that one of them cannot take.
    """
    side = 224 if img_size is None else img_size
    return tuple(
        flops(name, num_frames=num_frames, img_size=side)
        for names in BACKBONES.values()
        for name in names
    )


def families_page(costs: Sequence[ModelCost]) -> str:
    """The comparison in Markdown.

    Args:
        costs: What `compare_families` gave.
    """
    by_name = {cost.name: cost for cost in costs}
    _, _, frames, height, width = costs[0].clip
    parts = [
        f"One clip of {frames} frames of {height}x{width}. A multiply-add (MAC) is two operations "
        f"(FLOPs); the records of this zoo, as papers, print 10^9 MACs and call them GFLOPs. "
        f"Activations are of eval mode in float32.",
    ]
    for title, names in BACKBONES.items():
        chosen = [by_name[name] for name in names]
        rows = [
            f"{title}:",
            "",
            "| model | time | parameters | GMACs | GFLOPs | by the first | activations, peak |",
            "|---|---|---|---|---|---|---|",
        ]
        rows += [
            f"| `{cost.name}` | {_WORDS[cost.name]} | {cost.params / 1e6:.1f} M "
            f"| {cost.macs / 1e9:.2f} | {cost.flops / 1e9:.2f} "
            f"| {cost.macs / chosen[0].macs:.2f} "
            f"| {cost.activations['float32'].peak_bytes / 1e6:.0f} MB |"
            for cost in chosen
        ]
        parts.append("\n".join(rows))
    parts += [
        f"I3D beside FramePool. {why_inflation_costs(by_name[BASELINE], by_name[INFLATED])}",
        _why_factorising_costs(by_name[BASELINE], by_name[FACTORISED]),
        _why_attention_costs(by_name[SPACE], by_name[DIVIDED], by_name[JOINT]),
    ]
    return "\n\n".join(parts) + "\n"


def why_inflation_costs(flat: ModelCost, deep: ModelCost) -> str:
    """Why an inflated network costs a little less than three times its 2D one."""
    same = (flat.macs_of("1x1") + flat.macs_of("linear")) / flat.macs
    return (
        f"Both networks put out the same maps, on every one of the {flat.clip[2]} frames: neither "
        f"strides or pools over time. An inflated convolution reads three frames for each number "
        f"that it puts out, which is three times the multiply-adds and three times the "
        f"weights; that holds for the stem and for every 3x3 kernel. The 1x1 kernels of the "
        f"shortcuts stay one frame deep and the classifier sees pooled features in both, so "
        f"{same:.2%} of the baseline's work is not multiplied, and the ratio is 3 - 2 x "
        f"{same:.4f} = {3 - 2 * same:.3f}. Pooling, normalisation and addition are not "
        f"counted by torch, nor in the records. The parameters grow by "
        f"{deep.params / flat.params:.2f}: less than 3, as the classifier and the "
        f"shortcuts do not grow."
    )


def _why_factorising_costs(flat: ModelCost, factorised: ModelCost) -> str:
    first = _share(factorised, "layer1") * factorised.macs / (_share(flat, "layer1") * flat.macs)
    return (
        f"R(2+1)D. `{FACTORISED}` has a factorised kernel with about the weights of a 3x3x3 one, "
        f"so that a map of one size would cost what it costs `{INFLATED}`. Yet it has no pool "
        f"after its stem: its first stage works on four times the pixels and takes "
        f"{first:.1f} times the baseline's, {_share(factorised, 'layer1'):.0%} of the whole. "
        f"From the second stage on it strides over time as well, which takes some of it back."
    )


def _why_attention_costs(space: ModelCost, divided: ModelCost, joint: ModelCost) -> str:
    width, tokens = 768, (space.clip[3] // 16) ** 2
    frames = space.clip[2]
    weights = 5 / 12
    return (
        f"TimeSformer. A block of `{SPACE}` multiplies each token by 12 D^2 weights (4 D^2 in "
        f"attention, 8 D^2 in the MLP; D = {width}); `{DIVIDED}` adds 5 D^2 (query, key, value, "
        f"projection, and one more linear layer), {weights:.1%}, and the products of {frames} "
        f"frames at each place, which are small. Counted: {divided.macs / space.macs - 1:.1%}. "
        f"`{JOINT}` adds no weight, but each token looks at {frames} x {tokens} patches, not "
        f"{tokens}: the products of queries, keys and values grow by the number of frames, and the "
        f"whole by {joint.macs / space.macs - 1:.1%}. This part grows with the square of T, all "
        f"others in step with it, so that joint attention falls behind divided attention on longer "
        f"clips."
    )


def _share(cost: ModelCost, stage: str) -> float:
    """The part of a stage in all multiply-adds."""
    inside = sum(layer.macs for layer in cost.layers if stage in layer.name.split("."))
    return inside / cost.macs
