"""Experiments that show what the models are for; each is a command and a committed page."""

from zoo.experiments.fitting import Budget
from zoo.experiments.flops import measure_costs
from zoo.experiments.flops_report import costs_as_json, costs_page
from zoo.experiments.machine import describe_machine
from zoo.experiments.motion import Plan, run_motion
from zoo.experiments.motion_report import motion_as_json, motion_page, write_motion

__all__ = [
    "Budget",
    "Plan",
    "costs_as_json",
    "costs_page",
    "describe_machine",
    "measure_costs",
    "motion_as_json",
    "motion_page",
    "run_motion",
    "write_motion",
]
