"""Experiments that show what the models are for; each is a command and a committed page."""

from zoo.benchmarking.machine import describe_machine
from zoo.experiments.families import compare_families, families_page
from zoo.experiments.fitting import Budget
from zoo.experiments.flops import measure_costs
from zoo.experiments.flops_report import costs_as_json, costs_page
from zoo.experiments.motion import Plan, run_motion
from zoo.experiments.motion_report import motion_as_json, motion_page, write_motion

__all__ = [
    "Budget",
    "Plan",
    "compare_families",
    "costs_as_json",
    "costs_page",
    "describe_machine",
    "families_page",
    "measure_costs",
    "motion_as_json",
    "motion_page",
    "run_motion",
    "write_motion",
]
