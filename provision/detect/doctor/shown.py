"""What shows, before it has a row's words; and which findings others explain."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from provision.detect.text import printable
from provision.model.diagnosis import KnownFailure
from provision.model.doctor import DoctorFinding
from provision.model.facts import Severity

LONGEST = 240
"""Characters of a piece of evidence that are shown."""
MOST = 4
"""Pieces of evidence that are shown of one finding: a box may have 16 GPUs that all have it."""

JAX_ON_CPU = frozenset({"jax-cuda-plugin", "jax-cpu-wheel"})
NO_GPU = frozenset({"no-cuda-device", *JAX_ON_CPU})
"""What frameworks say in the end, whatever it was that kept CUDA from starting."""
REFUSED = frozenset({"driver-not-loaded", "module-load-failed", "module-finds-no-gpu", "module-not-permitted"})
"""What modprobe, NVIDIA's installer and nvidia-smi say in the end, whatever it was that kept the module out."""
NOT_BUILT = frozenset({"module-build-failed", "dkms-build-failed", "driver-not-loaded", "module-missing"})
NCCL = frozenset({"nccl", "nccl-timeout"})

EXPLAINS: Mapping[str, frozenset[str]] = {
    "gpu-fell-off-the-bus": frozenset(
        {"gpu-lost", "no-devices", "driver-silent", "gpu-not-driven", "init-failed", "xid-43", "xid-45", "xid-154"}
    ),
    "bar-not-assigned": frozenset({*REFUSED, "init-failed", "no-devices", "driver-silent", "gpu-not-driven"}),
    "gpu-lost": frozenset({"driver-silent", "gpu-not-driven"}),
    "xid-13": frozenset({"xid-43", "xid-45"}),
    "xid-31": frozenset({"xid-43", "xid-45"}),
    "xid-48": frozenset({"xid-45", "xid-171", "ecc-error"}),
    "xid-144": frozenset({"xid-45"}),
    "open-module-refuses": frozenset(
        {*REFUSED, "init-failed", "no-devices", "wrong-flavour", "driver-silent", "gpu-not-driven"}
    ),
    "needs-open-module": frozenset(
        {*REFUSED, "init-failed", "no-devices", "wrong-flavour", "driver-silent", "gpu-not-driven"}
    ),
    "init-failed": frozenset({*REFUSED, "no-devices", "driver-silent", "gpu-not-driven"}),
    "wrong-flavour": frozenset({"no-devices", "gpu-not-driven"}),
    "legacy-gpu": frozenset({*REFUSED, "init-failed", "no-devices", "driver-silent", "gpu-not-driven"}),
    "gsp-firmware": frozenset({*REFUSED, "init-failed", "no-devices", "driver-silent"}),
    "gpu-not-of-release": frozenset({*REFUSED, "init-failed", "no-devices", "driver-silent", "gpu-not-driven"}),
    "module-key-rejected": frozenset({*REFUSED, "not-loaded-after-reboot", "key-not-enrolled"}),
    "key-not-enrolled": frozenset({*REFUSED, "not-loaded-after-reboot"}),
    "key-waits": frozenset({*REFUSED, "not-loaded-after-reboot", "key-not-enrolled", "module-key-rejected"}),
    "mismatch": frozenset({"driver-not-loaded", "reboot-required", "library-mix", "cuda-unknown-error", *NO_GPU}),
    "waits-for-reboot": frozenset(
        {"nouveau", "no-driver", "driver-not-loaded", "module-missing", "mismatch", "reboot-required"}
    ),
    "nouveau": frozenset({*REFUSED, "not-loaded-after-reboot", "no-driver", "probe-not-called"}),
    "probe-not-called": frozenset({*REFUSED, "no-devices"}),
    "headers-missing": frozenset({"module-for-other-kernel", "not-loaded-after-reboot", "dkms-skipped", *NOT_BUILT}),
    "kernel-compiler": frozenset({"compiler-differs", *NOT_BUILT}),
    "driver-too-old-for-kernel": frozenset({"compiler-differs", *NOT_BUILT}),
    "disk-full": frozenset({"module-build-failed", "dkms-build-failed"}),
    "module-build-failed": frozenset({"driver-not-loaded", "dkms-build-failed", "module-missing"}),
    "dkms-build-failed": frozenset({"driver-not-loaded", "module-missing"}),
    "headers-incomplete": NOT_BUILT,
    "compiler-missing": NOT_BUILT,
    "module-missing": frozenset({"driver-not-loaded", "not-loaded-after-reboot"}),
    "module-finds-no-gpu": frozenset({"driver-not-loaded", "no-devices", "module-load-failed"}),
    "module-not-permitted": frozenset({"driver-not-loaded", "module-load-failed"}),
    "module-for-other-kernel": frozenset({*REFUSED, "module-missing", "no-driver", "not-loaded-after-reboot"}),
    "gpu-reserved-for-guest": frozenset({*REFUSED, "no-driver", "no-devices", "probe-not-called"}),
    "half-held": frozenset({"unattended-upgrades"}),
    "mixed-repositories": frozenset({"packages-differ"}),
    "half-installed": frozenset({"packages-differ", "module-missing"}),
    "two-installers": frozenset({"library-mix"}),
    "masked-flags": frozenset({"cpu-below-numpy"}),
    "nvcc-architecture": frozenset({"gpu-too-old-for-cuda"}),
    "numpy-abi": frozenset({"numpy-2"}),
    "gpu-memory": frozenset({"out-of-memory"}),
    "skips-gpu": frozenset({"no-cuda-drivers"}),
    "library-missing": NO_GPU,
    "libcuda-unversioned": NO_GPU,
    "cgroup-rights": frozenset({"container-cli"}),
    "library-path": NO_GPU,
    "cuda-library-missing": NO_GPU,
    "driver-too-old": NO_GPU,
    "driver-combination": NO_GPU,
    "forward-compatibility": NO_GPU,
    "fabric-manager-version": frozenset({"fabric-manager", *NO_GPU}),
    "fabric-manager": NO_GPU,
    "uvm-missing": frozenset({"cuda-unknown-error", *NO_GPU}),
    "cuda-unknown-error": NO_GPU,
    "no-cuda-device": JAX_ON_CPU,
    "jax-cuda-plugin": frozenset({"jax-cpu-wheel"}),
    "shared-memory": NCCL,
    "nccl-duplicate-gpu": NCCL,
    "nccl-no-interface": NCCL,
    "nccl-unreachable": NCCL,
    "cudnn-older": frozenset({"cudnn-init"}),
    "docker-no-gpu": frozenset({"docker-not-configured"}),
}
"""By finding: those that are only its consequence, and are not told beside it."""

ORDER = {"error": 0, "warning": 1, "info": 2}


@dataclass(frozen=True, slots=True, kw_only=True)
class Shown:
    id: str
    """Of a row."""
    evidence: str
    where: str
    severity: Severity | None = None
    """Where it is another one than the row's."""


def told(shown: Iterable[Shown], rows: Sequence[KnownFailure]) -> tuple[DoctorFinding, ...]:
    """With the rows' words: errors first, then in the table's order; consequences of others left out."""
    by_id: dict[str, list[Shown]] = {}
    for each in shown:
        by_id.setdefault(each.id, []).append(each)
    explained = {other for name in by_id for other in EXPLAINS.get(name, ())}
    found = [_told(by_id[row.id], row) for row in rows if row.id in by_id and row.id not in explained]
    return tuple(sorted(found, key=lambda each: ORDER[each.severity]))


def _told(shown: Sequence[Shown], row: KnownFailure) -> DoctorFinding:
    """The gravest, the first among equals, and with it the others of the same place: several GPUs may be ill."""
    worst = min(shown, key=lambda each: ORDER[each.severity or row.severity])
    more = [each.evidence for each in shown if each.where == worst.where and each.evidence != worst.evidence]
    lines = [worst.evidence, *dict.fromkeys(more)]
    text = "; ".join(printable(line, LONGEST) for line in lines[:MOST])
    return DoctorFinding(
        id=row.id,
        severity=worst.severity or row.severity,
        what=row.what or row.id.replace("-", " "),
        evidence=text + (f"; and {len(lines) - MOST} more" if len(lines) > MOST else ""),
        where=worst.where,
        cause=row.cause,
        remedy=row.remedy,
        source=row.source,
    )
