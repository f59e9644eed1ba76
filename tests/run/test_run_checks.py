"""Which checks a plan needs."""

from __future__ import annotations

import ast
import gzip
import hashlib
import json
import struct
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from run_values import plan, stack

from provision import assets
from provision.catalog.gpu_rates import cards
from provision.errors import UsageError
from provision.model.build import Build, Copt, Needs, Source
from provision.model.data import from_data
from provision.model.facts import Facts, Gpu, Mig
from provision.model.nvidia import GpuHealth, HostNvidia
from provision.model.plan import Plan
from provision.run import checks

HOSTS = Path(__file__).resolve().parents[1] / "hosts"
FLAGS = {"tensorflow": ("avx", "sse4_2"), "numpy": ()}


def ids(found: tuple[checks.Check, ...]) -> list[str]:
    return [check.id for check in found]


def test_a_cpu_plan() -> None:
    found = checks.check_commands(plan(), FLAGS, mnist=True)
    assert ids(found) == [
        "cpu_flags",
        "memory_disk",
        "framework_import:tensorflow",
        "isa_baseline:tensorflow",
        "device_visible:tensorflow",
        "blas",
        "mnist:tensorflow",
    ]
    argv = {check.id: check.argv for check in found}
    assert argv["cpu_flags"] == ("cpu_flags.py", "--need", "avx,sse4_2")
    assert argv["framework_import:tensorflow"][-2:] == ("--version", "2.21.0")
    assert argv["mnist:tensorflow"] == (
        "mnist.py", "--framework", "tensorflow", "--device", "cpu", "--data", "{data}",
    )  # fmt: skip


def test_a_cuda_plan_looks_for_kernels() -> None:
    found = checks.check_commands(plan(stack("pytorch", device="cuda")), {}, mnist=False, gpus=("Tesla T4",))
    assert ids(found) == [
        "memory_disk",
        "gpu_driver",
        "framework_import:pytorch",
        "isa_baseline:pytorch",
        "device_visible:pytorch",
        "native_kernels:pytorch",
        "gpu_compute:pytorch",
        "gpu_state",
        "blas",
        "mnist:pytorch",
        "speed_up:pytorch",
    ]
    argv = {check.id: check.argv for check in found}
    assert argv["mnist:pytorch"][-3:] == ("--device", "cuda", "--download")
    assert argv["gpu_state"] == ("gpu_state.py", "--framework", "pytorch")


def test_a_card_is_measured_against_its_own_row() -> None:
    found = checks.check_commands(plan(stack("jax", device="cuda")), {}, mnist=False, gpus=("Tesla T4", "Tesla T4"))
    argv = next(check.argv for check in found if check.id == "gpu_compute:jax")
    assert argv.count("--card") == 1
    row = json.loads(argv[-1])
    assert (row["name"], row["fp32_tflops"]) == ("NVIDIA Tesla T4", 8.1)
    assert "tf32_tflops" not in row, "Turing has no tf32"
    unknown = checks.check_commands(plan(stack("jax", device="cuda")), {}, mnist=False, gpus=("what nobody knows",))
    assert "--card" not in next(check.argv for check in unknown if check.id == "gpu_compute:jax")


def test_mnist_is_trained_on_each_gpu() -> None:
    two = ("NVIDIA GeForce RTX 4090", "NVIDIA GeForce RTX 4090")
    found = checks.check_commands(plan(stack("pytorch", device="cuda")), {}, mnist=True, gpus=two)
    argv = {check.id: check.argv for check in found}
    assert argv["mnist:pytorch"][3:] == ("--device", "cuda", "--gpu", "0", "--data", "{data}")
    assert argv["mnist:pytorch:gpu1"][3:] == ("--device", "cuda", "--gpu", "1", "--data", "{data}")
    assert "mnist:pytorch:gpu2" not in argv


def test_where_the_gpus_are_not_known_one_check_trains_on_all() -> None:
    """In an image: what the engine hands over is seen inside alone."""
    found = checks.check_commands(plan(stack("pytorch", device="cuda")), {}, mnist=False)
    argv = {check.id: check.argv for check in found}
    assert argv["mnist:pytorch"][3:7] == ("--device", "cuda", "--gpu", "all")
    assert argv["gpu_compute:pytorch"].count("--card") == len(cards())


def test_numpy_and_keras_have_no_rates_of_a_gpu() -> None:
    both = plan(stack("keras", device="cuda"), stack("numpy", device="cpu"))
    found = ids(checks.check_commands(both, {}, mnist=False, gpus=("Tesla T4",)))
    assert {"gpu_driver", "native_kernels:keras", "mnist:keras"} <= set(found)
    assert not [each for each in found if each.startswith(("gpu_compute", "gpu_state", "speed_up"))]


def test_gpus_that_frameworks_will_see() -> None:
    def facts(*gpus: Gpu, kept: tuple[str, ...] = ()) -> Facts:
        health = tuple(GpuHealth(pci_address=address, kernel_driver="vfio-pci") for address in kept)
        return replace(FACTS, gpus=gpus, nvidia=HostNvidia(gpus=health))

    first, second = gpu("0000:01:00.0", "Tesla T4"), gpu("0000:02:00.0", None)
    assert checks.cuda_gpus(None) is None
    assert checks.cuda_gpus(facts(first, second)) == ("Tesla T4", "")
    assert checks.cuda_gpus(facts(first, second, kept=("0000:01:00.0",))) == ("",)
    hides = plan(replace(stack("pytorch", device="cuda"), environment={"CUDA_VISIBLE_DEVICES": "1"}))
    assert checks.cuda_gpus(facts(second, first), hides) == ("",)
    assert checks.cuda_gpus(facts(first, second), plan(stack("pytorch", device="cuda"))) == ("Tesla T4", "")
    sliced = replace(first, name="NVIDIA A100-SXM4-40GB", mig=Mig(enabled=True, devices=3))
    assert checks.cuda_gpus(facts(sliced, sliced)) == ("NVIDIA A100-SXM4-40GB",)
    empty = replace(sliced, mig=Mig(enabled=True, devices=0))
    assert checks.cuda_gpus(facts(empty, second, second)) == ("", "")


def gpu(address: str, name: str | None) -> Gpu:
    return Gpu(
        name=name, pci_address=address, pci_id=None, chip=None, architecture=None, compute_capability=None,
        memory_mib=None, mig=None, source="pci",
    )  # fmt: skip


FACTS = from_data(Facts, json.loads((HOSTS / "debian12-intelvm-nogpu-nodriver" / "facts.json").read_text()))


def test_a_gpu_checks_parts_travel_with_it() -> None:
    found = checks.check_commands(plan(stack("tensorflow", device="cuda")), {}, mnist=False)
    parts = {"gpu_nvml.py", "gpu_visible.py", "gpu_work.py", "mnist_devices.py", "mnist_fast.py", "mnist_nets.py"}
    assert parts <= checks.check_files(found).keys()


def test_two_frameworks_are_both_checked_and_the_box_once() -> None:
    found = ids(checks.check_commands(plan(stack(), stack("numpy", version="2.4.6")), FLAGS, mnist=False))
    assert found.count("memory_disk") == found.count("blas") == 1
    assert [each for each in found if each.startswith("mnist")] == ["mnist:tensorflow", "mnist:numpy"]


@pytest.mark.parametrize("blas", ["openblas", "mkl", None])
def test_a_numpy_that_was_built_must_have_the_blas_that_was_asked_for(blas: str | None) -> None:
    build = Build(
        framework="numpy", version="2.4.6", device="cpu", engine="uv", python="3.11", distributions=("numpy",),
        source=Source(kind="index", location="numpy==2.4.6"), compiler=None, cpu="native", copts=(), expect=(),
        allow=(), runs_here=True, environment={}, needs=Needs(memory_mib_per_job=1, disk_mib=1, tmp_mib=1), blas=blas,
    )  # fmt: skip
    made = replace(plan(stack("numpy", version="2.4.6", origin="source")), builds=(build,))
    argv = {check.id: check.argv for check in checks.check_commands(made, {}, mnist=False)}
    assert argv["blas"] == ("blas.py", *(("--expect", blas) if blas else ()))


def build(framework: str = "tensorflow", version: str = "2.15.1") -> Build:
    return Build(
        framework=framework, version=version, device="cpu", engine="bazel",
        source=Source(kind="tree", location="/src"), python="3.11", distributions=(framework,), compiler=None,
        cpu="zen4", copts=(Copt(option="-mavx2", flag="avx2", reason=""), Copt(option="-mfma", flag="fma", reason="")),
        expect=("avx2", "fma"), allow=("avx", "avx2", "fma", "sse4_2"), runs_here=True, environment={},
        needs=Needs(memory_mib_per_job=1, disk_mib=1, tmp_mib=1),
    )  # fmt: skip


def built() -> Plan:
    return replace(plan(stack(origin="source", version="2.15.1")), builds=(build(),))


def test_a_source_build_is_audited_before_it_is_trained() -> None:
    found = checks.check_commands(built(), checks.needed_flags(built()), mnist=True)
    assert ids(found)[-3:] == ["blas", "isa_audit:tensorflow", "mnist:tensorflow"]
    audit = found[-2]
    assert audit.argv == (
        "isa_audit.py", "--framework", "tensorflow", "--expect", "avx2,fma", "--allow", "avx,avx2,fma,sse4_2",
        "--seconds", str(checks.AUDIT_S),
    )  # fmt: skip
    assert audit.timeout_s > checks.AUDIT_S
    assert {"isa_audit.py", "isa_tables.py", "isa_files.py", "isa_dispatch.py"} <= checks.check_files(found).keys()


def test_a_source_build_needs_the_flags_that_it_was_compiled_for() -> None:
    assert checks.needed_flags(built()) == {"tensorflow": ("avx", "avx2", "fma", "sse4_2")}
    found = checks.check_commands(built(), checks.needed_flags(built()), mnist=False)
    assert found[0].argv == ("cpu_flags.py", "--need", "avx,avx2,fma,sse4_2")


def test_what_runs_the_framework_needs_the_flags_first() -> None:
    found = checks.check_commands(built(), checks.needed_flags(built()), mnist=False)
    free = {check.id for check in found if not check.needs}
    assert free == {"cpu_flags", "memory_disk", "isa_audit:tensorflow"}
    assert {check.needs for check in found} == {"", "cpu_flags"}
    assert {row["id"] for row in checks.check_data(found) if not row["needs"]} == free


def test_without_flags_to_ask_about_nothing_waits() -> None:
    found = checks.check_commands(plan(stack("pytorch")), {}, mnist=False)
    assert {check.needs for check in found} == {""}


def test_every_option_exists_in_its_script() -> None:
    both = (stack(device="cuda"), stack("numpy", version="2.4.6"))
    found = checks.check_commands(replace(plan(*both), builds=(build(),)), FLAGS, mnist=True)
    files = checks.check_files(found)
    for check in found:
        known = {
            node.value
            for node in ast.walk(ast.parse(files[check.argv[0]]))
            if isinstance(node, ast.Constant) and isinstance(node.value, str) and node.value.startswith("--")
        }
        assert {word for word in check.argv if word.startswith("--")} <= known, check.id
    assert {"mnist_data.py"} <= files.keys()


NAMES = ("train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte")
SHARED = Path(__file__).resolve().parents[3] / "shared" / "data" / "mnist"


def form(name: str, samples: int) -> bytes:
    """A file of the right form for ``name``, with no ink in it."""
    if "images" in name:
        return struct.pack(">IIII", 2051, samples, 28, 28) + bytes(samples * 784)
    return struct.pack(">II", 2049, samples) + bytes(samples)


@pytest.fixture
def digits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with four files of MNIST's form; their sums stand for MNIST's."""
    folder, rows = tmp_path / "digits", []
    folder.mkdir()
    module = checks._mnist_data()
    for name, magic, samples, _ in module.FILES:
        content = form(name, samples)
        (folder / name).write_bytes(content)
        rows.append((name, magic, samples, hashlib.sha256(content).hexdigest()))
    monkeypatch.setattr(module, "FILES", tuple(rows))
    return folder


def test_mnist_files_in_each_spelling(digits: Path) -> None:
    spellings = [NAMES[0], f"{NAMES[1]}.gz", NAMES[2].replace("-idx", ".idx"), f"{NAMES[3].replace('-idx', '.idx')}.gz"]
    for name, spelling in zip(NAMES, spellings, strict=True):
        content = (digits / name).read_bytes()
        (digits / name).unlink()
        (digits / spelling).write_bytes(gzip.compress(content, 1) if spelling.endswith(".gz") else content)
    assert checks.mnist_files(digits) == tuple(digits.resolve() / spelling for spelling in spellings)
    assert checks.mnist_files(None) == ()


def test_a_missing_mnist_file_is_named(digits: Path) -> None:
    (digits / NAMES[1]).unlink()
    with pytest.raises(UsageError) as caught:
        checks.mnist_files(digits)
    assert caught.value.what == f"{digits} has no train-labels-idx1-ubyte"
    assert "train-labels.idx1-ubyte.gz" in caught.value.why
    assert "t10k-labels-idx1-ubyte" in caught.value.hint


@pytest.mark.parametrize(
    ("content", "what", "why"),
    [
        (form(NAMES[1], 60_000)[:500], "{} is truncated", "it has 500 bytes of 60008"),
        (form(NAMES[2], 100), "{} is swapped with another file", "it holds images, and labels belong there"),
        (form(NAMES[3], 10_000), "{} is swapped with another file, or not MNIST", "it holds 10000 samples, and 60000"),
        (form(NAMES[1], 60_000)[:-1] + b"1", "{} has the form of MNIST and another content", "sha256 of its content"),
        (b"<!DOCTYPE html>", "{} is not an IDX file", "it starts with 3c21444f"),
    ],
)
def test_files_that_are_not_mnist_stay_here(
    digits: Path, monkeypatch: pytest.MonkeyPatch, content: bytes, what: str, why: str
) -> None:
    (digits / NAMES[1]).write_bytes(content)
    monkeypatch.chdir(digits.parent)
    for _ in range(2):  # remembered or not
        with pytest.raises(UsageError) as caught:
            checks.mnist_files(Path("digits"))
        assert caught.value.what == what.format(f"digits/{NAMES[1]}")
        assert why in caught.value.why
        assert caught.value.hint


def test_a_file_is_read_again_once_it_was_changed(digits: Path) -> None:
    path = digits / NAMES[3]
    assert checks.mnist_files(digits)
    read = checks._problem.cache_info().misses
    assert checks.mnist_files(digits)
    assert checks._problem.cache_info().misses == read
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(UsageError, match="truncated"):
        checks.mnist_files(digits)


def test_real_mnist_is_accepted() -> None:
    if not SHARED.is_dir():
        pytest.skip("no shared/data/mnist beside the checkout")
    assert [path.name for path in checks.mnist_files(SHARED)] == [f"{name}.gz" for name in NAMES]


def test_every_command_is_one_that_its_script_understands(tmp_path: Path) -> None:
    """With this Python, which has no framework: each says so in its line of JSON, and none prints its usage."""
    two = ("NVIDIA GeForce RTX 4090", "NVIDIA GeForce RTX 4090")
    known = checks.check_commands(plan(stack("pytorch", device="cuda")), {}, mnist=True, gpus=two)
    unknown = checks.check_commands(plan(stack("jax", device="cuda")), {}, mnist=True)
    folder = assets.folder("checks")
    for check in (*known, *unknown):
        argv = [each.replace(checks.DATA, str(tmp_path / "none")) for each in check.argv]
        done = subprocess.run(
            [sys.executable, str(folder / argv[0]), *argv[1:]], capture_output=True, text=True, cwd=tmp_path
        )
        answer = json.loads(done.stdout)
        assert answer["id"].partition(":")[0] == check.id.partition(":")[0], done.stderr
        assert done.returncode in {0, 1, 2}
        assert answer["what"], check.id
