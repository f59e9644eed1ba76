"""CPU targets and the options for them."""

from __future__ import annotations

from dataclasses import replace

import pytest
from worlds.hosts import AVX, V3, V4, host
from worlds.tables import CATALOG

from provision.errors import UsageError
from provision.resolve.copts import allowed, copts, expected, fleet_flags, options, target

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


def test_a_fleet_names_who_lacks_what() -> None:
    boxes = [replace(host(flags=flags), host=name) for name, flags in (("new", V4), ("old", AVX), ("mid", V3))]
    found = fleet_flags(boxes, CATALOG)
    assert found.flags == ("avx", "pni", "sse4_2", "xsave")
    assert found.lacking["avx2"] == ("old",)
    assert found.lacking["avx512f"] == ("mid", "old")
    fleet = target("fleet", V4, CATALOG, found.flags)
    assert [each.option for each in copts(fleet, "x86_64", CLANG, CATALOG)] == ["-msse3", "-msse4.2", "-mavx"]
    assert copts(fleet, "x86_64", CLANG, CATALOG)[0].reason == (
        "every host of the fleet has pni; Ubuntu Clang 18.1.8 takes it (Clang 3.9 and newer)"
    )


def test_a_fleet_of_two_kinds_or_of_strangers() -> None:
    arm = replace(host(flags=("asimd",), arch="aarch64"), host="arm")
    with pytest.raises(UsageError) as caught:
        fleet_flags([host(flags=V3), arm], CATALOG)
    assert caught.value.why == "these are aarch64 and x86_64, and no build runs on both"
    with pytest.raises(UsageError) as caught:
        fleet_flags([host(flags=()), arm], CATALOG)
    assert caught.value.why == "those of box are not known"
    with pytest.raises(UsageError) as caught:
        fleet_flags([], CATALOG)
    assert caught.value.why == "there is no host"


def test_what_the_audit_expects_and_allows() -> None:
    found = copts(target("native", V4, CATALOG), "x86_64", "GCC 12.2.0", CATALOG)
    assert expected(found) == ("avx", "avx2", "fma", "avx512f")
    assert {"avx512_vnni", "sse2", "mmx"} <= set(allowed(found, "x86_64", CATALOG))
    assert expected(()) == ()
    assert allowed((), "aarch64", CATALOG) == ("asimd", "fp")
