"""Versions keep the text they were given and order by their numbers."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from provision.model.versions import ComputeCapability, Dotted


def test_a_driver_version_prints_as_the_tools_print_it():
    assert str(Dotted("470.82.01")) == "470.82.01"


def test_driver_versions_order_by_number_not_by_letter():
    assert Dotted("470.82.01") < Dotted("470.256.02") < Dotted("580.65.06")


def test_a_missing_part_counts_as_zero():
    assert Dotted("12.5") == Dotted("12.5.0")
    assert hash(Dotted("12.5")) == hash(Dotted("12.5.0"))


@pytest.mark.parametrize("text", ["", "x", "v12", ".5"])
def test_what_is_no_version_is_refused(text):
    with pytest.raises(ValueError, match="not a dotted version"):
        Dotted(text)


@pytest.mark.parametrize(
    ("text", "expected"), [("8.6", "8.6"), ("sm_86", "8.6"), ("compute_120", "12.0"), ("90", "9.0")]
)
def test_compute_capability_in_every_spelling(text, expected):
    assert str(ComputeCapability.parse(text)) == expected


@pytest.mark.parametrize("text", ["", "8", "8.6.1", "sm_", "sm_90a", "nine"])
def test_what_is_no_compute_capability_is_refused(text):
    with pytest.raises(ValueError, match="not a compute capability"):
        ComputeCapability.parse(text)


@given(st.integers(1, 99), st.integers(0, 9))
def test_a_compute_capability_reads_back_from_both_its_names(major, minor):
    capability = ComputeCapability(major, minor)
    assert ComputeCapability.parse(str(capability)) == ComputeCapability.parse(capability.sm) == capability
