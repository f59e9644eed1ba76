"""Every signature of the table against a message as it is printed, and against one that only looks like it."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from provision.catalog.diagnostics import diagnostics
from provision.catalog.failures import build_failures
from provision.catalog.image_failures import image_failures
from provision.detect.doctor import doctor_log

ROWS = diagnostics()
PRINTED = {
    "gpu-fell-off-the-bus": "[81234.5] NVRM: Xid (PCI:0000:82:00): 79, pid=1, GPU has fallen off the bus.",
    "gpu-lost": "Unable to determine the device handle for GPU0000:82:00.0: GPU is lost.  Reboot the",
    "pcie-width": "pci 0000:01:00.0: 15.752 Gb/s available PCIe bandwidth, limited by 8.0 GT/s PCIe x2 link",
    "open-module-refuses": (
        "NVRM: installed in this system is not supported by open nvidia.ko because it does not include the required GPU"
    ),
    "legacy-gpu": "NVRM: The NVIDIA GPU is supported through the NVIDIA 470.xx Legacy drivers. Please",
    "gsp-firmware": "NVRM: RmInitAdapter: Cannot initialize GSP firmware RM",
    "module-key-rejected": "modprobe: ERROR: could not insert 'nvidia': Key was rejected by service",
    "mismatch": "Failed to initialize NVML: Driver/library version mismatch",
    "nouveau": "ERROR: The Nouveau kernel driver is currently in use by your system.",
    "headers-missing": "Error! Your kernel headers for kernel 6.8.0-60-generic cannot be found at /lib/modules",
    "module-build-failed": "Error! Bad return status for module build on kernel: 6.18.0 (x86_64)",
    "module-for-other-kernel": "nvidia: version magic '6.8.0-59-generic SMP' should be '6.8.0-60-generic SMP'",
    "driver-not-loaded": (
        "NVIDIA-SMI has failed because it couldn't communicate with the NVIDIA driver. Make sure that the latest NVIDIA"
    ),
    "no-devices": "No devices were found",
    "library-missing": "NVIDIA-SMI couldn't find libnvidia-ml.so library in your system.",
    "nvml-unknown-error": "Failed to initialize NVML: Unknown Error",
    "uvm-missing": "RuntimeError: CUDA unknown error - this may be due to an incorrectly set up environment, e.g.",
    "xid-hardware": "NVRM: Xid (PCI:0000:65:00): 48, pid=1234, An uncorrectable double bit error (DBE) has been",
    "xid-firmware": "NVRM: Xid (PCI:0000:65:00): 119, pid=1, Timeout after 6s of waiting for RPC response from",
    "xid-driver": "NVRM: Xid (PCI:0000:65:00): 32, pid=1, Channel ID 00000000 intr 00008000",
    "xid-program": "NVRM: Xid (PCI:0000:01:00): 31, pid=77, name=python, Ch 00000008, MMU Fault: ENGINE GRAPHICS",
    "library-path": "ImportError: libcusparse.so.12: undefined symbol: __nvJitLinkComplete_12_4, version",
    "docker-no-gpu": 'docker: Error response: could not select device driver "" with capabilities: [[gpu]].',
    "container-cli": "nvidia-container-cli: initialization error: load library failed: libnvidia-ml.so.1: cannot open",
    "shared-memory": "RuntimeError: DataLoader worker (pid 91) is killed by signal: Bus error. It is possible that",
    "driver-too-old": "The NVIDIA driver on your system is too old (found version 11040). Please update your GPU",
    "ptx-too-new": "CUDA error: the provided PTX was compiled with an unsupported toolchain.",
    "no-kernel-image": "RuntimeError: CUDA error: no kernel image is available for execution on the device",
    "old-search-library": "Could not load dynamic library 'libcudnn.so.8'; dlerror: libcudnn.so.8: cannot open",
    "skips-gpu": "Cannot dlopen some GPU libraries. Please make sure the missing libraries mentioned above are",
    "nvrtc-unversioned": "Could not load library libcudnn_cnn_infer.so.8. Error: libnvrtc.so: cannot open shared",
    "cudnn-mix": "symbol _ZN5cudnn not defined in file libcudnn_ops_infer.so.8 with link time reference",
    "no-cuda-drivers": "cudart_stub.cc:28] Could not find cuda drivers on your machine, GPU will not be used.",
    "cpu-wheel": "AssertionError: Torch not compiled with CUDA enabled",
    "no-nvcc": "OSError: CUDA_HOME environment variable is not set. Please set it to your CUDA install root.",
    "gcc-too-new": "error: #error -- unsupported GNU version! gcc versions later than 12 are not supported!",
    "nvcc-architecture": "nvcc fatal   : Unsupported gpu architecture 'compute_50'",
    "gpu-memory": "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total",
    "cublas-init": "RuntimeError: CUDA error: CUBLAS_STATUS_NOT_INITIALIZED when calling `cublasCreate(handle)`",
    "cudnn-init": "Failed to get convolution algorithm. This is probably because cuDNN failed to initialize, so",
    "cudnn-architecture": "RuntimeError: cuDNN error: CUDNN_STATUS_EXECUTION_FAILED",
    "device-assert": "RuntimeError: CUDA error: device-side assert triggered",
    "nccl": "torch.distributed.DistBackendError: NCCL error in: ProcessGroupNCCL.cpp:1970, unhandled cuda error",
    "illegal-instruction": "Illegal instruction (core dumped)",
    "numpy-baseline": "RuntimeError: NumPy was built with baseline optimizations: (X86_V2) but your machine",
    "jaxlib-avx": "RuntimeError: This version of jaxlib was built using AVX instructions, which your CPU and/or",
    "nnpack": "[W NNPACK.cpp:61] Could not initialize NNPACK! Reason: Unsupported hardware.",
    "numpy-abi": "ValueError: numpy.dtype size changed, may indicate binary incompatibility. Expected 96 from C",
    "libc-too-old": "ImportError: /opt/conda/lib/libstdc++.so.6: version `GLIBCXX_3.4.29' not found (required by",
    "ncurses5": "cuda-gdb: error while loading shared libraries: libtinfo.so.5: cannot open shared object file",
    "managed-python": "error: externally-managed-environment",
    "no-matching-wheel": "ERROR: Could not find a version that satisfies the requirement torch (from versions: none)",
    "old-repository-key": "The following signatures couldn't be verified: NO_PUBKEY A4B469963BF863CC",
    "mixed-repositories": " nvidia-driver-535 : Depends: libnvidia-gl-535 but it is not going to be installed",
    "module-stream": "Error: It is not possible to switch enabled streams of a module unless explicitly enabled via",
}
"""By row: what is printed (texts of the facts, with what stands around them)."""

NEAR = (
    "module verification failed: signature and/or required key missing - tainting kernel",
    "NVRM: loading NVIDIA UNIX Open Kernel Module for x86_64  580.126.09",
    "nvidia: module license 'NVIDIA' taints kernel.",
    "nvidia-smi: 0 devices were found to be idle",
    "LnkSta: Speed 2.5GT/s (downgraded), Width x16 (ok)",
    "e1000e: version magic is fine",
    "pci 0000:02:00.0: 31.504 Gb/s available PCIe bandwidth (8.0 GT/s PCIe x4 link)",
    "the compiler wants GLIBC_2.28 and found it",
    "python3-numpy : Depends: python3 (>= 3.11) but it is not going to be installed",
    "torch 2.13 compiled with CUDA enabled",
    "unhandled system error in the mail queue",
    "curl: (35) error 999",
    "nvcc: NVIDIA (R) Cuda compiler driver",
    'docker: could not select device driver "amd" with capabilities: [[render]].',
)
"""What a healthy box or another program prints."""


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


@pytest.mark.parametrize("line", NEAR)
def test_what_healthy_boxes_print_is_nothing(line: str) -> None:
    assert ids(line) == []


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
    rows = (*image_failures(), *build_failures(), *ROWS)
    report = doctor_log("gcc: fatal error: Killed signal terminated program cc1plus", "build.log", rows)
    assert "out-of-memory" in {each.id for each in report.findings}


@settings(max_examples=60, deadline=None)
@given(st.text(max_size=400), st.sampled_from(sorted(PRINTED.values())))
def test_any_text_is_read(text: str, printed: str) -> None:
    assert doctor_log(text, "log", ROWS).host == "log"
    cut = printed[: len(printed) // 2]
    doctor_log(f"{text}\n{cut}{text}", "log", ROWS)
