"""The stack and the plan around it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from worlds.hosts import AVX, V1, V2, V4, host
from worlds.tables import CATALOG

from provision.errors import NoStackFits
from provision.model.data import from_data, to_data
from provision.model.facts import Facts, Toolkit
from provision.model.nvidia import GpuHealth, HostNvidia
from provision.model.plan import Plan
from provision.resolve import plan_for
from provision.resolve.request import parse_request


def plan(facts: Facts, *frameworks: str, **asked: Any) -> Plan:
    return plan_for(facts, parse_request(frameworks=frameworks, catalog=CATALOG, **asked), CATALOG)


def no_plan(facts: Facts, *frameworks: str, **asked: Any) -> NoStackFits:
    with pytest.raises(NoStackFits) as caught:
        plan(facts, *frameworks, **asked)
    assert caught.value.exit_code == 3
    return caught.value


def text(made: Plan, rule: str) -> str:
    return next(reason.text for reason in made.reasons if reason.rule == rule)


def ids(made: Plan) -> list[str]:
    return [step.id for step in made.steps]


def builds(made: Plan) -> list[tuple[str, str, str]]:
    return [(stack.framework, stack.version, stack.build) for stack in made.stack]


# --- which release -------------------------------------------------------------------------------------------------


def test_a_box_without_gpu() -> None:
    made = plan(host())
    assert builds(made) == [("tensorflow", "2.21.0", "cpu")]
    assert made.stack[0].requirements == ("tensorflow-cpu==2.21.0",)
    assert made.stack[0].driver is None
    assert text(made, "device") == "the CPU, because no NVIDIA GPU was found on this host"
    assert ids(made) == ["environment", "verification"]
    assert not any(step.needs_root for step in made.steps)
    assert made.rejected == ()
    assert (made.arch, made.glibc, made.host) == ("x86_64", "2.36", "box")


@pytest.mark.parametrize(
    ("asked", "version"),
    [
        ("tensorflow==2.16", "2.16.2"),
        ("tensorflow==2.16.1", "2.16.1"),
        ("tensorflow<2.20", "2.16.2"),
        ("tensorflow~=2.16.1", "2.16.2"),
        ("tensorflow!=2.21.*", "2.20.0"),
    ],
)
def test_an_asked_version(asked: str, version: str) -> None:
    made = plan(host(), asked)
    assert made.stack[0].version == version
    assert made.stack[0].requirements[0] == f"tensorflow-cpu=={version}"


def test_an_asked_build() -> None:
    made = plan(host("GeForce RTX 3090", driver="595.84"), "torch==2.14.1+cu126")
    assert builds(made) == [("pytorch", "2.14.1", "cu126")]


def test_force_plans_an_unlisted_release_like_its_neighbour() -> None:
    made = plan(host(), "tensorflow==2.22.0", force=True)
    assert made.stack[0].requirements == ("tensorflow-cpu==2.22.0",)
    assert text(made, "release.unlisted") == (
        "tensorflow 2.22.0 is not in the catalog; it is planned like its nearest neighbour because of --force"
    )


def test_gtx_960_gets_the_last_builds_with_maxwell_kernels() -> None:
    facts = host("GeForce GTX 960", flags=AVX, driver="580.178.04")
    torch = plan(facts, "pytorch").stack[0]
    assert (torch.version, torch.index, torch.index_url) == (
        "2.14.1",
        "cu126",
        "https://download.pytorch.org/whl/cu126",
    )
    assert (torch.cuda, torch.cudnn, torch.compute_capabilities) == ("12.6", "9.10.2.21", ("5.2",))
    assert torch.requirements == ("torch==2.14.1+cu126", "nvidia-cudnn-cu12<=9.10.2.21")
    tf = plan(facts).stack[0]
    assert (tf.version, tf.requirements) == (
        "2.16.2",
        ("tensorflow[and-cuda]==2.16.2", "numpy<2", "nvidia-cudnn-cu12<=9.10.2.21"),
    )


def test_of_equal_builds_what_was_read_out_of_a_wheel_comes_first() -> None:
    made = plan(host("GeForce RTX 3090", driver="595.84"), "pytorch")
    assert builds(made) == [("pytorch", "2.15.0", "cu132")]
    assert "Of its builds (cu132, cu130) compiled kernels come before PTX" in text(made, "release")


def test_ptx_is_named_and_given_room() -> None:
    made = plan(host("GeForce RTX 5090", driver="570.124.06"))
    assert made.stack[0].version == "2.21.0"
    assert "for compute capability 12.0 there is PTX only" in text(made, "gpu.ptx")
    assert made.stack[0].environment == {"CUDA_CACHE_MAXSIZE": "4294967296"}


def test_kernels_that_nobody_read_are_passed_over() -> None:
    made = plan(host("GeForce RTX 3090", driver="580.95.05", pythons=("3.12.3",)), "jax")
    assert builds(made) == [("jax", "0.10.2", "cuda13")]
    forced = plan(host("GeForce RTX 3090", driver="580.95.05", pythons=("3.12.3",)), "jax", force=True)
    assert builds(forced) == [("jax", "0.12.0", "cuda12")]
    assert "for which GPUs jax 0.12.0 cuda12 is compiled is not known" in text(forced, "unknown.kernels")


def test_an_unusable_gpu_is_not_passed_over_in_silence() -> None:
    made = plan(host("GeForce GTX 460", driver="390.157"), "pytorch")
    assert builds(made) == [("pytorch", "2.15.0", "cpu")]
    assert text(made, "device.left_out").startswith(
        "the CPU, though this host has NVIDIA GeForce GTX 460 (compute capability 2.1), which nothing can use: "
    )
    error = no_plan(host("GeForce GTX 460", driver="390.157"), "pytorch", device="cuda")
    assert error.what == "NVIDIA GeForce GTX 460 (compute capability 2.1) is too old for every framework in the catalog"
    assert (
        error.why == "none has kernels for compute capability 2.1, and 390 was the newest driver branch that drove it"
    )
    assert error.hint == "take another card, or use --device cpu"
    assert error.details == ()


def test_a_second_card_without_kernels_must_be_left_out_by_choice() -> None:
    facts = host("Tesla K80", "GeForce RTX 2080 Ti", driver="470.256.02")
    error = no_plan(facts, "pytorch>=2.14")
    assert error.what == "the GPUs of this box cannot be used together"
    assert error.hint.startswith("leave the others unused with --cuda-compute-capabilities 7.5")


def test_a_card_left_out_is_hidden_from_cuda() -> None:
    facts = host("GeForce GT 1030", "GeForce RTX 4090", "GeForce RTX 4090", driver="580.95.05")
    made = plan(facts, "pytorch", cuda_compute_capabilities="8.9")
    assert builds(made) == [("pytorch", "2.15.0", "cu132")]
    assert made.stack[0].environment == {"CUDA_DEVICE_ORDER": "PCI_BUS_ID", "CUDA_VISIBLE_DEVICES": "1,2"}
    assert "GT 1030 (compute capability 6.1) stays unused" in text(made, "device.unused")


def test_cuda_does_not_count_a_card_that_a_virtual_machine_has() -> None:
    """NVIDIA's driver has not got it, so that the third card on the bus is CUDA's second."""
    held = HostNvidia(gpus=(GpuHealth(pci_address="0000:01:00.0", kernel_driver="vfio-pci"),))
    facts = host("GeForce RTX 3090", "GeForce GT 1030", "GeForce RTX 4090", driver="580.95.05", nvidia=held)
    made = plan(facts, "pytorch", cuda_compute_capabilities="8.9")
    assert made.stack[0].environment["CUDA_VISIBLE_DEVICES"] == "1"


# --- CPU, pins, Python -----------------------------------------------------------------------------------------------


def test_pins_say_why() -> None:
    made = plan(host(flags=V1), "pytorch")
    assert made.stack[0].requirements == ("torch==2.15.0+cpu", "numpy<2.4")
    assert text(made, "pin.numpy-below-v2") == "numpy<2.4: NumPy 2.4 is compiled for x86-64-v2"
    assert text(plan(host(), "tensorflow==2.16"), "pin") == "numpy<2: numpy<2 is why"


def test_numpy_for_an_old_cpu() -> None:
    assert builds(plan(host(flags=V1), "numpy")) == [("numpy", "2.3.5", "cpu")]


@pytest.mark.parametrize(
    ("pythons", "asked", "python", "steps"),
    [
        (("3.11.2",), None, "3.11", ["environment", "verification"]),
        (("3.14.0", "3.12.1", "3.10.0"), None, "3.12", ["environment", "verification"]),
        (("3.14.0",), None, "3.13", ["python", "environment", "verification"]),
        ((), None, "3.13", ["python", "environment", "verification"]),
        (("3.11.2",), "3.10", "3.10", ["python", "environment", "verification"]),
    ],
)
def test_python(pythons: tuple[str, ...], asked: str | None, python: str, steps: list[str]) -> None:
    made = plan(host(pythons=pythons), python=asked)
    assert made.stack[0].python == python
    assert ids(made) == steps


def test_a_newer_release_beats_the_systems_python() -> None:
    made = plan(host(pythons=("3.9.2",)))
    assert (made.stack[0].version, made.stack[0].python) == ("2.21.0", "3.13")
    assert text(made, "python") == (
        "Python 3.13, brought by uv: this host has 3.9, and the best release that fits is for another"
    )
    older = plan(host(), python="3.9")
    assert older.stack[0].version == "2.20.0"
    assert text(older, "change") == "another Python (3.10, 3.11, 3.12, 3.13) would allow tensorflow 2.21.0 cpu"


def test_what_the_c_library_would_allow() -> None:
    made = plan(host(glibc="2.17"), "pytorch")
    assert builds(made) == [("pytorch", "2.6.0", "cpu")]
    assert text(made, "change") == "glibc 2.28 or newer would allow pytorch 2.15.0 cpu"


def test_what_is_not_known_is_said() -> None:
    made = plan(host(arch=None, flags=(), glibc=None))
    assert made.stack[0].build == "arm" or made.stack[0].build == "cpu"
    assert text(made, "unknown") == (
        "not known of this host: the machine's architecture, the CPU's flags, glibc. What depends on it is taken to "
        "fit: verify tells"
    )


def test_why_a_wheel() -> None:
    assert text(plan(host(flags=V4)), "origin") == (
        "the tensorflow wheel and no source build: it already uses newer instructions at run time through oneDNN, "
        "which is on by default on this CPU (avx512_vnni). A source build for this CPU (avx2, fma, avx512f, "
        "avx512_vnni) is worth it only where a measurement says so"
    )
    assert "which is off by default on this CPU: TF_ENABLE_ONEDNN_OPTS=1" in text(plan(host()), "origin")
    assert "no newer instructions are known" in text(plan(host(flags=AVX)), "origin")
    assert "has no oneDNN" in text(plan(host(), "tensorflow==2.3"), "origin")


# --- CUDA on the box, source builds ----------------------------------------------------------------------------------


def test_a_build_without_its_own_cuda_needs_the_toolkit() -> None:
    facts = host("GeForce GTX 1080 Ti", driver="430.40")
    made = plan(facts, "tensorflow==2.3")
    assert ids(made) == ["cuda_toolkit", "cudnn", "python", "environment", "verification"]
    toolkit, cudnn = made.steps[:2]
    assert (toolkit.needs_root, toolkit.available, cudnn.available) == (True, True, False), "no table has cuDNN 7"
    assert toolkit.title == "Install CUDA toolkit 10.1, which the tensorflow wheel does not bring"
    assert cudnn.title == "Install cuDNN 7.6, which the tensorflow wheel does not bring"
    there = replace(facts, toolkit=Toolkit(cuda="10.1.243", cudnn="7.6.5"))
    assert ids(plan(there, "tensorflow==2.3")) == ["python", "environment", "verification"]


def test_without_avx_tensorflow_is_built_from_source() -> None:
    made = plan(host(flags=V2))
    stack = made.stack[0]
    assert (stack.origin, stack.device, stack.bazel, stack.compiler) == ("source", "cpu", "7.4.1", "Clang 18.1.8")
    assert stack.copts == ("-msse3", "-msse4.2")
    assert text(made, "origin") == "tensorflow is built from source, because no wheel runs here: this CPU lacks avx"
    build = next(step for step in made.steps if step.id == "source_build")
    assert (build.available, build.needs_root) == (True, False)
    assert build.changes == (
        "source: https://example.org/tensorflow.git@v2.21.0",
        "Bazel 7.4.1, which the tree's own .bazelversion overrules",
        "compiler: the release downloads its own compiler (Clang 18.1.8); --compiler takes one of this host instead",
        "-msse3: this CPU has pni; Clang 18.1.8 takes it (Clang 3.9 and newer)",
        "-msse4.2: this CPU has sse4_2; Clang 18.1.8 takes it (Clang 3.9 and newer)",
        "configure, asked nothing: PYTHON_BIN_PATH={python} TF_NEED_CUDA=0",
        "then .tf_configure.bazelrc is read back: 1 lines must be in it",
        "bazel build --config=opt --copt=OPTION (each of the above) //tensorflow/tools/pip_package:wheel",
        "--config=opt: what configure wrote",
        "wheel: in {wheels}",
        "at least 40 GiB of disk (a margin, not a measured figure), 5 GiB of them in TMPDIR, "
        "and 2048 MiB of memory a job",
    )
    assert builds(plan(host(flags=V2), "pytorch")) == [("pytorch", "2.15.0", "cpu")]


def test_asked_for_a_wheel_no_source_build_is_offered() -> None:
    error = no_plan(host(flags=V2), origin="wheel")
    assert error.what == "no wheel of tensorflow in the catalog fits this host"
    assert error.details[0].what == "tensorflow 2.21.0 cpu and 3 more: this CPU lacks avx"
    assert "illegal instruction" in error.details[0].why
    assert error.hint == "--framework pytorch, whose wheels run on any x86-64 CPU"


def test_a_source_build_for_the_gpus_of_the_box() -> None:
    facts = host("GeForce GTX 960", driver="560.35.03")
    made = plan(facts, "tensorflow==2.21", origin="source")
    assert made.stack[0].compute_capabilities == ("5.2",)
    assert made.stack[0].cuda == "12.5"
    build = next(step for step in made.steps if step.id == "source_build")
    assert "--repo_env=HERMETIC_CUDA_COMPUTE_CAPABILITIES=sm_52: those of the GPUs" in build.changes
    assert ids(made) == ["source_build", "environment", "verification"]
    pinned = plan(facts, "tensorflow==2.21")  # no wheel of it has kernels, and the GPU is not given up in silence
    assert (pinned.stack[0].origin, pinned.stack[0].device) == ("source", "cuda")


def test_a_cpu_target_by_name_is_a_source_build() -> None:
    made = plan(host(), cpu="x86-64-v3")
    assert (made.stack[0].origin, made.stack[0].copts) == (
        "source",
        ("-msse3", "-msse4.2", "-mavx", "-mavx2", "-mfma"),
    )
    assert text(made, "origin") == (
        "tensorflow is built from source, because --cpu x86-64-v3 asks for a build for exactly that CPU"
    )


def test_what_has_only_wheels_comes_beside_a_source_build() -> None:
    made = plan(host(), "tensorflow", "keras", "numpy", origin="source")
    assert [(stack.framework, stack.origin) for stack in made.stack] == [
        ("tensorflow", "source"),
        ("keras", "wheel"),
        ("numpy", "wheel"),
    ]


# --- several frameworks ----------------------------------------------------------------------------------------------


def test_keras_needs_something_to_train_on() -> None:
    made = plan(host(), "keras")
    assert builds(made) == [("keras", "3.15.1", "any"), ("tensorflow", "2.21.0", "cpu")]
    assert all(stack.environment == {"KERAS_BACKEND": "tensorflow"} for stack in made.stack)
    assert text(made, "keras.backend") == "TensorFlow is taken as well, because Keras needs something to train on"


def test_keras_runs_where_its_backend_does() -> None:
    made = plan(host("GeForce RTX 3090", driver="595.84"), "torch", "keras")
    assert [(stack.framework, stack.device) for stack in made.stack] == [("pytorch", "cuda"), ("keras", "cuda")]
    assert made.stack[1].environment["KERAS_BACKEND"] == "torch"


def test_keras_is_of_a_kind_with_its_backend() -> None:
    assert builds(plan(host(), "tensorflow==2.3", "keras"))[1] == ("keras", "2.3.1", "any")
    assert "TensorFlow 2.21 needs Keras 3, not 2.3" in no_plan(host(), "tensorflow==2.21", "keras<3").why
    assert "TensorFlow 2.3 brings Keras 2.3, not 3.15" in no_plan(host(), "tensorflow==2.3", "keras==3.15").why
    assert "Keras 2.3 trains on TensorFlow only" in no_plan(host(), "pytorch", "keras==2.3").why


def test_one_environment_has_one_python() -> None:
    made = plan(host(pythons=("3.14.1", "3.11.2")), "pytorch", "tensorflow")
    assert {stack.python for stack in made.stack} == {"3.11"}
    assert plan(host(pythons=("3.14.1",)), "pytorch").stack[0].python == "3.14"


def test_one_environment_has_one_cuda() -> None:
    made = plan(host("GeForce RTX 3090", driver="595.84"), "tensorflow", "pytorch")
    assert builds(made) == [("tensorflow", "2.21.0", "and-cuda"), ("pytorch", "2.14.1", "cu126")]
    assert "one major of CUDA" in text(made, "together")


def test_what_cannot_share_an_environment() -> None:
    error = no_plan(host("GeForce RTX 5090", driver="595.84"), "tensorflow", "pytorch==2.15")
    assert error.what == "no environment holds tensorflow and pytorch==2.15 together"
    assert error.why == "each of them fits this host, but not with the others: they bring CUDA 12 and CUDA 13"
    assert "two environments" in error.hint


def test_requirements_that_collide() -> None:
    error = no_plan(host(), "tensorflow==2.16", "numpy==2.4")
    assert "numpy (<2 and ==2.4.6)" in error.why


# --- the plan as data ------------------------------------------------------------------------------------------------


def test_a_plan_reads_back() -> None:
    made = plan(host("GeForce GTX 960"), "pytorch", "keras")
    assert from_data(Plan, to_data(made)) == made


def test_the_fingerprint_is_of_the_content() -> None:
    base = plan(host()).fingerprint
    assert len(base) == 64
    assert plan(replace(host(), host="other")).fingerprint == base
    assert plan(host(flags=V4)).fingerprint == base  # other reasons, same environment
    different = {
        plan(host(), name="two").fingerprint,
        plan(host(), python="3.12").fingerprint,
        plan(host(), requirements=["pandas"]).fingerprint,
        plan(host(), indexes=["https://wheels.example/simple"]).fingerprint,
        plan(host(), find_links=["/srv"]).fingerprint,
        plan(host(), "keras").fingerprint,
        plan(host(), "tensorflow==2.20").fingerprint,
        plan(host(flags=V2)).fingerprint,
        plan(host(flags=(*V2, "fma"))).fingerprint,
    }
    assert base not in different
    assert len(different) == 9
