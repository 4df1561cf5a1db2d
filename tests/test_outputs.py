"""The documents for assistants name only what exists."""

import re
from pathlib import Path

import pytest

import registry
from registry.names import LIFTING
from zoo.audit import RULES
from zoo.audit.conventions import CONVENTIONS
from zoo.picking import pick, rules_table
from zoo.picking.candidates import candidates
from zoo.picking.networks import LIFTED
from zoo.picking.wishes import Wishes

OUTPUTS = Path(__file__).parents[1] / "outputs"
DOCS = Path(__file__).parents[1] / "docs"
PICKER = OUTPUTS / "prompt-video-architecture-picker.md"


def test_the_auditors_skill_names_each_rule_and_convention_once():
    text = (OUTPUTS / "skill-frame-sampler-auditor.md").read_text(encoding="utf-8")
    table = text.partition("## What is looked for")[2].partition("## How to judge")[0]
    named = re.findall(r"`(\w+)`", table)
    assert sorted(named) == sorted(RULES)
    steps = text.partition("## Steps")[2].partition("2. Run it")[0]
    assert set(CONVENTIONS) <= set(re.findall(r"`(\w+)`", steps))


def picker_rows():
    """The rows of the picker's decision: what is picked, and the names in it."""
    text = PICKER.read_text(encoding="utf-8")
    table = text.partition("## Decision")[2].partition("Attention pattern")[0]
    rows = [line.split("|")[1:-1] for line in table.splitlines() if line.startswith("|")]
    return {row[0].strip(): re.findall(r"`([^`]+)`", row[2]) for row in rows[2:]}


def test_the_pickers_rules_are_the_programs():
    text = PICKER.read_text(encoding="utf-8")
    table = text.partition("<!-- rules: printed by `zoo pick --rules` -->\n")[2]
    assert table.partition("<!-- end of rules -->")[0] == rules_table()


@pytest.mark.parametrize("path", [PICKER, DOCS / "choosing.md"], ids=lambda path: path.name)
def test_the_picker_names_only_what_the_zoo_has(path):
    text = path.read_text(encoding="utf-8")
    lifted = {item.name for item in LIFTED}
    known = {*registry.list_models(), *registry.list_pretrained()}
    spans = re.findall(r"`([a-z0-9_]+(?:[:.][a-zA-Z0-9_.]+)?)`", text)
    names = [span for span in spans if re.search(r"_[a-z]*\d|\.|:|^s3d$|timesformer", span)]
    assert len(names) > 10
    for name in names:
        scheme, colon, target = name.partition(":")
        if colon:
            assert scheme in LIFTING
            assert name in lifted or target == "NAME", name
        elif name not in ("choosing.md",) and not name.startswith("zoo."):
            assert name in known, name


def test_the_pickers_examples_are_what_the_rules_say():
    rows = picker_rows()
    assert len(rows) == 9
    everything = {item.name: item for item in candidates(Wishes())}
    approaches = {
        "one frame tells the label": {"2d_pool"},
        "motion counts, small budget for inference": {"3d"},
        "motion decides, 2D speed is wanted": {"2d_shift"},
        "motion decides, few videos, an image network at hand": {"2plus1d", "3d"},
        "appearance and motion, tens of GFLOPs, many videos": {"transformer"},
        "mostly appearance, few videos or none": {"transformer"},
        "accuracy before all": {"transformer"},
    }
    for situation, allowed in approaches.items():
        assert {everything[name].approach for name in rows[situation]} <= allowed
    winners = {
        "one frame tells the label": {"motion": "none", "videos": 300, "gflops": 20},
        "motion decides, 2D speed is wanted": {"motion": "high", "gflops": 50},
        "mostly appearance, few videos or none": {"motion": "low", "videos": 300, "gflops": 60},
        "accuracy before all": {"motion": "high", "videos": 100_000},
    }
    for situation, wishes in winners.items():
        assert pick(latencies={}, **wishes).best[0].candidate.name in rows[situation]
