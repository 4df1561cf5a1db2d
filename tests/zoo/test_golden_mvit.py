"""Logits of the authors' own code, recorded as numbers; `tests/golden` names its version."""

import pytest
import torch
from golden_rule import clip, filled, golden
from scrambling import assert_close, assert_listens

import converters
import zoo
from zoo.models._mvit_weights import SLOWFAST
from zoo.models.mvit import MViT

CASES = golden("mvit")["cases"]
SMALL = [case for case in CASES if case.startswith("test_")]
FULL_DEPTH = ["mvit_v1_b_24", "mvit_v2_b"]


def _loaded(case):
    """The model of a case with the recorded tensors, by the rule and through the key map."""
    _, _, frames, size, _ = CASES[case]["clip"]
    state = filled(CASES[case]["shapes"])
    if case == "large":  # four blocks, one a stage, of the width of MViTv2-L
        model = MViT(2, 144, 4, 2, (1, 2, 3), num_classes=7, num_frames=frames, img_size=size)
        shapes = {key: value.shape for key, value in model.state_dict().items()}
        converted = SLOWFAST.convert(state, shapes)
    else:
        name, arguments = case.split()[0], {"num_frames": frames, "img_size": size}
        model = zoo.create(name, **arguments)
        converted = converters.convert(state, name=name, source="slowfast", **arguments)
    model.load_state_dict(converted, strict=True)
    return model.eval()


def _agree(model, case):
    shape, wanted = CASES[case]["clip"], torch.tensor(CASES[case]["logits"])
    with torch.no_grad():
        assert_close(model(clip(shape)), wanted)
        model.blocks[1].attn.proj.weight.mul_(1.1)
        error = (model(clip(shape)) - wanted).abs().max() / wanted.abs().max()
    assert error > 1e-3


@pytest.mark.parametrize("case", SMALL)
def test_mvit_gives_its_authors_logits(case):
    model = _loaded(case)
    assert_listens(model, CASES[case]["clip"])
    _agree(model, case)


@pytest.mark.slow
@pytest.mark.parametrize("case", FULL_DEPTH)
def test_deep_mvits_give_their_authors_logits(case):
    model = _loaded(case)
    assert_listens(model, CASES[case]["clip"])
    _agree(model, case)


def test_312_pixels_are_read_as_the_authors_read_them():
    """Their tables are sized for grids of 78, 39 and 19 places where there are 78, 39 and 20."""
    model = _loaded("large")
    assert [grid[1] for grid in model.grids] == [78, 39, 20, 10]
    rows = [block.attn.rel_pos_h.shape[0] for block in model.blocks]
    # The last stage queries 10 places of keys that are not pooled: 19 as the tables count.
    assert rows == [2 * 78 - 1, 2 * 39 - 1, 2 * 19 - 1, 2 * 19 - 1]
    _agree(model, "large")


@pytest.mark.parametrize(
    ("case", "part"),
    [
        ("test_mvit_v1", "pos_embed_spatial"),
        ("test_mvit_v1", "pos_embed_temporal"),
        ("test_mvit_v1", "pos_embed_class"),
        ("test_mvit_v2", "rel_pos_h"),
        ("test_mvit_v2", "rel_pos_t"),
        ("test_mvit_v2 odd", "rel_pos_w"),
        ("test_mvit_v2 odd", "norm1.bias"),
    ],
)
def test_every_kind_of_table_is_heard(case, part):
    model = _loaded(case)
    wanted = torch.tensor(CASES[case]["logits"])
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if part in name:
                parameter.zero_()
        error = (model(clip(CASES[case]["clip"])) - wanted).abs().max() / wanted.abs().max()
    assert error > 1e-3
