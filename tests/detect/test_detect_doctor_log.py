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
    "pcie-width": "nvidia 0000:01:00.0: 15.752 Gb/s available PCIe bandwidth, limited by 8.0 GT/s PCIe x2 link",
    "open-module-refuses": "NVRM: installed in this system is not supported by open",
    "bar-not-assigned": "NVRM: This PCI I/O region assigned to your NVIDIA device is invalid:",
    "needs-open-module": "NVRM: installed in this system requires use of the NVIDIA open kernel modules.",
    "init-failed": "NVRM: GPU 0000:13:00.0: RmInitAdapter failed! (0x26:0x56:1463)",
    "forward-compatibility": (
        "Unexpected error from cudaGetDeviceCount(). Error 804: forward compatibility was attempted on non supported HW"
    ),
    "driver-combination": "(803 vs. 0) : system has unsupported display driver / cuda driver combination",
    "fabric-manager": "CUDA initialization: Error 802: system not yet initialized (Triggered internally at",
    "cuda-library-missing": "ImportError: libcublas.so.12: cannot open shared object file: No such file or directory",
    "cudnn-older": "Loaded runtime CuDNN library: 9.1.0 but source was compiled with: 9.3.0.  CuDNN library needs to",
    "ptxas-architecture": "ptxas fatal   : Value 'sm_121a' is not defined for option 'gpu-name'",
    "legacy-gpu": "NVRM: The NVIDIA GPU is supported through the NVIDIA 470.xx Legacy drivers. Please",
    "gsp-firmware": "NVRM: RmInitAdapter: Cannot initialize GSP firmware RM",
    "module-key-rejected": "modprobe: ERROR: could not insert 'nvidia': Key was rejected by service",
    "mismatch": "Failed to initialize NVML: Driver/library version mismatch",
    "nouveau": "ERROR: The Nouveau kernel driver is currently in use by your system.",
    "headers-missing": "Error! Your kernel headers for kernel 6.8.0-60-generic cannot be found at /lib/modules",
    "module-build-failed": "Consult /var/lib/dkms/nvidia/550.90.07/build/make.log for more information.",
    "dkms-build-failed": "Error! Bad return status for module build on kernel: 6.18.0 (x86_64)",
    "module-for-other-kernel": "nvidia: version magic '6.8.0-59-generic SMP' should be '6.8.0-60-generic SMP'",
    "driver-not-loaded": (
        "NVIDIA-SMI has failed because it couldn't communicate with the NVIDIA driver. Make sure that the latest NVIDIA"
    ),
    "no-devices": "No devices were found",
    "library-missing": "NVIDIA-SMI couldn't find libnvidia-ml.so library in your system.",
    "nvml-unknown-error": "Failed to initialize NVML: Unknown Error",
    "uvm-missing": "RuntimeError: CUDA unknown error - this may be due to an incorrectly set up environment, e.g.",
    "xid-other": "NVRM: Xid (PCI:0000:65:00): 154, GPU recovery action changed from 0x0 (None) to 0x2 (Node Reboot",
    "xid-13": "NVRM: Xid (PCI:0000:01:00): 13, pid=2208, name=python3, Graphics Exception: ESR 0x50c648=0x9000e",
    "xid-31": "NVRM: Xid (PCI:0000:01:00): 31, pid=77, name=python, Ch 00000008, MMU Fault: ENGINE GRAPHICS",
    "xid-32": "NVRM: Xid (PCI:0000:65:00): 32, pid=1, Channel ID 00000000 intr 00008000",
    "xid-38": "NVRM: Xid (PCI:0000:65:00): 38, 0010 00009297 00000000 00000000 00000000",
    "xid-43": "NVRM: Xid (PCI:0000:01:00): 43, pid=77, name=python, Ch 00000008",
    "xid-45": "NVRM: Xid (PCI:0000:01:00): 45, pid=77, name=python, Ch 00000008",
    "xid-48": "NVRM: Xid (PCI:0000:65:00): 48, pid=1234, An uncorrectable double bit error (DBE) has been",
    "xid-61": "NVRM: Xid (PCI:0000:65:00): 61, pid=1, 0cec(3098) 00000000 00000000",
    "xid-62": "NVRM: Xid (PCI:0000:65:00): 62, 2c5c(3270) 00000000 00000000",
    "xid-63": "NVRM: Xid (PCI:0000:65:00): 63, pid=1, Row Remapper: New row marked for remapping, reset gpu",
    "xid-64": "NVRM: Xid (PCI:0000:65:00): 64, pid=1, Dynamic Page Retirement: Fatal error, unable to retire",
    "xid-74": "NVRM: Xid (PCI:0000:65:00): 74, pid=1, NVLink: fatal error detected on link 2(0x10000, 0x0)",
    "xid-92": "NVRM: Xid (PCI:0000:65:00): 92, pid=1, High single-bit ECC error rate.",
    "xid-94": "NVRM: Xid (PCI:0000:65:00): 94, pid=1, Contained: LTC (0x1,0x0). RST: No, D-RST: No",
    "xid-95": "NVRM: Xid (PCI:0000:65:00): 95, pid=1, Uncontained: FBHUB. RST: Yes, D-RST: No",
    "xid-109": "NVRM: Xid (PCI:0000:65:00): 109, pid=1, name=python, Ch 00000038, errorString CTX SWITCH TIMEOUT",
    "xid-119": "NVRM: Xid (PCI:0000:65:00): 119, pid=1, Timeout after 6s of waiting for RPC response from",
    "xid-120": "NVRM: Xid (PCI:0000:65:00): 120, pid=1, GSP Error: Task 1 raised error code 0x5",
    "oom-killed": "[3605.1] Out of memory: Killed process 4711 (python3) total-vm:81234567kB, anon-rss:63210000kB",
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
    "cudnn-architecture": "RuntimeError: cuDNN error: CUDNN_STATUS_ARCH_MISMATCH",
    "cudnn-failed": "RuntimeError: cuDNN error: CUDNN_STATUS_EXECUTION_FAILED",
    "no-cuda-device": "RuntimeError: No CUDA GPUs are available",
    "jax-cpu-wheel": "An NVIDIA GPU may be present on this machine, but a CUDA-enabled jaxlib is not installed.",
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

NEAR = {
    "gpu-fell-off-the-bus": "NVRM: GPU 0000:82:00.0: on the bus; the last sale has fallen off",
    "gpu-lost": "GPU is lossless in this mode; determine the device handle of GPU 0",
    "pcie-width": "LnkSta: Speed 2.5GT/s (downgraded), Width x16 (ok)",
    "open-module-refuses": "NVRM: loading NVIDIA UNIX Open Kernel Module for x86_64  580.126.09",
    "bar-not-assigned": "pci 0000:01:00.0: BAR 1 [mem 0xe05c0000000-0xe05cfffffff 64bit pref]",
    "needs-open-module": "NVRM: loading NVIDIA UNIX Open Kernel Module for x86_64  580.95.05",
    "init-failed": "NVRM: RmInitAdapter done; rm_init_adapter is called for device minor number 0",
    "forward-compatibility": "CUDA forward compatibility is supported on this hardware",
    "driver-combination": "system has a display driver / cuda driver combination",
    "fabric-manager": "clock: the operating system not yet initialized its watchdog",
    "cuda-library-missing": "ImportError: libGL.so.1: cannot open shared object file: No such file or directory",
    "cudnn-older": "cuda_dnn.cc: Loaded cuDNN version 90300",
    "ptxas-architecture": "ptxas info    : Compiling entry function 'add' for 'sm_120'",
    "legacy-gpu": "installed the NVIDIA 470.xx Legacy driver",
    "gsp-firmware": "NVRM: GSP firmware RM initialized",
    "module-key-rejected": "module verification failed: signature and/or required key missing - tainting kernel",
    "mismatch": "Driver/library version match",
    "nouveau": "nouveau 0000:01:00.0: DRM: VRAM: 2048 MiB",
    "headers-missing": "Found kernel headers for kernel 6.8.0-60-generic at /lib/modules",
    "dkms-build-failed": "DKMS: status of the module build on kernel 6.8.0: good",
    "module-build-failed": "DKMS: build completed. Good return status for module build on kernel: 6.8.0",
    "module-for-other-kernel": "e1000e: version magic '6.8.0-59-generic' should be '6.8.0-60-generic'",
    "driver-not-loaded": "NVIDIA-SMI 580.95.05  Driver Version: 580.95.05  communicates with the NVIDIA driver",
    "no-devices": "nvidia-smi: 0 devices were found to be idle",
    "library-missing": "found libnvidia-ml.so in /usr/lib/x86_64-linux-gnu; NVML Shared Library found",
    "nvml-unknown-error": "Failed to initialize NVML: Driver Not Loaded",
    "uvm-missing": "curl: (35) error 999",
    "xid-other": "NVRM: Xid (PCI:0000:65:00): 79, pid=1, GPU has fallen off the bus.",
    "oom-killed": "systemd-oomd: Out of memory handling is on",
    "library-path": "nm: __nvJitLinkComplete_12_4 is a defined symbol; able to load cuSPARSE",
    "docker-no-gpu": 'docker: could not select device driver "amd" with capabilities: [[render]].',
    "container-cli": "nvidia-container-cli: initialization done",
    "shared-memory": "DataLoader worker (pid 91) exited unexpectedly",
    "driver-too-old": "CUDA driver version is sufficient for CUDA runtime version",
    "ptx-too-new": "the provided PTX was compiled with a supported toolchain",
    "no-kernel-image": "a kernel image is available for execution on the device",
    "old-search-library": "Successfully opened dynamic library libcudnn.so.8",
    "skips-gpu": "Registering GPU devices; dlopen of GPU libraries done",
    "nvrtc-unversioned": "Could load library libcudnn_cnn_infer.so.8",
    "cudnn-mix": "symbol foo, version V not defined in file libfoo.so with link time reference",
    "no-cuda-drivers": "Could find cuda drivers on your machine",
    "cpu-wheel": "torch 2.13 compiled with CUDA enabled",
    "no-nvcc": "nvcc: NVIDIA (R) Cuda compiler driver",
    "gcc-too-new": "gcc versions later than 12 are supported",
    "nvcc-architecture": "nvcc -gencode arch=compute_50,code=sm_50",
    "gpu-memory": "CUDA memory: allocated 2.00 GiB, free 20 GiB",
    "cublas-init": "CUBLAS_STATUS_SUCCESS",
    "cudnn-init": "Loaded cuDNN version 90100; created cudnn handle",
    "cudnn-architecture": "CUDNN_STATUS_SUCCESS",
    "cudnn-failed": "CUDNN_STATUS_SUCCESS",
    "no-cuda-device": "2 CUDA GPUs are available",
    "jax-cpu-wheel": "a CUDA-enabled jaxlib is installed",
    "device-assert": "host-side assert triggered",
    "nccl": "unhandled system error in the mail queue",
    "illegal-instruction": "counted 3 IllegalInstruction traps in the emulator's own tests",
    "numpy-baseline": "NumPy was built with optimizations: AVX2",
    "jaxlib-avx": "This version of jaxlib was built using LLVM",
    "nnpack": "NNPACK initialized",
    "numpy-abi": "numpy.dtype size 96",
    "libc-too-old": "the compiler wants GLIBC_2.28 and found it; GLIBCXX_3.4.29 too",
    "ncurses5": "libtinfo.so.6: cannot open shared object file",
    "managed-python": "python is externally-managed",
    "no-matching-wheel": "Found a version that satisfies the requirement torch",
    "old-repository-key": "NO_PUBKEY 871920D1991BC93C",
    "mixed-repositories": "python3-numpy : Depends: python3 (>= 3.11) but it is not going to be installed",
    "module-stream": "Enabling module streams: nvidia-driver 580-open",
}
"""By row: what a healthy box or another program prints, which is not this row's."""

NOTHING = (
    "igb 0000:04:00.0: 4.000 Gb/s available PCIe bandwidth, limited by 5.0 GT/s PCIe x1 link",
    "E: Unable to correct problems, you have held broken packages.",
    "modprobe: ERROR: could not insert 'vboxdrv': Key was rejected by service",
    "pam_fscrypt[812]: Required key not available",
    "nvidia: module license 'NVIDIA' taints kernel.",
    "pci 0000:02:00.0: 31.504 Gb/s available PCIe bandwidth (8.0 GT/s PCIe x4 link)",
    *(line for row, line in NEAR.items() if row not in ("xid-other", "nvml-unknown-error")),
)


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
    xid = f"NVRM: Xid (PCI:0000:65:00): {number}7, pid=1\nigb (0000:02:00): {number}, link up"
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
