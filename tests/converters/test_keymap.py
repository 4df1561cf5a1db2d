"""Key maps are total: anything left over, missing or misshapen raises and is named."""

import pytest
import torch

from converters import QUERY_VALUE_BIAS, STACKED, TRANSPOSED, KeyMap, Merge, Rule

MAP = KeyMap(
    (
        Rule("stem.0", "stem.conv"),
        Rule("{stage}.{i}.attn", "{stage}.{i}.attn", copies=("{stage}.{i}.time_attn",)),
        Rule("{stage}.{i}.conv1.0", "{stage}.{i}.conv1", inflate=True),
    ),
    dropped={"fc": "picture classes"},
    new={"head": "random"},
)
SHAPES = {
    "stem.conv.weight": (2, 3),
    "layer1.0.attn.weight": (4,),
    "layer1.0.time_attn.weight": (4,),
    "layer1.0.conv1.weight": (2, 2, 3, 1, 1),
    "head.weight": (5, 2),
}


def _state():
    return {
        "stem.0.weight": torch.randn(2, 3),
        "layer1.0.attn.weight": torch.randn(4),
        "layer1.0.conv1.0.weight": torch.randn(2, 2, 1, 1),
        "fc.weight": torch.randn(1000, 2),
    }


def test_renames_copies_inflates_drops_and_leaves_new_keys_out():
    state = _state()
    found = MAP.convert(state, SHAPES)
    assert found.keys() == SHAPES.keys() - {"head.weight"}
    assert torch.equal(found["stem.conv.weight"], state["stem.0.weight"])
    assert torch.equal(found["layer1.0.time_attn.weight"], state["layer1.0.attn.weight"])
    assert torch.allclose(found["layer1.0.conv1.weight"].sum(2), state["layer1.0.conv1.0.weight"])
    assert all(tensor.is_contiguous() for tensor in found.values())


def test_rules_match_whole_segments_only():
    state = _state()
    state["stem.01.weight"] = torch.zeros(1)
    state["fcx.weight"] = torch.zeros(1)
    with pytest.raises(ValueError, match=r"unknown keys: stem\.01\.weight, fcx\.weight"):
        MAP.convert(state, SHAPES)


@pytest.mark.parametrize(
    ("harm", "sentence"),
    [
        (lambda s: s.update(stray=torch.zeros(1)), "unknown keys: stray"),
        (lambda s: s.pop("stem.0.weight"), r"missing keys: stem\.conv\.weight"),
        (
            lambda s: s.update({"stem.0.weight": torch.zeros(3, 3)}),
            r"wrong shapes: stem\.0\.weight is \(3, 3\), stem\.conv\.weight must be \(2, 3\)",
        ),
    ],
)
def test_what_does_not_fit_is_named(harm, sentence):
    state = _state()
    harm(state)
    with pytest.raises(ValueError, match=sentence):
        MAP.convert(state, SHAPES)


def test_two_sources_for_one_target_are_refused():
    twice = KeyMap((Rule("a", "x"), Rule("b", "x")))
    with pytest.raises(ValueError, match="unknown keys: b"):
        twice.convert({"a": torch.zeros(1), "b": torch.ones(1)}, {"x": (1,)})


def test_export_goes_back_and_refuses_where_there_is_no_way_back():
    plain = KeyMap((Rule("{s}.0", "{s}.conv"), Rule("fc", "head")))
    ours = {"stem.conv.weight": torch.randn(2), "head.bias": torch.randn(3)}
    back = plain.export(ours)
    assert back.keys() == {"stem.0.weight", "fc.bias"}
    assert torch.equal(back["fc.bias"], ours["head.bias"])
    with pytest.raises(ValueError, match="image model"):
        MAP.export(ours)
    with pytest.raises(ValueError, match="no place for: tail"):
        plain.export({"tail": torch.zeros(1)})


MERGING = KeyMap(
    (
        Merge(("{i}.q_bias", "{i}.v_bias"), "{i}.qkv.bias", QUERY_VALUE_BIAS),
        Merge(tuple(f"{{i}}.{part}" for part in ("query", "key", "value")), "{i}.qkv", STACKED),
        Merge(("proj",), "head.weight", TRANSPOSED),
    ),
    buffers=(Rule("{i}.relative_index", "{i}.index"),),
)
MERGED_SHAPES = {"0.qkv.weight": (6, 3), "0.qkv.bias": (6,), "head.weight": (2, 3)}


def _parts():
    parts = {f"0.{part}.weight": torch.randn(2, 3) for part in ("value", "key", "query")}
    biases = {"0.v_bias": torch.randn(2), "0.q_bias": torch.randn(2)}
    return {**parts, **biases, "proj": torch.randn(3, 2), "0.relative_index": torch.arange(4)}


def test_parts_are_merged_in_the_rules_order_and_split_again():
    state = _parts()
    found = MERGING.convert(state, MERGED_SHAPES)
    assert found.keys() == MERGED_SHAPES.keys()
    assert torch.equal(found["0.qkv.weight"][:2], state["0.query.weight"])
    assert torch.equal(found["0.qkv.weight"][4:], state["0.value.weight"])
    assert torch.equal(found["0.qkv.bias"][:2], state["0.q_bias"])
    assert not found["0.qkv.bias"][2:4].any()
    assert torch.equal(found["head.weight"], state["proj"].t())
    back = MERGING.export(found, {"0.index": torch.arange(4), "other": torch.zeros(1)})
    assert back.keys() == state.keys()
    assert all(torch.equal(back[key], state[key]) for key in state)


def test_an_incomplete_or_misshapen_merge_is_named():
    state = _parts()
    del state["0.key.weight"]
    with pytest.raises(ValueError, match=r"unknown keys: 0\.query\.weight, 0\.value\.weight; miss"):
        MERGING.convert(state, MERGED_SHAPES)
    state = _parts() | {"0.key.weight": torch.randn(2, 5)}
    with pytest.raises(ValueError, match=r"0\.query\.weight and .* cannot be joined"):
        MERGING.convert(state, MERGED_SHAPES)


def test_a_bias_that_the_layout_cannot_hold_is_refused():
    found = MERGING.convert(_parts(), MERGED_SHAPES)
    found["0.qkv.bias"][3] = 1.0
    with pytest.raises(ValueError, match="no place for the keys' bias"):
        MERGING.export(found)


def test_a_tubelet_of_even_length_takes_the_picture_kernel_in_its_centre():
    """Of a convolution that slides, an even kernel has no centre and is refused."""
    kernel, shapes = torch.randn(4, 3, 8, 8), {"patch.weight": (4, 3, 2, 8, 8)}
    tubelet = KeyMap((Rule("patch", "patch", inflate="tubelet"),))
    found = tubelet.convert({"patch.weight": kernel}, shapes, inflation="center")["patch.weight"]
    assert torch.equal(found[:, :, 1], kernel)
    assert not found[:, :, 0].any()
    found = tubelet.convert({"patch.weight": kernel}, shapes, inflation="mean")["patch.weight"]
    assert torch.equal(found, (kernel / 2)[:, :, None].expand(-1, -1, 2, -1, -1))
    sliding = KeyMap((Rule("patch", "patch", inflate=True),))
    with pytest.raises(ValueError, match="has no centre"):
        sliding.convert({"patch.weight": kernel}, shapes, inflation="center")


def test_what_no_classifier_reads_is_passed_over_and_left_out():
    keymap = KeyMap((Rule("a", "b"),), unread={"predictor.{i}": "reads no clip"})
    state = {"a.weight": torch.ones(2), "predictor.0.weight": torch.ones(3)}
    found = keymap.convert(state, {"b.weight": (2,)})
    assert found.keys() == {"b.weight"}
    assert keymap.convert({"a.weight": torch.ones(2)}, {"b.weight": (2,)}).keys() == {"b.weight"}
    assert keymap.export(found).keys() == {"a.weight"}
    with pytest.raises(ValueError, match="unknown keys: predictorx"):
        keymap.convert({**state, "predictorx": torch.ones(1)}, {"b.weight": (2,)})
