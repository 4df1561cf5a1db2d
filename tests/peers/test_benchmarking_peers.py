"""What `zoo bench --against` compares with: the libraries' own modules, with our weights in them.

Most architectures have a file of their own here, which builds its peer by the same table.
"""

import pytest
import torch
from scrambling import assert_close, random_clip, scramble

import registry
import zoo
from converters import export
from zoo.benchmarking import measuring, peers
from zoo.benchmarking.measuring import Setting, Side, create_pair, measure

pytestmark = pytest.mark.peer
# pytorchvideo's MViT looks at values as it is built, which on the device `meta` there are none of;
# `test_mvit.py` builds it.
PAIRS = [
    (library, name)
    for library, recipes in peers.PEERS.items()
    for name in recipes
    if (library, name) != ("pytorchvideo", "mvit_v1_b")
]


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
@pytest.mark.parametrize(("library", "name"), PAIRS)
def test_the_peer_takes_exactly_our_tensors_at_full_size(library, name, monkeypatch):
    real = torch.linspace  # Hiera asks for the values of some
    monkeypatch.setattr(torch, "linspace", lambda *a, **k: real(*a, **{**k, "device": "cpu"}))
    recipe = peers.PEERS[library][name]
    with torch.device("meta"), peers._quiet():
        ours = registry.load(name).build(**recipe.arguments)
        theirs = recipe.build(ours).state_dict()
    exported = export(ours, target=recipe.layout, name=name)
    assert {key: value.shape for key, value in exported.items()} == {
        key: value.shape for key, value in theirs.items()
    }


@pytest.mark.parametrize(
    ("library", "name", "sizes"),
    [
        ("torchvision", "r3d_18", {"num_frames": 8, "img_size": 64}),
        ("torchvision", "mc3_18", {"num_frames": 8, "img_size": 64}),
        ("torchvision", "r2p1d_18", {"num_frames": 8, "img_size": 64}),
        ("transformers", "videomae_v2_s", {"img_size": 64, "native_size": 64}),
        ("hiera", "hiera_b", {"num_frames": 8, "img_size": 128}),
    ],
)
def test_logits_are_equal_at_other_clips_too(library, name, sizes):
    ours = zoo.create(name, **sizes)
    shape = (1, 3, ours.num_frames, ours.img_size, ours.img_size)
    scramble(ours, torch.zeros(2, *shape[1:]))
    peer = peers.beside(library, ours)
    shown, hidden = (random_clip(shape, seed=seed) for seed in (1, 2))
    with torch.no_grad():
        given = ours(shown)
        assert (given - ours(hidden)).abs().max() > 0.01 * given.abs().max()
        assert_close(given, peer(shown))


@pytest.mark.parametrize(
    ("library", "name", "sizes"),
    [
        ("torchvision", "swin3d_t", {"num_frames": 2}),
        ("torchvision", "mvit_v2_s", {}),
        ("pytorchvideo", "x3d_xs", {}),
        ("pytorchvideo", "slowfast_r50", {"img_size": 224}),
    ],
)
def test_a_step_of_training_drops_nothing_on_either_side(library, name, sizes):
    model, peer = create_pair(name, library, **sizes)
    clip = measuring.random_clip(model, batch_size=1)
    for module, inputs in ((model, [clip]), (peer.module, peer.prepare(clip.contiguous()))):
        side = Side(module, inputs)
        side.stepper()
        with torch.no_grad():
            torch.manual_seed(0)
            first = side._logits()
            torch.manual_seed(1)
            assert_close(side._logits(), first)


@pytest.mark.parametrize(
    ("library", "name"), [("pytorchvideo", "x3d_xs"), ("transformers", "xclip_b32")]
)
def test_a_measurement_beside_a_peer_says_that_logits_agree(library, name):
    found = measure(name, Setting(against=library, rounds=1))
    assert found.difference < 1e-4
    assert found.speed_up.median > 0
    assert found.as_json()["versions"].keys() == {"Python", "torch", library}
