"""What NVIDIA's repositories and Debian's non-free have, as stub packages under the true names.

Names and relations: NVIDIA's driver installation guide (Debian), packages.debian.org, and the tables of the roles in
playbooks/. The kernel module is a source that the real dkms compiles on the host.
"""

from __future__ import annotations

import os
import subprocess
import sysconfig
import tempfile
from functools import cache
from pathlib import Path
from typing import Literal

from harness.gpu_packages import Deb, architecture

Module = Literal["open", "proprietary"]
FILES = Path(__file__).parent / "gpu_machine"
PLAYER = Path(__file__).parent / "nvml" / "nvml.c"
NVML_HOST = "/machine/nvml_host"
"""What NVML says on the machine: harness.gpu_machine.nvml writes it."""
KERNEL = os.uname().release
"""Containers run this machine's."""

LICENSES: dict[Module, str] = {"open": "Dual MIT/GPL", "proprietary": "NVIDIA"}
API = {"535": "12.2", "550": "12.4", "570": "12.8", "580": "13.0", "590": "13.1", "610": "13.3"}
"""CUDA version that nvidia-smi of a branch prints."""

FAULT = """\
static int nv_mmap(struct vm_area_struct *vma) { vm_flags_set(vma, 4); return 0; }
"""
"""Old drivers on new kernels fail this way: a kernel function that is not there (any more)."""

DKMS = """\
PACKAGE_NAME="{name}"
PACKAGE_VERSION="{version}"
AUTOINSTALL="yes"
MAKE[0]="make KERNEL_UNAME=${{kernelver}} modules"
CLEAN="make clean"
"""
_ENABLE = "dkms_name={name}\n/usr/lib/dkms/common.postinst $dkms_name {version} /usr/share/{package} '' \"$2\"\n"
_FORGET = '[ "$1" = failed-upgrade ] || dkms remove -m {name} -v {version} --all >/dev/null || true\n'
_UNIT = """\
[Unit]
Description=NVIDIA Persistence Daemon

[Service]
Type=forking
ExecStart=/usr/bin/nvidia-persistenced
Restart=on-failure

[Install]
WantedBy=multi-user.target
"""


@cache
def library(soname: str, version: str) -> bytes:
    """A shared library of that soname, for ldconfig. NVML's answers as the machine's module has it written down."""
    plays = soname == "libnvidia-ml.so.1"
    sources = [str(FILES / "nvml.c"), *([str(PLAYER)] if plays else [])]
    with tempfile.TemporaryDirectory() as folder:
        made = Path(folder) / "made.so"
        argv = ["gcc", "-shared", "-fPIC", f"-Wl,-soname,{soname}", f'-DDRIVER_VERSION="{version}"']
        argv += [f'-DNVML_HOST_FILE="{NVML_HOST}"'] if plays else ["-nostdlib"]
        subprocess.run([*argv, "-o", str(made), *sources], check=True, capture_output=True)
        return made.read_bytes()


@cache
def kernel_library(release_file: str) -> bytes:
    """What makes every program believe that the kernel's release is the one in that file."""
    with tempfile.TemporaryDirectory() as folder:
        made = Path(folder) / "made.so"
        argv = ["gcc", "-shared", "-fPIC", "-O2", f'-DRELEASE_FILE="{release_file}"', "-o", str(made)]
        subprocess.run([*argv, str(FILES / "kernel.c")], check=True, capture_output=True)
        return made.read_bytes()


def _libraries() -> str:
    return f"/usr/lib/{sysconfig.get_config_var('MULTIARCH')}"


def _lib(package: str, file: str, full: str, version: str, relations: dict[str, str], component: str) -> Deb:
    return Deb(
        name=package, version=full, relations=relations, component=component, architecture=architecture(),
        files={f"{_libraries()}/{file}.{version}": library(f"{file}.1", version)},
        scripts={"postinst": "ldconfig\n", "postrm": "ldconfig\n"},
    )  # fmt: skip


def _smi(version: str) -> bytes:
    text = (FILES / "nvidia-smi").read_text()
    return text.replace("@VERSION@", version).replace("@API@", API.get(version.split(".")[0], "13.0")).encode()


def _dkms_deb(
    package: str, full: str, version: str, module: Module, *, broken: bool, debian: bool, relations: dict[str, str]
) -> Deb:
    # Debian's own packages install nvidia.ko as nvidia-current.ko and nvidia-current-open.ko
    name = ("nvidia-current" if module == "proprietary" else "nvidia-current-open") if debian else "nvidia"
    source = f"/usr/src/{name}-{version}"
    text = (FILES / "module" / "nvidia.c").read_text().replace("/* @FAULT@ */", FAULT if broken else "")
    make = (FILES / "module" / "Makefile").read_text()
    make = make.replace("@VERSION@", version).replace("@LICENSE@", LICENSES[module])
    lines = DKMS.format(name=name, version=version)
    for number, suffix in enumerate(("", "-modeset", "-drm", "-uvm")):
        lines += f'BUILT_MODULE_NAME[{number}]="nvidia{suffix}"\nDEST_MODULE_NAME[{number}]="{name}{suffix}"\n'
        lines += f'DEST_MODULE_LOCATION[{number}]="/updates/dkms"\n'
    files = {f"{source}/nvidia.c": text.encode(), f"{source}/Makefile": make.encode()}
    words = {"name": name, "version": version, "package": package}
    return Deb(
        name=package, version=full, architecture=architecture(), section="kernel", relations=relations,
        component=("contrib" if module == "open" else "non-free") if debian else "main",
        files={**files, f"{source}/dkms.conf": lines.encode()},
        scripts={
            "postinst": f'[ "$1" = configure ] || exit 0\n{_ENABLE.format(**words)}', "prerm": _FORGET.format(**words)
        },
    )  # fmt: skip


def driver(version: str, *, broken: tuple[Module, ...] = (), libraries: str = "") -> list[Deb]:
    """The driver as NVIDIA's repository for Debian has it, both flavours.

    ``broken``: flavours whose module does not compile. ``libraries``: version of the user-space half where it differs
    from the module's (a repository caught in the middle of an update).
    """
    full, user = f"{version}-1", libraries or version
    user_full, branch = f"{user}-1", version.split(".")[0]
    exact = f"(= {user_full})"
    either = f"nvidia-kernel-dkms (>= {branch}) | nvidia-kernel-open-dkms (>= {branch})"
    arch = architecture()
    flavours: tuple[tuple[str, Module, str], ...] = (
        ("nvidia-kernel-dkms", "proprietary", "nvidia-kernel-open-dkms"),
        ("nvidia-kernel-open-dkms", "open", "nvidia-kernel-dkms"),
    )
    common = f"dkms (>= 3.0.3), nvidia-kernel-common (>= {full}), nvidia-modprobe"
    made = [
        _dkms_deb(
            package, full, version, module, broken=module in broken, debian=False,
            relations={
                "Depends": common, "Provides": f"nvidia-kernel-{version}", "Conflicts": other, "Replaces": other,
            },
        )
        for package, module, other in flavours
    ]  # fmt: skip
    depends = f"libcuda1 {exact}, libnvidia-ml1 {exact}, nvidia-persistenced, {either}"
    made += [
        Deb(name="nvidia-kernel-common", version=full, architecture=arch, relations={"Depends": "firmware-nvidia-gsp"}),
        Deb(
            name="firmware-nvidia-gsp", version=full,
            files={f"/usr/lib/firmware/nvidia/{version}/gsp_ga10x.bin": b"firmware\n"},
        ),
        Deb(name="nvidia-modprobe", version=full, architecture=arch, files={"/usr/bin/nvidia-modprobe": _MODPROBE}),
        Deb(
            name="nvidia-driver-cuda", version=user_full, architecture=arch, files={"/usr/bin/nvidia-smi": _smi(user)},
            relations={"Depends": depends, "Provides": "nvidia-smi"},
        ),
        Deb(name="nvidia-driver", version=user_full, architecture=arch, relations={"Depends": depends}),
        persistenced(user_full),
        _lib("libcuda1", "libcuda.so", user_full, user, {"Depends": f"libnvidia-ptxjitcompiler1 {exact}"}, "main"),
        _lib("libnvidia-ml1", "libnvidia-ml.so", user_full, user, {}, "main"),
        _lib("libnvidia-ptxjitcompiler1", "libnvidia-ptxjitcompiler.so", user_full, user, {}, "main"),
        *_metapackages(full, branch),
    ]  # fmt: skip
    return made


_MODPROBE = b"#!/bin/sh\n/usr/sbin/modprobe nvidia && /usr/sbin/modprobe nvidia_uvm\n"


def _metapackages(full: str, branch: str) -> list[Deb]:
    exact = f"(= {full})"
    closed = f"nvidia-driver-cuda {exact}, nvidia-kernel-dkms {exact}, nvidia-driver {exact}"
    opened = f"nvidia-driver-cuda {exact}, nvidia-kernel-open-dkms {exact}, nvidia-driver {exact}"
    pin = "Package: *nvidia* libcuda1 cuda-drivers*\nPin: version {branch}.*\nPin-Priority: 1000\n"
    return [
        Deb(name="cuda-drivers", version=full, relations={"Depends": closed}),
        Deb(name=f"cuda-drivers-{branch}", version=full, relations={"Depends": f"cuda-drivers {exact}"}),
        Deb(name="nvidia-open", version=full, relations={"Depends": opened}),
        Deb(name=f"nvidia-open-{branch}", version=full, relations={"Depends": f"nvidia-open {exact}"}),
        Deb(
            name=f"nvidia-driver-pinning-{branch}", version=f"{branch}-1",
            relations={"Provides": "nvidia-driver-pinning"},
            files={f"/etc/apt/preferences.d/nvidia-driver-pinning-{branch}": pin.format(branch=branch).encode()},
        ),
    ]  # fmt: skip


def persistenced(full: str, component: str = "main") -> Deb:
    return Deb(
        name="nvidia-persistenced", version=full, architecture=architecture(), component=component,
        files={
            "/usr/bin/nvidia-persistenced": (FILES / "nvidia-persistenced").read_bytes(),
            "/lib/systemd/system/nvidia-persistenced.service": _UNIT.encode(),
        },
        scripts={
            "postinst": "systemctl daemon-reload || true\n",
            "prerm": '[ "$1" != remove ] || systemctl disable --now nvidia-persistenced.service || true\n',
        },
    )  # fmt: skip


def debian_driver(version: str = "535.261.03", *, broken: tuple[Module, ...] = (), revision: str = "-1") -> list[Deb]:
    """The driver as Debian 12's own archive has it (names and relations read there on 2026-11-23, desktop left out).

    Its module is installed as nvidia-current.ko, the open one as nvidia-current-open.ko. nvidia-driver does not depend
    on libcuda1.
    """
    full, arch = f"{version}{revision}", architecture()
    exact = f"(= {full})"
    flavours: tuple[tuple[str, Module, str], ...] = (
        ("nvidia-kernel-dkms", "proprietary", "nvidia-kernel"),
        ("nvidia-open-kernel-dkms", "open", "nvidia-open-kernel"),
    )
    dkms = [
        _dkms_deb(
            package, full, version, module, broken=module in broken, debian=True,
            relations={
                "Depends": f"firmware-nvidia-gsp {exact}, {provided}-support--v1, dkms (>= 3.0.3-4~)",
                "Recommends": f"nvidia-driver (>= {version}) | libcuda1 (>= {version})",
                "Provides": f"{provided}-{version}, {package}-any (= {version})",
            },
        )
        for package, module, provided in flavours
    ]  # fmt: skip
    kernel = f"nvidia-kernel-dkms {exact} | nvidia-kernel-{version} | nvidia-open-kernel-{version}"
    install = "install nvidia modprobe -i nvidia-current $CMDLINE_OPTS\n"
    return [
        *dkms,
        Deb(
            name="nvidia-kernel-support", version=full, architecture=arch, component="non-free",
            relations={"Depends": "nvidia-modprobe", "Provides": "nvidia-kernel-support--v1"},
            files={"/etc/modprobe.d/nvidia-current.conf": install.encode()},
        ),
        Deb(
            name="nvidia-open-kernel-support", version=full, architecture=arch, component="contrib",
            relations={"Depends": "nvidia-modprobe", "Provides": "nvidia-open-kernel-support--v1"},
            files={"/etc/modprobe.d/nvidia-current-open.conf": install.replace("current", "current-open").encode()},
        ),
        Deb(
            name="nvidia-driver", version=full, architecture=arch, component="non-free",
            relations={"Depends": f"libnvidia-ml1 {exact}, {kernel}", "Recommends": "nvidia-persistenced"},
        ),
        Deb(
            name="nvidia-smi", version=full, architecture=arch, component="non-free",
            files={"/usr/bin/nvidia-smi": _smi(version)}, relations={"Depends": f"libnvidia-ml1 {exact}"},
        ),
        Deb(name="firmware-nvidia-gsp", version=full, component="non-free-firmware"),
        Deb(name="nvidia-modprobe", version="535.161.07-1~deb12u1", architecture=arch, component="contrib",
            files={"/usr/bin/nvidia-modprobe": _MODPROBE}),
        persistenced("535.171.04-1~deb12u1", "contrib"),
        _lib("libcuda1", "libcuda.so", full, version, {}, "non-free"),
        _lib("libnvidia-ml1", "libnvidia-ml.so", full, version, {}, "non-free"),
    ]  # fmt: skip


def kernel(release: str = KERNEL) -> list[Deb]:
    """The kernel that runs, as packages: image, headers with what dkms looks for, and the metapackages."""
    arch, build = architecture(), f"/usr/src/linux-headers-{release}"
    config = b'CONFIG_MODULE_SIG=y\nCONFIG_MODULE_SIG_HASH="sha256"\nCONFIG_CC_VERSION_TEXT="gcc (Debian 12.2.0)"\n'
    modules = f"/lib/modules/{release}"
    return [
        Deb(
            name=f"linux-image-{release}", version="1", architecture=arch, section="kernel",
            files={
                f"/boot/vmlinuz-{release}": b"kernel\n", f"/boot/config-{release}": config,
                f"{modules}/modules.order": b"", f"{modules}/modules.builtin": b"",
                f"{modules}/modules.builtin.modinfo": b"",
            },
            scripts={"postinst": f"depmod {release}\nupdate-initramfs -u -k {release}\n"},
        ),
        Deb(
            name=f"linux-headers-{release}", version="1", architecture=arch, section="kernel",
            files={
                f"{build}/include/generated/utsrelease.h": f'#define UTS_RELEASE "{release}"\n'.encode(),
                f"{build}/Makefile": b"# a kernel's build folder\n", f"{build}/.config": config,
                f"{build}/scripts/sign-file": (FILES / "sign-file").read_bytes(),
            },
            links={f"{modules}/build": build},
            scripts={"postinst": f"run-parts --arg={release} /etc/kernel/header_postinst.d\n"},
        ),
        Deb(name="mokutil", version="0.6.0-2"),  # the machine's own program is there already
        Deb(name=f"linux-image-{arch}", version="1", relations={"Depends": f"linux-image-{release}"}),
        Deb(name=f"linux-headers-{arch}", version="1", relations={"Depends": f"linux-headers-{release}"}),
    ]  # fmt: skip


def cuda_toolkit(version: str = "12.6") -> list[Deb]:
    """The toolkit's metapackage, nvcc, and the metapackage `cuda`, which would pull the newest driver in."""
    dashed, full, home = version.replace(".", "-"), f"{version}.3-1", f"/usr/local/cuda-{version}"
    said = f"nvcc: NVIDIA (R) Cuda compiler driver\nCuda compilation tools, release {version}, V{version}.85\n"
    nvcc = f"#!/bin/sh\ncat <<'END'\n{said}END\n"
    link = f"update-alternatives --install /usr/local/cuda cuda {home} {version.replace('.', '')}\n"
    common = f"cuda-toolkit-{dashed}-config-common"
    return [
        Deb(
            name=f"cuda-toolkit-{dashed}", version=full,
            relations={"Depends": f"cuda-nvcc-{dashed} (>= {version}), {common}"},
        ),
        Deb(name=f"cuda-nvcc-{dashed}", version=f"{version}.85-1", architecture=architecture(),
            files={f"{home}/bin/nvcc": nvcc.encode(), f"{home}/version.json": b"{}\n"}),
        Deb(name=common, version=f"{version}.77-1", scripts={"postinst": link}),
        Deb(name="cuda", version=full, relations={"Depends": f"cuda-toolkit-{dashed}, cuda-drivers"}),
    ]  # fmt: skip


def cudnn(version: str = "9.10.2.21", cuda: str = "12") -> list[Deb]:
    full, arch = f"{version}-1", architecture()
    exact = f"(= {full})"
    major, minor, patch = version.split(".")[:3]
    header = f"#define CUDNN_MAJOR {major}\n#define CUDNN_MINOR {minor}\n#define CUDNN_PATCHLEVEL {patch}\n"
    runtime = f"libcudnn9-cuda-{cuda}"
    files = {f"{_libraries()}/libcudnn.so.{'.'.join(version.split('.')[:3])}": library("libcudnn.so.9", version)}
    return [
        Deb(
            name=f"cudnn9-cuda-{cuda}", version=full,
            relations={"Depends": f"{runtime} {exact}, libcudnn9-dev-cuda-{cuda} {exact}"},
        ),
        Deb(name=runtime, version=full, architecture=arch, files=files, scripts={"postinst": "ldconfig\n"}),
        Deb(name=f"libcudnn9-dev-cuda-{cuda}", version=full, architecture=arch,
            relations={"Depends": f"{runtime} {exact}, libcudnn9-headers-cuda-{cuda} {exact}"}),
        Deb(name=f"libcudnn9-headers-cuda-{cuda}", version=full, architecture=arch,
            files={"/usr/include/cudnn_version.h": header.encode()}),
    ]  # fmt: skip


def container_toolkit(version: str = "1.18.0") -> list[Deb]:
    """The four packages of the container toolkit, which share a version; nvidia-ctk writes Docker's configuration."""
    full, arch = f"{version}-1", architecture()
    exact = f"(= {full})"
    ctk = (FILES / "nvidia-ctk").read_text().replace("@VERSION@", version)
    return [
        Deb(name="nvidia-container-toolkit", version=full, architecture=arch,
            relations={"Depends": f"nvidia-container-toolkit-base {exact}, libnvidia-container-tools {exact}"},
            files={"/usr/bin/nvidia-container-runtime-hook": b"#!/bin/sh\n"}),
        Deb(name="nvidia-container-toolkit-base", version=full, architecture=arch,
            files={"/usr/bin/nvidia-ctk": ctk.encode(), "/usr/bin/nvidia-container-runtime": b"#!/bin/sh\n"}),
        Deb(name="libnvidia-container-tools", version=full, architecture=arch,
            relations={"Depends": f"libnvidia-container1 {exact}"}),
        Deb(name="libnvidia-container1", version=full, architecture=arch),
    ]  # fmt: skip
