"""CPU readings: formats, levels and names, on small texts that show one thing each."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from provision.detect.cpu import cpu_facts
from provision.detect.cpu_models import BY_VENDOR, x86_names
from provision.detect.cpuinfo import CpuReading, read_cpuinfo
from provision.detect.levels import LEVELS, level, missing_for
from provision.detect.lscpu import read_lscpu
from provision.detect.microarchitecture import microarchitecture
from provision.detect.sysctl import read_sysctl
from provision.model.readings import Readings

HASWELL = (
    "fpu vme de pse tsc msr pae mce cx8 apic sep mtrr pge mca cmov pat pse36 clflush mmx fxsr sse sse2 ss ht syscall "
    "nx pdpe1gb rdtscp lm pni pclmulqdq ssse3 fma cx16 sse4_1 sse4_2 x2apic movbe popcnt aes xsave avx f16c rdrand "
    "lahf_lm abm fsgsbase bmi1 avx2 smep bmi2 erms invpcid xsaveopt"
)


def cpuinfo(flags: str, family: int = 6, model: int = 0x3C, vendor: str = "GenuineIntel") -> str:
    return (
        f"processor\t: 0\nvendor_id\t: {vendor}\ncpu family\t: {family}\nmodel\t\t: {model}\n"
        f"model name\t: some CPU\nstepping\t: 3\nflags\t\t: {flags}\n"
    )


def name_of(flags: str, family: int = 6, model: int = 0x3C, vendor: str = "GenuineIntel") -> str | None:
    read = read_cpuinfo(cpuinfo(flags, family, model, vendor))
    assert read is not None
    return microarchitecture(read)


def without(words: str, *gone: str) -> str:
    return " ".join(word for word in words.split() if word not in gone)


# --- names ----------------------------------------------------------------------------------------------------------


def test_a_cpu_with_everything_its_numbers_promise_has_a_name() -> None:
    assert name_of(HASWELL) == "haswell"


@pytest.mark.parametrize("hidden", ["abm", "avx2", "movbe", "fma"])
def test_a_missing_flag_gives_no_older_name(hidden: str) -> None:
    """archspec alone says "ivybridge", or "nehalem" where only abm is missing."""
    assert name_of(without(HASWELL, hidden)) is None


def test_a_guest_without_avx_is_no_nehalem() -> None:
    assert name_of(without(HASWELL, "avx", "avx2", "fma", "f16c", "bmi1", "bmi2", "abm", "movbe")) is None


@pytest.mark.parametrize(
    ("family", "model", "vendor"),
    [
        (6, 0x37, "GenuineIntel"),  # Silvermont
        (6, 0xBE, "GenuineIntel"),  # Gracemont
        (6, 0xA7, "GenuineIntel"),  # Rocket Lake
        (6, 0x8C, "GenuineIntel"),  # Tiger Lake
        (6, 0xAD, "GenuineIntel"),  # Granite Rapids
        (7, 0x3C, "GenuineIntel"),
        (6, 0x3C, "CentaurHauls"),
        (24, 1, "HygonGenuine"),
    ],
)
def test_a_cpu_that_archspec_does_not_know_has_no_name(family: int, model: int, vendor: str) -> None:
    assert name_of(HASWELL, family, model, vendor) is None


def test_without_numbers_a_flag_that_does_not_fit_takes_the_name_away() -> None:
    plain = CpuReading(arch="x86_64", vendor="GenuineIntel", flags=tuple(HASWELL.split()))
    assert microarchitecture(plain) == "haswell"
    nehalem = without(
        HASWELL, "avx", "avx2", "fma", "f16c", "bmi1", "bmi2", "abm", "movbe", "aes", "pclmulqdq", "rdrand"
    )
    nehalem = without(nehalem, "xsave", "xsaveopt", "fsgsbase")
    assert (
        microarchitecture(CpuReading(arch="x86_64", vendor="GenuineIntel", flags=tuple(nehalem.split()))) == "nehalem"
    )
    silvermont = (*nehalem.split(), "movbe", "pclmulqdq", "rdrand")
    assert microarchitecture(CpuReading(arch="x86_64", vendor="GenuineIntel", flags=silvermont)) is None


def test_every_name_in_the_table_is_archspecs() -> None:
    from archspec.cpu import TARGETS

    for vendor, rows in BY_VENDOR.items():
        for family, ranges, names in rows:
            for name in names:
                assert TARGETS[name].vendor == vendor
            assert x86_names(vendor, family, ranges[0][0]) == names, (vendor, hex(family), ranges)


def test_rows_of_one_family_do_not_overlap() -> None:
    for rows in BY_VENDOR.values():
        for family in {row[0] for row in rows}:
            models = [
                model for row in rows if row[0] == family for first, last in row[1] for model in range(first, last + 1)
            ]
            assert len(models) == len(set(models)), hex(family)


@pytest.mark.parametrize(
    ("parts", "vendor", "flags", "name"),
    [
        (("0x022", "0x023"), "Apple", None, "m1"),
        (("0x024", "0x025"), "Apple", None, "m1"),  # M1 Pro
        (("0xd87", "0xd85"), "ARM", None, None),  # GB10: two kinds of core, neither listed
        (("0xd4f",), "ARM", ("fp", "asimd"), None),  # a Neoverse V2 whose SVE is hidden
        ((), "ARM", None, None),
    ],
)
def test_arm_names_come_from_part_numbers(
    parts: tuple[str, ...], vendor: str, flags: tuple[str, ...] | None, name: str | None
) -> None:
    from archspec.cpu import TARGETS

    everything = tuple(frozenset().union(*(target.features for target in TARGETS.values())))
    read = CpuReading(arch="aarch64", vendor=vendor, parts=parts, flags=everything if flags is None else flags)
    assert microarchitecture(read) == name


@pytest.mark.parametrize(
    ("brand", "name"), [("Apple M1 Pro", "m1"), ("Apple M4 Max", "m4"), ("Apple M99", None), ("Apple processor", None)]
)
def test_macos_names_the_chip(brand: str, name: str | None) -> None:
    text = f"hw.optional.arm64: 1\nmachdep.cpu.brand_string: {brand}\nhw.logicalcpu: 8\nhw.physicalcpu: 8\n"
    assert cpu_facts(Readings({"sysctl": text})).microarchitecture == name


# --- levels ---------------------------------------------------------------------------------------------------------


def test_levels_build_on_each_other() -> None:
    have: frozenset[str] = frozenset()
    assert level(have) is None
    for name, flags in LEVELS:
        have |= flags
        assert level(have) == name
        assert missing_for(name, have) == ()
        for flag in flags:
            assert level(have - {flag}) != name
            assert missing_for(name, have - {flag}) == (flag,)


@given(st.sets(st.sampled_from(sorted(frozenset().union(*(flags for _, flags in LEVELS))))), st.data())
def test_one_more_flag_never_lowers_the_level(flags: set[str], data: st.DataObject) -> None:
    order = [None, *(name for name, _ in LEVELS)]
    more = data.draw(st.sampled_from(sorted(frozenset().union(*(needed for _, needed in LEVELS)))))
    assert order.index(level(flags | {more})) >= order.index(level(flags))


def test_avx512_without_avx2_is_no_level_4() -> None:
    flags = frozenset().union(*(needed for _, needed in LEVELS)) - {"avx2"}
    assert level(flags) == "x86-64-v2"


# --- formats --------------------------------------------------------------------------------------------------------


def test_blanks_or_tabs_before_the_colon() -> None:
    read = read_cpuinfo("processor : 0\nvendor_id : AuthenticAMD\ncpu family  : 26\nmodel   : 68\nflags   : fpu avx\n")
    assert read is not None
    assert (read.vendor, read.family, read.model, read.flags) == ("AuthenticAMD", 26, 68, ("avx", "fpu"))


def test_vmx_flags_are_not_cpu_flags() -> None:
    read = read_cpuinfo(cpuinfo("fpu avx") + "vmx flags\t: vnmi ept\n")
    assert read is not None
    assert read.flags == ("avx", "fpu")


def test_no_processor_lines_means_no_count() -> None:
    read = read_cpuinfo("flags\t\t: fpu avx\nmodel name\t: Intel(R) Core(TM) i5-4570 CPU @ 3.20GHz\n")
    assert read is not None
    assert read.arch == "x86_64"
    assert read.logical_cpus is None
    assert read.physical_cores is None


def test_a_text_that_lacks_siblings_gives_no_count() -> None:
    one = "processor\t: 2\nvendor_id\t: GenuineIntel\nphysical id\t: 0\nsiblings\t: 112\ncore id\t: 1\n"
    read = read_cpuinfo(one)
    assert read is not None
    assert (read.logical_cpus, read.physical_cores) == (None, None)
    facts = cpu_facts(Readings({"proc_cpuinfo": one, "nproc": "112\n"}))
    assert facts.logical_cpus == 112


def test_hyper_threads_and_sockets_are_counted() -> None:
    text = "".join(
        f"processor\t: {4 * socket + 2 * core + thread}\nvendor_id\t: GenuineIntel\nphysical id\t: {socket}\n"
        f"siblings\t: 4\ncore id\t: {core * 4}\nflags\t: fpu hypervisor\n\n"
        for socket in (0, 1)
        for core in (0, 1)
        for thread in (0, 1)
    )
    read = read_cpuinfo(text)
    assert read is not None
    assert (read.logical_cpus, read.physical_cores, read.hypervisor) == (8, 4, True)


@pytest.mark.parametrize("text", ["", "\n\n", "processor\t: 0\nprocessor\t: 1\n", "\x00\xff binary", "siblings : 4\n"])
def test_a_text_without_any_cpu_is_none(text: str) -> None:
    assert read_cpuinfo(text) is None
    assert read_lscpu(text) is None
    assert read_sysctl(text) is None


def test_uname_decides_the_machine() -> None:
    """POWER prints no byte order in cpuinfo."""
    power = "processor\t: 0\ncpu\t\t: POWER9, altivec supported\n"
    assert cpu_facts(Readings({"proc_cpuinfo": power})).arch == "ppc64le"
    old = {"proc_cpuinfo": power, "uname_a": "Linux host 3.10.0 #1 SMP ppc64 ppc64 ppc64 GNU/Linux\n"}
    assert cpu_facts(Readings(old)).arch == "ppc64"
    assert (
        cpu_facts(Readings({"uname_a": "Darwin host 21.6.0 Darwin Kernel Version 21.6.0: x arm64\n"})).arch == "aarch64"
    )


def test_cores_of_other_machines_come_from_the_topology() -> None:
    text = "processor\t: 0\nFeatures\t: fp asimd\nCPU implementer\t: 0x41\nCPU part\t: 0xd0c\n"
    facts = cpu_facts(Readings({"proc_cpuinfo": text * 4, "sys_cpu_topology": "0 0 0\n1 0 0\n2 0 1\n3 0 1\n"}))
    assert (facts.logical_cpus, facts.physical_cores) == (4, 2)


def test_intel_mac_flags_get_kernel_names() -> None:
    text = (
        "machdep.cpu.vendor: GenuineIntel\nmachdep.cpu.family: 6\nmachdep.cpu.model: 158\n"
        "machdep.cpu.features: FPU SSE3 SSE4.1 SSE4.2 AVX1.0 OSXSAVE VMM MON\n"
        "machdep.cpu.leaf7_features: AVX2 BMI1 SGX\nmachdep.cpu.extfeatures: XD EM64T LAHF LZCNT PREFETCHW\n"
    )
    read = read_sysctl(text)
    assert read is not None
    assert " ".join(read.flags) == (
        "3dnowprefetch abm avx avx2 bmi1 fpu hypervisor lahf_lm lm monitor nx pni sgx sse4_1 sse4_2"
    )
    assert read.hypervisor is True
