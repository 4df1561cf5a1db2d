"""What an audit found: the rules it knows, single findings, and the report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

__all__ = ["RULES", "Finding", "Level", "Report", "Rule"]

Level: TypeAlias = Literal["error", "warning", "note"]


@dataclass(frozen=True, slots=True)
class Rule:
    """A property of sampling or preprocessing that can be broken.

    Attributes:
        level: An error gives wrong clips, a warning doubtful ones, a note is worth knowing.
        why: What it does to a model.
        mend: What to do about it.
    """

    level: Level
    why: str
    mend: str


@dataclass(frozen=True, slots=True)
class Finding:
    """A rule that was seen broken.

    Attributes:
        rule: Its name in `RULES`.
        what: What was seen.
        example: The smallest call that shows it, with its answer.
    """

    rule: str
    what: str
    example: str

    @property
    def level(self) -> Level:
        """How bad it is."""
        return RULES[self.rule].level


@dataclass(frozen=True, slots=True)
class Report:
    """The findings of an audit, worst first.

    Attributes:
        subject: What was audited.
        behaviour: What it does, in words.
        findings: What is wrong with it.
    """

    subject: str
    behaviour: str
    findings: tuple[Finding, ...]

    @property
    def errors(self) -> tuple[Finding, ...]:
        """The findings that make clips wrong."""
        return tuple(finding for finding in self.findings if finding.level == "error")

    @property
    def ok(self) -> bool:
        """Whether there are no errors."""
        return not self.errors

    def names(self, level: Level | None = None) -> set[str]:
        """The rules that were broken, of one level or of all."""
        return {item.rule for item in self.findings if level in (None, item.level)}

    def text(self) -> str:
        """The report for people to read."""
        lines = [f"{self.subject}: {self.behaviour}"]
        for finding in self.findings:
            rule = RULES[finding.rule]
            lines += [
                f"{finding.level}: {finding.rule}: {finding.what}",
                f"  smallest example: {finding.example}",
                f"  why it matters: {rule.why}",
                f"  mend: {rule.mend}",
            ]
        counts = {level: len(self.names(level)) for level in _LEVELS}
        lines.append(
            ", ".join(f"{count} {level}{'s' * (count != 1)}" for level, count in counts.items())
        )
        return "\n".join(lines) + "\n"

    def to_json(self) -> dict[str, object]:
        """The report as plain values."""
        return {
            "subject": self.subject,
            "behaviour": self.behaviour,
            "ok": self.ok,
            "findings": [
                {
                    "level": finding.level,
                    "rule": finding.rule,
                    "what": finding.what,
                    "example": finding.example,
                    "why": RULES[finding.rule].why,
                    "mend": RULES[finding.rule].mend,
                }
                for finding in self.findings
            ],
        }


def make_report(subject: str, behaviour: str, findings: Sequence[Finding]) -> Report:
    """A report with the worst first, one finding a rule: the first that was found."""
    first: dict[str, Finding] = {}
    for finding in findings:
        first.setdefault(finding.rule, finding)
    ordered = sorted(first.values(), key=lambda item: _LEVELS.index(item.level))
    return Report(subject, behaviour, tuple(ordered))


_LEVELS: tuple[Level, ...] = ("error", "warning", "note")

_SAMPLER_RULES = {
    "crash": Rule(
        "error",
        "a video of this length ends the run",
        "handle every length from one frame on; repeat the last frame where there are too few",
    ),
    "refuses_short": Rule(
        "warning",
        "videos shorter than a clip drop out of the data set, or end the run",
        "repeat the last frame where there are too few",
    ),
    "empty_video": Rule(
        "note",
        "a video without frames is found out only when frame 0 cannot be read",
        "raise ValueError where the video has no frames",
    ),
    "not_indices": Rule(
        "error",
        "a decoder rounds or refuses what is no whole number",
        "return whole numbers; divide with //",
    ),
    "wrong_count": Rule(
        "error",
        "clips of another length than asked for do not batch, or the model refuses them",
        "return T indices for every length; repeat the last frame where there are too few",
    ),
    "negative": Rule(
        "error",
        "a negative index counts from the video's end, or crashes the decoder",
        "clamp the start of the window to 0",
    ),
    "out_of_range": Rule(
        "error",
        "the decoder crashes, or silently gives another frame",
        "the last index is total - 1; check < and <=, and frame numbers that start at 1",
    ),
    "wrong_order": Rule(
        "error",
        "motion runs backwards or jumps",
        "sort the indices",
    ),
    "duplicates": Rule(
        "error",
        "frames are read twice while others are never seen",
        "spread T different indices over the video where it has T frames or more",
    ),
    "skips_first": Rule(
        "error",
        "of T frames for a clip of T, the first is not taken: an index is off by one",
        "with as many frames as asked for, return 0 to T - 1",
    ),
    "skips_last": Rule(
        "error",
        "of T frames for a clip of T, the last is not taken: an index is off by one",
        "with as many frames as asked for, return 0 to T - 1; check total - 1 against total",
    ),
    "uneven": Rule(
        "error",
        "time runs at changing speed within a clip, which reads as acceleration",
        "keep neighbouring distances equal to within one frame",
    ),
    "uneven_random": Rule(
        "warning",
        "distances between frames vary freely, while tests see even ones",
        "draw one frame from each of T equal parts",
    ),
    "head_unreached": Rule(
        "error",
        "what happens at the start of a video is never seen",
        "begin within one step of the first frame",
    ),
    "tail_unreached": Rule(
        "error",
        "what happens at the end of a video is never seen; often a floored step, total // T",
        "multiply before dividing: i * total // T",
    ),
    "biased": Rule(
        "error",
        "some parts of a video are seen more often than others",
        "draw the start evenly from 0 to total - window, both included",
    ),
    "never_first": Rule(
        "warning",
        "random windows never include the first frame",
        "let the smallest start be 0",
    ),
    "never_last": Rule(
        "warning",
        "random windows never include the last frame, often because an upper bound is exclusive",
        "let the largest start be total - window, included",
    ),
    "one_end": Rule(
        "warning",
        "one clip, always from the same end, misses what happens later",
        "take the window from the middle, or several clips",
    ),
    "left_aligned": Rule(
        "note",
        "each index opens its part of the video, so the last part is seen at its start only",
        "nothing, if the weights were trained so; else take the middle of each part",
    ),
    "right_aligned": Rule(
        "note",
        "each index closes its part of the video",
        "nothing, if the weights were trained so; else take the middle of each part",
    ),
    "loops": Rule(
        "warning",
        "a short video starts anew within the clip: a jump back that no video shows",
        "repeat the last frame instead",
    ),
    "random_in_evaluation": Rule(
        "error",
        "the same video gives other frames, and another answer, each time",
        "take the middle instead of a random place when testing",
    ),
    "seed_ignored": Rule(
        "error",
        "a run cannot be repeated",
        "draw from the generator or seed that is given, or from one that can be seeded, and keep "
        "nothing between calls",
    ),
    "never_varies": Rule(
        "note",
        "training sees the same frames of a video in every epoch",
        "draw the place at random when training",
    ),
    "clips_repeated": Rule(
        "error",
        "averaging over clips that are the same adds nothing, and overstates the protocol",
        "spread the clips from the first possible start to the last",
    ),
    "clips_one_sided": Rule(
        "warning",
        "all clips of a video lie in one part of it",
        "spread the clips from the first possible start to the last",
    ),
    "train_test_differ": Rule(
        "warning",
        "training and testing show motion at different speed or from different stretches",
        "use the same number of frames, stride and rule for both",
    ),
    "stride_in_frames": Rule(
        "note",
        "a stride counted in frames shows videos of other rates at another speed",
        "count the stride in seconds where videos differ in frame rate",
    ),
}

_PIPELINE_RULES = {
    "pipeline_crash": Rule(
        "error",
        "a video cannot be read",
        "let the pipeline take the path of any video file",
    ),
    "wrong_axes": Rule(
        "error",
        "a model reads time as channels, or refuses the clip",
        "return float (C, T, H, W), or (N, C, T, H, W)",
    ),
    "not_repeatable": Rule(
        "error",
        "the same video gives another answer each time",
        "use no random crop, flip or colour when testing",
    ),
    "wrong_frame_count": Rule(
        "error",
        "the weights were trained on clips of another length",
        "take num_frames from the weights' record",
    ),
    "wrong_frames": Rule(
        "error",
        "the weights were trained on frames at another distance",
        "take the rule and the stride from the weights' record, or call zoo.load_clip",
    ),
    "wrong_range": Rule(
        "error",
        "pixels are many times too large or too small for the weights",
        "divide by 255 once, then normalise once",
    ),
    "normalised_twice": Rule(
        "error",
        "mean and std were applied two times",
        "normalise in one place only",
    ),
    "wrong_normalisation": Rule(
        "error",
        "the weights were trained with another mean and std",
        "take mean and std from the weights' record",
    ),
    "wrong_channel_order": Rule(
        "error",
        "red and blue are exchanged; accuracy falls without any error",
        "convert BGR, as OpenCV reads it, to RGB",
    ),
    "wrong_size": Rule(
        "error",
        "the weights were trained on pictures of another size",
        "crop to img_size of the weights' record",
    ),
    "aspect_changed": Rule(
        "error",
        "things are squeezed, which the weights have not seen",
        "resize the short side, then crop; or as the weights' record says",
    ),
    "wrong_scale": Rule(
        "warning",
        "things are larger or smaller than in training",
        "resize as the weights' record says, then crop",
    ),
    "mirrored": Rule(
        "error",
        "left and right are exchanged; classes that name a direction become their opposite",
        "flip at training only, and not where labels name a side",
    ),
    "flips_direction_labels": Rule(
        "error",
        "a mirrored clip keeps a label that names the other side",
        "leave out the flip, or exchange the labels with it",
    ),
    "views_repeated": Rule(
        "error",
        "averaging over views that are the same adds nothing, and overstates the protocol",
        "take the clips from different places of the video",
    ),
    "fps_ignored": Rule(
        "error",
        "a video of another frame rate is seen at another speed than in training",
        "choose frames by time, at the rate of the weights' record",
    ),
}

RULES: Mapping[str, Rule] = {**_SAMPLER_RULES, **_PIPELINE_RULES}
