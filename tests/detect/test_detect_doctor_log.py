"""Every signature of the table against a message as it is printed, and against one that only looks like it."""

from __future__ import annotations

import pytest
from doctor_lines import ALSO, NEAR, NOTHING, PRINTED
from hypothesis import given, settings
from hypothesis import strategies as st

from provision.catalog.diagnostics import diagnostics
from provision.catalog.failures import build_failures
from provision.catalog.image_failures import image_failures
from provision.detect.doctor import doctor_log

ROWS = diagnostics()


def ids(text: str) -> list[str]:
    return [finding.id for finding in doctor_log(text, "train.log", ROWS).findings]


@pytest.mark.parametrize("row", [row for row in ROWS if row.symptoms], ids=lambda row: row.id)
def test_a_printed_message_is_known(row) -> None:
    noise = "epoch 1 of 5: loss 0.31\n"
    report = doctor_log(f"{noise * 50}{PRINTED[row.id]}\n{noise * 50}", "train.log", ROWS)
    found = next(each for each in report.findings if each.id == row.id)
    assert found.evidence
    assert found.evidence.strip("…") in " ".join(PRINTED[row.id].split())
    assert (found.where, found.cause, found.source) == ("train.log", row.cause, row.source)
    assert report.ok == all(each.severity == "info" for each in report.findings)


@pytest.mark.parametrize("row", [row for row in ROWS if row.symptoms], ids=lambda row: row.id)
def test_what_only_looks_like_a_message_is_not_it(row) -> None:
    number = row.id.removeprefix("xid-")
    xid = f"NVRM: Xid (PCI:0000:65:00): {number}77, pid=1\nigb (0000:02:00): {number}, link up"
    assert row.id not in ids(xid if number.isdigit() else NEAR[row.id])


@pytest.mark.parametrize("line", NOTHING)
def test_what_healthy_boxes_print_is_nothing(line: str) -> None:
    assert ids(line) == []


def test_an_xid_is_found_behind_thousands_of_another() -> None:
    text = (PRINTED["xid-31"] + "\n") * 5000 + PRINTED["xid-48"]
    assert ids(text) == ["xid-48", "xid-31"]


def test_the_program_s_error_explains_what_follows_it() -> None:
    assert ids("\n".join([PRINTED["xid-31"], PRINTED["xid-43"], PRINTED["xid-45"]])) == ["xid-31"]
    assert ids(PRINTED["xid-43"]) == ["xid-43"]
    assert ids(f"{PRINTED['gpu-fell-off-the-bus']}\n{PRINTED['xid-45']}") == ["gpu-fell-off-the-bus"]


@pytest.mark.parametrize(("line", "row"), ALSO)
def test_other_words_for_it_are_known_too(line: str, row: str) -> None:
    """As threads have them, and nothing else is found in the line."""
    assert ids(f"epoch 1 of 5\n{line}\nepoch 2 of 5") == [row]


def test_a_build_that_failed_is_told_by_its_reason() -> None:
    """As make.log has it (kernel 5.19 with gcc 11, and a driver of before kernel 5.12), with what DKMS says of it."""
    compiler = (
        "DKMS make.log for nvidia-535.98 for kernel 6.2.16-3-pve (x86_64)\n"
        "warning: the compiler differs from the one used to build the kernel\n"
        "  The kernel was built by: gcc (GCC) 12.2.0\n"
        "  You are using:           gcc (GCC) 11.3.0\n"
        f"{PRINTED['kernel-compiler']}\n"
        "make[1]: *** [scripts/Makefile.build:249: nvidia/nv.o] Error 1\n"
    )
    dkms = f"{PRINTED['dkms-build-failed']}\n{PRINTED['module-build-failed']}\n"
    assert ids(dkms + compiler) == ["kernel-compiler"]
    assert ids(f"{dkms}{PRINTED['compiler-differs']}\n{PRINTED['driver-too-old-for-kernel']}") == [
        "driver-too-old-for-kernel"
    ]
    assert ids(PRINTED["compiler-differs"]) == ["compiler-differs"]
    assert ids(f"{dkms}{PRINTED['disk-full']}") == ["disk-full"]


def test_what_jax_says_in_the_end_is_told_by_what_came_first() -> None:
    end = (
        "jaxlib.xla_extension.XlaRuntimeError: FAILED_PRECONDITION: No visible GPU devices.\n"
        "RuntimeError: Unable to initialize backend 'cuda': FAILED_PRECONDITION: No visible GPU devices.\n"
        f"WARNING:2025-06-06 20:45:54,562:jax._src.xla_bridge:791: {PRINTED['jax-cpu-wheel']} Falling back to cpu.\n"
    )
    assert ids(end) == ["no-cuda-device"]
    assert ids(f"failed call to cuInit: CUDA_ERROR_UNKNOWN: unknown error\n{end}") == ["cuda-unknown-error"]
    assert ids(f"RuntimeError: Unable to load cuSPARSE. Is it installed?\n{end}") == ["library-path"]
    assert ids(PRINTED["jax-cpu-wheel"]) == ["jax-cpu-wheel"]


def test_a_bare_999_names_no_module_that_is_missing() -> None:
    row = next(each for each in ROWS if each.id == "cuda-unknown-error")
    assert ids(PRINTED["cuda-unknown-error"]) == ["cuda-unknown-error"]
    assert "most often" in row.cause
    assert row.remedy.startswith("`provision doctor` on the box")
    assert ids(f"{PRINTED['uvm-missing']}\n{PRINTED['cuda-unknown-error']}") == ["uvm-missing"]
    assert ids(f"{PRINTED['mismatch']}\n{PRINTED['cuda-unknown-error']}") == ["mismatch"]


def test_a_segment_that_nccl_could_not_make_is_no_full_disk() -> None:
    log = (
        "misc/shmutils.cc:88 NCCL WARN Error: failed to extend /dev/shm/nccl-WU88OE to 9637892 bytes, error: No space "
        "left on device (28)\n"
        "RuntimeError: NCCL error in: ProcessGroupNCCL.cpp:1331, unhandled system error, NCCL version 2.18.5\n"
        "ncclSystemError: System call (e.g. socket, malloc) or external library call failed or device error. \n"
    )
    assert ids(log) == ["shared-memory"]


def test_every_xid_has_one_row() -> None:
    for number in range(1, 181):
        found = ids(f"NVRM: Xid (PCI:0000:65:00): {number}, pid=1")
        assert len(found) == 1, number
    assert ids("NVRM: Xid (PCI:0000:65:00): 177, pid=1") == ["xid-other"]


def test_an_image_s_failures_are_looked_for_in_an_image_s_log() -> None:
    def found(text: str) -> list[str]:
        return [each.id for each in doctor_log(text, "x", ROWS, images=image_failures()).findings]

    assert found("open /data/train.h5: Permission denied: read only") == []
    assert found("docker push lab/box\ndenied: requested access to the resource is denied") == ["registry-denied"]


def test_every_row_says_what_why_and_what_to_do() -> None:
    for row in ROWS:
        assert row.what, row.id
        assert row.cause, row.id
        assert row.remedy, row.id
        assert row.source, row.id
        assert not row.what.endswith("."), row.id


def test_a_consequence_is_not_told_beside_its_cause() -> None:
    both = PRINTED["gpu-fell-off-the-bus"] + "\n" + PRINTED["gpu-lost"] + "\n" + PRINTED["no-devices"]
    assert ids(both) == ["gpu-fell-off-the-bus"]


def test_a_gpu_that_does_not_start_is_told_by_its_reason() -> None:
    """As an RTX 5090 under the proprietary module prints it."""
    log = (
        "NVRM: The NVIDIA GPU 0000:02:00.0 (PCI ID: 10de:2c58)\n"
        "NVRM: installed in this system requires use of the NVIDIA open kernel modules.\n"
        "NVRM: GPU 0000:02:00.0: RmInitAdapter failed! (0x22:0x56:884)\n"
        "NVRM: GPU 0000:02:00.0: rm_init_adapter failed, device minor number 0\n"
        "No devices were found\n"
    )
    assert ids(log) == ["needs-open-module"]
    assert ids("\n".join(log.splitlines()[2:])) == ["init-failed"]


def test_an_open_module_on_a_pascal_card_is_told_from_a_card_that_is_too_old() -> None:
    """As the kernel's log has it, with its line breaks."""
    log = (
        "NVRM: The NVIDIA GPU 0000:01:00.0 (PCI ID: 10de:1b06)\n"
        "NVRM: installed in this system is not supported by open\n"
        "NVRM: nvidia.ko because it does not include the required GPU\n"
        "NVRM: System Processor (GSP).\n"
        "nvidia: probe of 0000:01:00.0 failed with error -1\n"
        "NVRM: The NVIDIA probe routine failed for 1 device(s).\n"
        "NVRM: None of the NVIDIA devices were initialized.\n"
    )
    assert ids(log) == ["open-module-refuses"]


def test_the_module_that_dkms_could_not_build_is_named_where_it_is_nvidia_s() -> None:
    failed = PRINTED["dkms-build-failed"]
    assert ids(f"{failed}\nConsult /var/lib/dkms/zfs/2.2.2/build/make.log for more information.") == [
        "dkms-build-failed"
    ]
    assert ids(f"{failed}\n{PRINTED['module-build-failed']}") == ["module-build-failed"]


def test_newer_drivers_print_xid_79_over_several_lines() -> None:
    assert ids("NVRM: GPU at PCI:0000:82:00: GPU-1\nNVRM: GPU 0000:82:00.0: GPU has fallen off the bus.\n") == [
        "gpu-fell-off-the-bus"
    ]


def test_errors_come_before_warnings_and_remarks() -> None:
    text = "\n".join([PRINTED["nnpack"], PRINTED["no-cuda-drivers"], PRINTED["mismatch"]])
    assert ids(text) == ["mismatch", "no-cuda-drivers", "nnpack"]


def test_a_remark_alone_is_nothing_wrong() -> None:
    assert doctor_log(PRINTED["nnpack"], "log", ROWS).ok


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_line_ends_and_colours_do_not_hide_anything(end: str) -> None:
    assert ids(f"one{end}\x1b[31m{PRINTED['cpu-wheel']}\x1b[0m{end}two") == ["cpu-wheel"]


def test_builds_and_images_are_known_too() -> None:
    rows = tuple({row.id: row for row in (*build_failures(), *ROWS)}.values())

    def found(text: str) -> list[str]:
        return [each.id for each in doctor_log(text, "build.log", rows, images=image_failures()).findings]

    assert found("gcc: fatal error: Killed signal terminated program cc1plus") == ["out-of-memory"]
    assert found("write /var/lib/docker/overlay2/x: no space left on device") == ["disk-full"]
    assert found("docker run\ntorch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2 GiB") == ["gpu-memory"]
    assert found(PRINTED["nvcc-architecture"]) == ["nvcc-architecture"]


@settings(max_examples=60, deadline=None)
@given(st.text(max_size=400), st.sampled_from(sorted(PRINTED.values())))
def test_any_text_is_read(text: str, printed: str) -> None:
    assert doctor_log(text, "log", ROWS).host == "log"
    cut = printed[: len(printed) // 2]
    doctor_log(f"{text}\n{cut}{text}", "log", ROWS)
