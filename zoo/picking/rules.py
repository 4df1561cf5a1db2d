"""By which rules models are picked: data, each with its source, for `zoo pick --rules`.

Two kinds. What a model must have decides whether it can be picked at all. What counts is added up
in points, of which one is worth one percentage point of top-1. Where no paper, experiment or record
gives a number, the source says that it is a choice of this project.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

__all__ = [
    "ENOUGH_VIDEOS",
    "EPOCHS",
    "FEW_VIDEOS",
    "FRAME_GAP",
    "ORDERS",
    "PERMISSIVE",
    "POINTS",
    "RULES",
    "SCRATCH_EPOCHS",
    "SECOND_YARDSTICKS",
    "SOME_VIDEOS",
    "TRAINING_PASSES",
    "VIEWS_MARGIN",
    "YARDSTICKS",
    "Rule",
    "rules_table",
]


@dataclass(frozen=True, slots=True)
class Rule:
    """One rule as a reader sees it.

    Attributes:
        key: Its name, which reasons and failures quote.
        kind: Whether it decides (`must`) or adds points (`counts`).
        says: The rule.
        source: Where it comes from.
    """

    key: str
    kind: Literal["must", "counts"]
    says: str
    source: str


PERMISSIVE = frozenset({"Apache-2.0", "MIT", "BSD-2-Clause", "BSD-3-Clause", "ISC", "CC-BY-4.0"})
"""Licences that allow commercial use; one that is not stated is not among them."""

ORDERS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "none": ("ignored", "reversal_blind", "used"),
        "low": ("ignored", "reversal_blind", "used"),
        "medium": ("reversal_blind", "used"),
        "high": ("used",),
    }
)
"""By motion, what a model may do with the order of frames."""

YARDSTICKS: Mapping[str, str | None] = MappingProxyType(
    {
        "none": None,
        "low": "kinetics400",
        "medium": "kinetics400",
        "high": "something_something_v2",
    }
)
"""By motion, the data set whose figures count."""

SECOND_YARDSTICKS: Mapping[str, str] = MappingProxyType(
    {"kinetics400": "kinetics600", "something_something_v2": "kinetics400"}
)
"""By yardstick, the data set whose figures order those that have none there."""

FRAME_GAP: Mapping[str, float] = MappingProxyType(
    {"none": math.inf, "low": math.inf, "medium": 1.1, "high": 0.5}
)
"""By motion, how many seconds two neighbouring frames may lie apart."""

VIEWS_MARGIN = 1.2
"""Percentage points by which one model's figure differs between two protocols of one data set."""

POINTS: Mapping[str, float] = MappingProxyType(
    {
        "no_figure": -5.0,
        "second_figure": -0.25,
        "cost_per_doubling": -0.5,
        "pictures_only": -5.0,
        "attention_from_pictures": -5.0,
        "few_videos_clip": 5.0,
        "scratch_attention": -10.0,
        "frozen": -5.0,
        "not_measured": -1.0,
        "demonstration": -30.0,
        "one_frame_2d": 5.0,
        "one_frame_pictures": 2.0,
    }
)
"""What each rule that counts adds."""

FEW_VIDEOS, SOME_VIDEOS, ENOUGH_VIDEOS = 1_000, 10_000, 100_000
EPOCHS, SCRATCH_EPOCHS = 30, 200
TRAINING_PASSES = 3
"""A step costs the forward pass and twice as much backwards."""

_CHOICE = "a choice of this project"
_MOTION = "benchmarks/experiments/motion.md"
_TIMESFORMER = "TimeSformer (arXiv 2102.05095), table 1"

RULES = (
    Rule(
        "motion",
        "must",
        "Where motion is high, the order of frames must change the answer; where it is medium, a "
        "model that ignores order is out; where one frame tells the label or nearly so, any will "
        "do.",
        f"{_MOTION}: without order at most 66.7 % of three directions, with order 100 %; "
        f"{_TIMESFORMER}: attention within frames alone has 76.9 on Kinetics-400 and 36.6 on "
        f"Something-Something v2, divided attention 78.0 and 59.5",
    ),
    Rule(
        "licence",
        "must",
        f"Permissive are {', '.join(sorted(PERMISSIVE))}; a licence that upstream does not state "
        f"is not permissive.",
        "the licence of each weights record; what the training videos allow is another question",
    ),
    Rule(
        "gflops",
        "must",
        "One answer may take that many 10^9 multiply-adds: those of one view, times the windows "
        "that the clip needs.",
        "the record's GFLOPs, counted (`zoo flops`)",
    ),
    Rule(
        "latency",
        "must",
        "A model that was measured on this machine and was slower is out; one that was not "
        "measured stays, and is told so.",
        "`zoo bench NAME`",
    ),
    Rule(
        "training",
        "must",
        f"Fine-tuning is estimated as videos x {EPOCHS} epochs x {TRAINING_PASSES} passes x 2 "
        f"operations x GFLOPs at what the GPU sustains; from scratch as {SCRATCH_EPOCHS} epochs. "
        f"What is too long for fine-tuning may train a classifier on frozen features, which takes "
        f"one pass; not so weights that saw only pictures, where motion is medium or high, since "
        f"their layers over time have learned nothing.",
        f"arithmetic; inflation repeats a picture's answer (docs/inflation.md); epochs and 20 x "
        f"10^12 operations a second are {_CHOICE} (--gpu-tflops)",
    ),
    Rule(
        "frames",
        "must",
        f"Neighbouring frames lie at most {FRAME_GAP['high']} s apart where motion is high and "
        f"{FRAME_GAP['medium']} s where it is medium; a clip that is longer than T such steps is "
        f"answered by several windows, and all their frames count.",
        "Something-Something v2's clips of about 4 s are told from 8 frames (tsm_r50.ssv2), "
        "Kinetics from 8 frames 32 / 30 s apart (timesformer_divided.k400)",
    ),
    Rule(
        "labels",
        "must",
        "Kinetics labels need a classifier of them. New labels with no video to train on need a "
        "model that reads class names.",
        "the records; X-CLIP (arXiv 2208.02816)",
    ),
    Rule("modality", "must", "The weights read what is given: RGB or optical flow.", "the records"),
    Rule("approach", "must", "Only the approach that was asked for.", "the wish"),
    Rule(
        "scratch",
        "must",
        f"Training from random weights needs {ENOUGH_VIDEOS:,} videos.",
        "3D ResNet-18 overfits UCF101, HMDB51 and ActivityNet and not Kinetics (Hara et al., arXiv "
        "1711.09577); the number between their sizes is " + _CHOICE,
    ),
    Rule(
        "accuracy",
        "counts",
        "Top-1 on one data set: Something-Something v2 where motion is high, Kinetics-400 where "
        "it is low or medium or labels are Kinetics', none where one frame tells the label. "
        "Figures of other data sets are never compared with these. A model without one counts "
        f"{-POINTS['no_figure']:g} below the lowest that the zoo has there; such models are "
        "ordered among themselves by Kinetics-400 (where Kinetics-400 is missing, by "
        f"Kinetics-600), {POINTS['second_figure']:+g} for each point below the zoo's best there. "
        f"Figures of other views do count, and {VIEWS_MARGIN} points between two protocols are "
        "not called a difference.",
        "the records: on one data set a model's figures under two protocols differ by up to 1.17 "
        f"(swin3d_b.k400); what an unknown figure counts is {_CHOICE}",
    ),
    Rule(
        "cost",
        "counts",
        f"{POINTS['cost_per_doubling']:+g} for each doubling of an answer's GFLOPs above 1.",
        "x3d_s, x3d_m and x3d_l gain 2.2 and 0.75 points a doubling; less than that is " + _CHOICE,
    ),
    Rule(
        "pictures_only",
        "counts",
        f"{POINTS['pictures_only']:+g} for weights that saw only pictures, with less than "
        f"{SOME_VIDEOS:,} videos; {POINTS['attention_from_pictures']:+g} more where attention over "
        f"time is new.",
        "I3D (arXiv 1705.07750): training on Kinetics first considerably improves small data sets; "
        f"{_MOTION}: from 600 videos convolutions name every video, a transformer 80 %; the "
        f"numbers are {_CHOICE}",
    ),
    Rule(
        "few_videos",
        "counts",
        f"{POINTS['few_videos_clip']:+g} for weights that come from CLIP, with less than "
        f"{FEW_VIDEOS:,} videos.",
        "X-CLIP (arXiv 2208.02816): 53.0 on HMDB51 from 2 videos a class; the number is " + _CHOICE,
    ),
    Rule(
        "scratch_attention",
        "counts",
        f"{POINTS['scratch_attention']:+g} for attention without trained weights, but for MViT; an "
        f"untrained network else counts what its published weights reached.",
        "MViT (arXiv 2104.11227) is trained on Kinetics from random weights, the others' authors "
        f"begin with pictures or masks; {_MOTION}: from random weights 80 % and not 100 %; the "
        f"number is {_CHOICE}",
    ),
    Rule(
        "frozen",
        "counts",
        f"{POINTS['frozen']:+g} where the budget allows frozen features only.",
        _CHOICE,
    ),
    Rule(
        "not_measured",
        "counts",
        f"{POINTS['not_measured']:+g} where a latency is asked for and was not measured.",
        _CHOICE,
    ),
    Rule(
        "demonstration",
        "counts",
        f"{POINTS['demonstration']:+g} for weights that saw only drawn scenes.",
        _CHOICE,
    ),
    Rule(
        "one_frame",
        "counts",
        f"Where one frame tells the label: {POINTS['one_frame_2d']:+g} for 2D and a mean over "
        f"frames, {POINTS['one_frame_pictures']:+g} for more pictures than ImageNet-1k.",
        f"{_TIMESFORMER}: without time 1.1 points less on Kinetics-400; records: c2d_r50.k400 has "
        f"71.46, i3d_r50.k400 73.27 for 1.5 times the GFLOPs; the numbers are {_CHOICE}",
    ),
)
"""The rules, in the order in which they are looked at."""


def rules_table() -> str:
    """The rules in Markdown, a row each."""
    kinds = {"must": "must hold", "counts": "counts"}
    rows = ["| rule | | what it says | source |", "|---|---|---|---|"]
    rows += [
        f"| `{rule.key}` | {kinds[rule.kind]} | {rule.says} | {rule.source} |" for rule in RULES
    ]
    return "\n".join(rows) + "\n"
