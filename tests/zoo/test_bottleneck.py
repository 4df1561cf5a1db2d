"""The bottleneck ResNets: strides, heads, pathways, and what pictures they are inflated from."""

import pytest
import torch
from scrambling import assert_close, assert_listens, random_clip, scramble
from torch import nn

import converters
import registry
import zoo
from zoo.models._bottleneck import window_mean
from zoo.models.slowfast import slow_frames


def _picture_resnet():
    """timm's ResNet at the widths and depths of the test variants."""
    from timm.models.resnet import Bottleneck, ResNet

    image = ResNet(Bottleneck, (1, 2, 1, 1), channels=(8, 16, 16, 16))
    image.conv1 = nn.Conv2d(3, 8, 7, stride=2, padding=3, bias=False)
    image.bn1 = nn.BatchNorm2d(8)
    first = image.layer1[0]
    first.conv1 = nn.Conv2d(8, 8, 1, bias=False)
    first.downsample[0] = nn.Conv2d(8, 32, 1, bias=False)
    image.layer3, image.layer4, image.fc = nn.Identity(), nn.Identity(), nn.Linear(64, 10)
    return scramble(image, torch.zeros(8, 3, 64, 64))


def _inflated(name):
    """The picture network, and the video network that is inflated from it."""
    torch.manual_seed(0)
    image = _picture_resnet()
    video = zoo.create(name, num_classes=0).eval()
    state = converters.convert(image.state_dict(), name=name, source="timm", num_classes=0)
    video.load_state_dict(state)
    return image, video


@pytest.mark.parametrize("size", [32, 64])
def test_c2d_inflated_gives_the_picture_features_of_a_still_clip(size):
    image, video = _inflated("test_c2d")
    picture = random_clip((2, 3, 1, size, size), seed=1)
    with torch.no_grad():
        wanted = image.forward_features(picture[:, :, 0])[:, :, None]
        for num_frames in (8, 16, 32):
            features = video.forward_features(picture.expand(-1, -1, num_frames, -1, -1))
            assert_close(features, wanted.expand_as(features), tolerance=1e-5)


@pytest.mark.parametrize("name", ["test_slow", "test_i3d_bottleneck"])
def test_others_inflated_do_so_away_from_the_ends(name):
    image, video = _inflated(name)
    picture = random_clip((2, 3, 1, 32, 32), seed=1)
    with torch.no_grad():
        wanted = image.forward_features(picture[:, :, 0])
        features = video.forward_features(picture.expand(-1, -1, 32, -1, -1))
    assert_close(features[:, :, features.shape[2] // 2], wanted, tolerance=1e-5)
    # Their authors pad time with zeros, so that the ends differ.
    assert (features[:, :, 0] - wanted).abs().max() > 0.01 * wanted.abs().max()


@pytest.mark.parametrize("name", ["c2d_r50", "i3d_r50", "slow_r50"])
def test_a_resnet50_of_pictures_fills_all_but_the_classifier(name):
    from timm import create_model

    with torch.device("meta"):
        picture, keys = (
            create_model("resnet50").state_dict(),
            registry.load(name).build().state_dict(),
        )
    state = converters.convert(picture, name=name, source="timm")
    assert keys.keys() - state.keys() == {"fc.weight", "fc.bias"}


def test_a_stride_on_the_first_convolution_loads_and_is_wrong():
    image, video = _inflated("test_c2d")
    block = video.layer2[0]
    block.conv1.stride, block.conv2.stride = block.conv2.stride, block.conv1.stride
    picture = random_clip((2, 3, 1, 32, 32), seed=1)
    with torch.no_grad():
        wanted = image.forward_features(picture[:, :, 0])[:, :, None]
        features = video.forward_features(picture.expand(-1, -1, 8, -1, -1))
    assert (features - wanted).abs().max() > 0.01 * wanted.abs().max()


@pytest.mark.parametrize("name", ["c2d_r50", "slow_r50", "slowfast_r50", "csn_r101"])
def test_the_middle_convolution_has_the_stride(name):
    with torch.device("meta"):
        model = registry.load(name).build()
    strided = {
        key.rpartition(".")[2]
        for key, module in model.named_modules()
        if isinstance(module, nn.Conv3d) and max(module.stride) > 1 and key.startswith("layer")
        if "lateral" not in key
    }
    assert strided == {"conv2", "0"}  # and the shortcut's


def test_heads_average_over_windows_of_the_training_crop():
    torch.manual_seed(0)
    features = torch.randn(2, 5, 3, 8, 9)
    windows = [
        features[:, :, :, i : i + 7, j : j + 7].mean(dim=(2, 3, 4))
        for i in (0, 1)
        for j in (0, 1, 2)
    ]
    wanted = torch.stack(windows).mean(dim=0)
    assert_close(window_mean(features), wanted, tolerance=1e-5)
    assert (wanted - features.mean(dim=(2, 3, 4))).abs().max() > 1e-3
    for small in (features[..., :7, :7], features[..., :3, :5], features[..., :1, :1]):
        assert_close(window_mean(small), small.mean(dim=(2, 3, 4)), tolerance=1e-5)


@pytest.mark.parametrize("alpha", [2, 4, 8])
def test_the_slow_pathway_sees_the_frames_that_pyslowfast_picks(alpha):
    for t in range(alpha, 129, alpha):
        assert slow_frames(t, alpha) == torch.linspace(0, t - 1, t // alpha).long().tolist()
    assert slow_frames(32, 4) == [0, 4, 8, 13, 17, 22, 26, 31]


def test_both_pathways_are_heard():
    torch.manual_seed(0)
    model = scramble(zoo.create("test_slowfast"), torch.zeros(4, 3, 8, 32, 32))
    assert_listens(model, (1, 3, 8, 32, 32))
    clip = random_clip((1, 3, 8, 32, 32), seed=1)
    changed = clip.clone()
    changed[:, :, 3] += 1  # no frame of the Slow pathway, which sees 0 and 7
    with torch.no_grad():
        slow, fast = model._split(clip)
        assert torch.equal(slow, clip[:, :, [0, 7]])
        assert fast is clip
        logits = model(clip)
        assert (model(changed) - logits).abs().max() > 1e-3 * logits.abs().max()
        # The lateral connections alone carry it into the Slow pathway's features.
        wide = model.num_features * 8 // 9
        difference = (model.forward_features(changed) - model.forward_features(clip))[:, :wide]
        assert difference.abs().max() > 1e-3
        for stage in (model.layer1, model.layer2):
            stage.lateral.bn.weight.zero_()
        difference = (model.forward_features(changed) - model.forward_features(clip))[:, :wide]
        assert not difference.any()


@pytest.mark.parametrize("name", ["test_slow", "test_slowfast", "test_csn", "test_r2plus1d"])
def test_the_middle_of_a_longer_still_clip_is_the_same(name):
    torch.manual_seed(0)
    model = scramble(zoo.create(name), torch.zeros(4, 3, 8, 32, 32))
    picture = random_clip((1, 3, 1, 32, 32), seed=1)
    with torch.no_grad():
        short, long = (model.forward_features(picture.expand(-1, -1, t, -1, -1)) for t in (32, 64))
    assert long.shape[2] == 2 * short.shape[2]
    middle = short.shape[2] // 2
    assert_close(short[:, :, middle], long[:, :, long.shape[2] // 2], tolerance=1e-5)


def test_numbers_of_frames_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match="takes a multiple of 4 frames, not 10"):
        zoo.create("test_slowfast", num_frames=10)
    with pytest.raises(ValueError, match="takes a multiple of 4 frames, not 6"):
        zoo.create("test_slowfast")(torch.zeros(1, 3, 6, 32, 32))
    with pytest.raises(ValueError, match="give at least 2, not 1"):
        zoo.create("test_c2d")(torch.zeros(1, 3, 1, 32, 32))


def test_fresh_blocks_start_as_their_shortcuts():
    for name in ("test_c2d", "test_slowfast", "test_csn"):
        norms = [m for key, m in zoo.create(name).named_modules() if key.endswith("bn3")]
        assert norms
        assert not any(norm.weight.any() for norm in norms)


def test_the_records_say_how_pytorchvideo_tests():
    weights = {
        f"{name}.{record.tag}": record
        for name in registry.list_models("*r50*") + registry.list_models("*r101*")
        for record in registry.info(name).weights
        if isinstance(record.source, registry.UpstreamSource)
        and record.source.layout == "pytorchvideo"
    }
    assert len(weights) == 14
    for name, record in weights.items():
        # PySlowFast's loader turns Something-Something and Charades to BGR and back.
        assert record.preprocess.channel_order == "rgb"
        assert (record.preprocess.mean, record.preprocess.std) == ((0.45,) * 3, (0.225,) * 3)
        assert record.source.url.endswith(f"/{record.source.filename}")
        tag = name.partition(".")[2]
        clips = {"ssv2": ("segments", 1), "charades": ("dense", 10)}.get(tag, ("span", 10))
        assert (record.sampling.rule, record.sampling.num_clips) == clips
        assert len(record.mirrors) == (tag != "charades")
