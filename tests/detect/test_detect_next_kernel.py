"""The kernel that the next boot takes, from /boot and the boot loader's own words."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from provision.detect.next_kernel import module_version, next_kernel, other_modules
from provision.model.readings import Readings

OLD, NEW = "6.8.0-59-generic", "6.8.0-60-generic"


def answer(running: str | None, *lines: str) -> str | None:
    return next_kernel(Readings({"boot_kernels": "".join(f"{line}\n" for line in lines)}), running)


def installed(*releases: str) -> list[str]:
    return [f"kernel {release}" for release in releases]


@pytest.mark.parametrize(
    ("running", "others", "expected"),
    [
        # an unattended upgrade brought one
        (OLD, [OLD, NEW], NEW),
        (NEW, [OLD, NEW], None),
        (NEW, [NEW], None),
        # 9 is before 10
        ("6.1.0-9-amd64", ["6.1.0-9-amd64", "6.1.0-28-amd64"], "6.1.0-28-amd64"),
        ("6.12.57+deb13-amd64", ["6.12.57+deb13-amd64", "6.12.117+deb13-amd64"], "6.12.117+deb13-amd64"),
        ("6.1.0-0.deb11.28-amd64", ["6.1.0-0.deb11.28-amd64", "6.1.0-0.deb11.31-amd64"], "6.1.0-0.deb11.31-amd64"),
        ("5.14.0-427.el9.x86_64", ["5.14.0-427.13.1.el9_4.x86_64", "5.14.0-427.el9.x86_64"],
         "5.14.0-427.13.1.el9_4.x86_64"),
        ("6.11.4-301.fc41.x86_64", ["6.11.4-301.fc41.x86_64", "6.12.5-200.fc41.x86_64"], "6.12.5-200.fc41.x86_64"),
        # which flavour goes first is the boot loader's matter: the one that runs was taken the last time
        (NEW, [NEW, "6.8.0-60-lowlatency", "6.8.0-60-generic-64k"], None),
        ("5.14.0-427.el9.x86_64", ["5.14.0-427.el9.x86_64", "5.14.0-503.el9.x86_64+debug"], None),
        # started by something else than /boot: a container's host, kexec, a cloud's own loader
        ("6.6.87.2-microsoft-standard", [OLD, NEW], None),
        (OLD, [], None),
    ],
)  # fmt: skip
def test_the_newest_kernel_boots_where_nobody_chose(running: str, others: list[str], expected: str | None) -> None:
    assert answer(running, *installed(*others)) == expected
    assert answer(running, *installed(*others), "GRUB_DEFAULT=0") == expected


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        # chosen for good: GRUB's menu by its titles and by its ids
        (['GRUB_DEFAULT="Advanced options for Ubuntu>Ubuntu, with Linux 6.8.0-59-generic"'], None),
        (["GRUB_DEFAULT=gnulinux-advanced>gnulinux-6.8.0-59-generic-advanced"], None),
        (["GRUB_DEFAULT=saved", "saved_entry=gnulinux-6.8.0-59-generic-advanced"], None),
        (["GRUB_DEFAULT=saved"], NEW),
        (["GRUB_DEFAULT=0", "saved_entry=gnulinux-6.8.0-59-generic-advanced"], NEW),
        # a file of grub.d after the main one
        (["GRUB_DEFAULT='Ubuntu, with Linux 6.8.0-59-generic'", "GRUB_DEFAULT=0"], NEW),
        # grub-reboot, for the next boot alone
        (["GRUB_DEFAULT=0", "next_entry=gnulinux-6.8.0-59-generic-advanced"], None),
        # grubby knows best
        (["GRUB_DEFAULT=saved", "default /boot/vmlinuz-6.8.0-59-generic"], None),
        (["default /boot/vmlinuz-6.8.0-60-generic"], NEW),
        # an entry of which nobody can tell what it starts
        (["GRUB_DEFAULT=1>2"], None),
        (["GRUB_DEFAULT=Windows Boot Manager"], None),
    ],
)
def test_the_boot_loader_was_told_what_to_take(words: list[str], expected: str | None) -> None:
    assert answer(OLD, *installed(OLD, NEW), *words) == expected


def test_without_a_reading_nothing_is_said() -> None:
    assert next_kernel(Readings({}), OLD) is None
    assert answer(None, *installed(OLD, NEW)) is None


def test_the_longest_release_that_an_entry_names() -> None:
    words = "GRUB_DEFAULT=gnulinux-6.8.0-60-generic-64k-advanced"
    assert answer(OLD, *installed(OLD, NEW, "6.8.0-60-generic-64k"), words) == "6.8.0-60-generic-64k"


def test_the_module_that_the_other_kernel_has() -> None:
    readings = Readings({"boot_kernels": f"kernel {OLD}\nkernel {NEW}\nmodule {NEW} 580.95.05\n"})
    assert module_version(readings, NEW) == "580.95.05"
    assert module_version(readings, OLD) is None


def test_the_kernels_that_have_a_module_newest_first() -> None:
    lines = "module 6.8.0-9-generic 570.211.01\nmodule 6.8.0-60-generic 580.95.05\nmodule no.kernel 1\nmodule\n"
    assert other_modules(Readings({"boot_kernels": lines})) == ((NEW, "580.95.05"), ("6.8.0-9-generic", "570.211.01"))
    assert other_modules(Readings({})) == ()


@given(
    st.lists(st.from_regex(r"\A[1-9]\.[0-9]{1,2}\.0-[0-9]{1,4}-(generic|amd64)\Z"), min_size=1, max_size=6),
    st.lists(st.text(max_size=40), max_size=3),
)
def test_it_is_always_an_installed_kernel_that_does_not_run(kernels: list[str], noise: list[str]) -> None:
    found = answer(kernels[0], *installed(*kernels), *noise)
    assert found is None or (found in kernels and found != kernels[0])
