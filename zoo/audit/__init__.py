"""Find bugs in how a video pipeline samples frames and prepares pixels."""

from zoo.audit.findings import RULES, Finding, Report
from zoo.audit.pipeline import audit_pipeline
from zoo.audit.samplers import audit_sampler

__all__ = ["RULES", "Finding", "Report", "audit_pipeline", "audit_sampler"]
