"""CPU targets and the options for them."""

from __future__ import annotations

import pytest
from worlds.hosts import AVX, V3, V4
from worlds.tables import CATALOG

from provision.resolve.copts import options, target

CLANG = "Ubuntu Clang 18.1.8"


def for_target(text: str, flags: tuple[str, ...] = (), compiler: str | None = CLANG) -> tuple[str, ...]:
    return options(target(text, flags, CATALOG), "x86_64", compiler, CATALOG)


def test_native_is_what_the_cpu_has_and_the_compiler_takes() -> None:
    assert for_target("native", V4) == (
        "-msse3",
        "-msse4.2",
        "-mavx",
        "-mavx2",
        "-mfma",
        "-mavx512f",
        "-mavx512vnni",
    )
    assert for_target("native", AVX) == ("-msse3", "-msse4.2", "-mavx")


def test_nothing_is_native_to_an_unknown_cpu() -> None:
    assert target("native", (), CATALOG).flags is None
    assert for_target("native") == ()


def test_generic_is_the_compilers_default() -> None:
    assert for_target("generic", V4) == ()


@pytest.mark.parametrize("text", ["x86-64-v3", "haswell"])
def test_levels_and_names(text: str) -> None:
    assert for_target(text) == ("-msse3", "-msse4.2", "-mavx", "-mavx2", "-mfma")


def test_a_list_of_flags_or_options() -> None:
    assert for_target("avx2,fma") == for_target("-mavx2,-mfma") == ("-mavx2", "-mfma")


@pytest.mark.parametrize(
    ("compiler", "takes"),
    [("GCC 11.3.0", False), ("GCC 12.2.0", True), ("Clang 13.0.1", False), ("Clang 14.0.6", True), (None, True)],
)
def test_an_option_that_the_compiler_does_not_know_is_left_out(compiler: str | None, takes: bool) -> None:
    assert ("-mavx512fp16" in for_target("avx512_fp16", compiler=compiler)) is takes


def test_an_option_that_nobody_saw_accepted_is_left_out() -> None:
    assert for_target("amx_complex", compiler="GCC 14.1") == ()
    assert for_target("amx_complex", compiler="Clang 19.1.7") == ("-mamx-complex",)


def test_a_flag_whose_option_is_no_use() -> None:
    assert for_target("xsave") == ()


@pytest.mark.parametrize("text", ["native", "x86-64-v4", "haswell", "zen3"])
def test_no_option_names_a_machine_or_the_fpu(text: str) -> None:
    assert not [option for option in for_target(text, V3) if option.startswith(("-march", "-mtune", "-mfpmath"))]
