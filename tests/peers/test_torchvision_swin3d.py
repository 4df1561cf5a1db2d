"""Video Swin against torchvision's, both ways."""

import pytest
import torch
from scrambling import assert_close, assert_listens, random_clip, scramble

import converters
import registry
import zoo
from zoo.benchmarking.peers import beside
from zoo.models.swin3d import SwinTransformer3D

pytestmark = pytest.mark.peer
LISTENING = (1, 3, 4, 64, 64)


@pytest.fixture(scope="module", params=["swin3d_t", "swin3d_s", "swin3d_b"])
def pair(request):
    """Our model and torchvision's, at full size, with the same scrambled weights."""
    torch.manual_seed(0)
    ours = scramble(zoo.create(request.param), torch.zeros(1, 3, 32, 224, 224))
    return request.param, ours, beside("torchvision", ours).module


def _agree(ours, theirs, shape):
    """Compare features, which torchvision leaves before its pooling, and logits."""
    found = []
    hook = theirs.norm.register_forward_hook(lambda _, __, grid: found.append(grid.flatten(1, 3)))
    clip = random_clip(shape, seed=1)
    with torch.no_grad():
        wanted = theirs(clip)
        features = ours.forward_features(clip)
        assert_close(ours.forward_head(features), wanted)
    hook.remove()
    assert_close(features, found[0])


def test_logits_and_features_are_equal(pair):
    name, ours, theirs = pair
    assert_listens(ours, LISTENING)
    _agree(ours, theirs, (1, 3, 32 if name == "swin3d_t" else 8, 224, 224))


def test_conversion_goes_both_ways_bit_for_bit(pair):
    name, ours, theirs = pair
    state = converters.convert(theirs.state_dict(), name=name)
    wanted = ours.state_dict()
    assert state.keys() == wanted.keys()
    assert all(torch.equal(state[key], wanted[key]) for key in wanted)
    exported = converters.export(ours, target="torchvision")
    stored = theirs.state_dict()
    assert all(torch.equal(exported[key], stored[key]) for key in stored)


@pytest.fixture(scope="module")
def narrow():
    """Both with two narrow blocks a stage, the same scrambled weights and the full window."""
    from torchvision.models.video.swin_transformer import SwinTransformer3d

    torch.manual_seed(0)
    ours = SwinTransformer3D(16, (2, 2, 2, 2), (1, 2, 4, 8), num_classes=9)
    scramble(ours.eval(), torch.zeros(1, 3, 8, 224, 224))
    theirs = SwinTransformer3d(
        patch_size=[2, 4, 4],
        embed_dim=16,
        depths=[2, 2, 2, 2],
        num_heads=[1, 2, 4, 8],
        window_size=[8, 7, 7],
        num_classes=9,
    ).eval()
    exported = converters.export(ours, target="torchvision", name="swin3d_t")
    theirs.load_state_dict(exported, strict=True)
    assert_listens(ours, LISTENING)
    return ours, theirs


@pytest.mark.parametrize("clip", [(1, 224, 224), (8, 200, 250), (19, 200, 224), (32, 224, 200)])
def test_other_clips_are_equal_while_no_window_is_cut_in_space(narrow, clip):
    _agree(*narrow, (1, 3, *clip))


def test_a_window_cut_in_space_differs_from_torchvisions(narrow):
    # Its last stage, of 4x4 tokens, reads the biases of other offsets (see the model's file).
    ours, theirs = narrow
    clip = random_clip((1, 3, 8, 112, 112), seed=1)
    with torch.no_grad():
        assert (ours(clip) - theirs(clip)).abs().max() > 1e-3 * ours(clip).abs().max()


def test_records_are_torchvisions():
    from torchvision.models.video import Swin3D_B_Weights, Swin3D_S_Weights, Swin3D_T_Weights

    for name, tag, theirs in (
        ("swin3d_t", "k400", Swin3D_T_Weights.KINETICS400_V1),
        ("swin3d_s", "k400", Swin3D_S_Weights.KINETICS400_V1),
        ("swin3d_b", "k400", Swin3D_B_Weights.KINETICS400_V1),
        ("swin3d_b", "in22k_ft_k400", Swin3D_B_Weights.KINETICS400_IMAGENET22K_V1),
    ):
        facts = registry.info(name)
        record = registry.find_weights(facts, tag)
        recipe, preset = record.preprocess, theirs.transforms()
        assert record.source.url == theirs.url
        assert facts.params == theirs.meta["num_params"]
        assert [recipe.resize] == list(preset.resize_size)
        assert [recipe.img_size] * 2 == list(preset.crop_size)
        assert (list(recipe.mean), list(recipe.std)) == (preset.mean, preset.std)
        assert recipe.interpolation == preset.interpolation.value
        accuracy = theirs.meta["_metrics"]["Kinetics-400"]
        ours = {m.name: m.value for m in record.metrics if m.measured_by == "torchvision"}
        assert ours == {"top1": accuracy["acc@1"], "top5": accuracy["acc@5"]}
        # torchvision counts half the frames; the paper's 88, 166 and 282 are of 32.
        assert facts.gflops == pytest.approx(2 * theirs.meta["_ops"], rel=0.001)
        assert list(registry.labels(record.labels)) == theirs.meta["categories"]
