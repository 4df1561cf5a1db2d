"""Names as people write them, and what they are told when they mistype one."""

import random

import pytest

from registry.names import ModelName, did_you_mean, matches, natural_key, parse_name


@pytest.mark.parametrize(
    ("text", "parsed"),
    [
        ("r2p1d_18", ModelName("", "r2p1d_18", "")),
        ("r2p1d_18.k400", ModelName("", "r2p1d_18", "k400")),
        ("mvit_v2_s.in21k_ft_k400", ModelName("", "mvit_v2_s", "in21k_ft_k400")),
        # A tag starts at the first dot, and may hold more.
        ("x3d_m.k400_v1.1", ModelName("", "x3d_m", "k400_v1.1")),
        ("local-dir:models/mine", ModelName("local-dir", "models/mine", "")),
        # Behind a scheme, dots and colons belong to the path.
        ("local-dir:./runs/a.b", ModelName("local-dir", "./runs/a.b", "")),
        ("local-dir:C:/models/mine", ModelName("local-dir", "C:/models/mine", "")),
    ],
)
def test_a_name_splits_into_scheme_target_and_tag(text, parsed):
    assert parse_name(text) == parsed


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", r"A model name is text such as 'r2p1d_18' or 'r2p1d_18\.k400', not ''\."),
        (" r3d_18", r"not ' r3d_18'\."),
        ("r3d_18\n", r"not 'r3d_18\\n'\."),
        ("r3d_18.", r"^'r3d_18\.' ends in a dot; write 'r3d_18' or 'r3d_18\.TAG'\.$"),
        ("local-dir:", r"^'local-dir:' names nothing after its scheme; write 'local-dir:PATH'\.$"),
        (
            "local_dir:x",
            r"^Unknown scheme 'local_dir:' in 'local_dir:x'\. Known: local-dir:, .*:\. "
            r"Did you mean 'local-dir'\?$",
        ),
        # Nothing is near, so nothing is proposed.
        (
            "s3:bucket",
            r"^Unknown scheme 's3:' in 's3:bucket'\. Known: local-dir:, hf-hub:, .*:\.$",
        ),
        (":r3d_18", r"^Unknown scheme ':' in ':r3d_18'\."),
    ],
)
def test_what_is_no_name_is_refused_in_a_sentence(text, sentence):
    with pytest.raises(ValueError, match=sentence):
        parse_name(text)


@pytest.mark.parametrize(
    ("pattern", "fits"),
    [
        ("", True),
        ("p1d", True),  # without wildcards any part fits
        ("18", True),
        ("p1d*", False),  # with them only the whole name does
        ("*p1d*", True),
        ("r2p1d_1?", True),
        ("r2p1d_?", False),
        ("r[23]p1d_18", True),
        ("r[34]p1d_18", False),
        ("R2P1D", False),
        (("slow", "r2p"), True),
        (("slow", "x3d*"), False),
        ((), False),
    ],
)
def test_patterns_fit_the_whole_name_with_wildcards_and_any_part_without(pattern, fits):
    assert matches("r2p1d_18", pattern) is fits


@pytest.mark.parametrize("seed", range(5))
def test_numbers_in_names_sort_by_value(seed):
    ordered = [
        *("r2p1d_18", "r2p1d_nano", "r3d_18", "r10d_2"),
        *("test_r3d", "x", "x_8", "x_8x8", "x_16", "x_a", "2d_r18", "10d"),
    ]
    shuffled = random.Random(seed).sample(ordered, len(ordered))
    assert sorted(shuffled, key=natural_key) == ordered


def test_the_nearest_known_word_is_proposed_or_none():
    known = ("k400", "k600", "ssv2")
    assert did_you_mean("k40", known) == " Did you mean 'k400'?"
    assert did_you_mean("sv2", iter(known)) == " Did you mean 'ssv2'?"
    assert did_you_mean("kinetics", known) == ""  # one letter in common is not near
    assert did_you_mean("k400", ()) == ""
