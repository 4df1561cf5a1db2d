"""The documents for assistants name only what exists."""

import re
from pathlib import Path

from zoo.audit import RULES
from zoo.audit.conventions import CONVENTIONS

OUTPUTS = Path(__file__).parents[1] / "outputs"


def test_the_auditors_skill_names_each_rule_and_convention_once():
    text = (OUTPUTS / "skill-frame-sampler-auditor.md").read_text(encoding="utf-8")
    table = text.partition("## What is looked for")[2].partition("## How to judge")[0]
    named = re.findall(r"`(\w+)`", table)
    assert sorted(named) == sorted(RULES)
    steps = text.partition("## Steps")[2].partition("2. Run it")[0]
    assert set(CONVENTIONS) <= set(re.findall(r"`(\w+)`", steps))
