"""The keys of what --json prints that scripts rely on: said once, for the tests that see such a report."""

from __future__ import annotations

REPORT_KEYS = {
    "schema", "ok", "host", "environment", "changed", "steps", "checks", "smoke", "failures", "builds", "comparisons",
    "configured", "until", "driver",
}  # fmt: skip
"""`up`, `apply`, `verify`."""

SMOKE_KEYS = {
    "framework", "device", "dataset", "samples", "train_s", "samples_per_s", "accuracy", "peak_fraction", "speed_up",
    "speed_up_expected",
}  # fmt: skip
"""A report's ``smoke``."""
