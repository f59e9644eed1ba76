"""Images for GPUs, planned on an engine that has none: compute capabilities and drivers of hosts that are elsewhere."""

from __future__ import annotations

from dataclasses import replace

from worlds.images import ask, base, plan, reason, refused

from provision.catalog.images import distributions
from provision.catalog.load import catalog
from provision.errors import NoStackFits
from provision.resolve.image import image_facts, supported_base


def test_no_gpu_of_the_engines_host_matters() -> None:
    made = plan("pytorch", on=base(driver="580.65.06"))
    assert made.device == "cpu"
    assert reason(made.plan, "device").startswith("the CPU: a GPU is used only where --device cuda")


def test_cuda_for_the_capabilities_that_were_asked_for() -> None:
    made = plan("pytorch", cuda_compute_capabilities="8.6,9.0")
    assert made.device == "cuda"
    assert made.plan.stack[0].compute_capabilities == ("8.6", "9.0")
    assert made.labels["io.provision.compute-capabilities"] == "8.6,9.0"
    assert made.plan.stack[0].driver is not None
    assert made.plan.stack[0].driver.action == "none"
    assert "which --cuda-compute-capabilities asks for" in reason(made.plan, "device")


def test_cuda_without_any_is_for_those_of_the_wheel_that_the_driver_drives() -> None:
    made = plan("pytorch", device="cuda")
    assert {"8.0", "9.0", "12.0"} <= set(made.plan.stack[0].compute_capabilities)
    assert "7.0" not in made.plan.stack[0].compute_capabilities, "no driver of today drives Volta"
    older = plan("pytorch", device="cuda", driver_version="535.183.01")
    assert "7.0" in older.plan.stack[0].compute_capabilities
    tensorflow = plan("tensorflow", device="cuda").plan.stack[0]
    assert tensorflow.compute_capabilities == ("8.0", "8.9"), "its sm_60 and sm_70 are for cards that 595 leaves alone"
    jax = plan("jax", device="cuda").plan.stack[0]
    assert "11.0" not in jax.compute_capabilities, "that is a board with an Arm processor"


def test_the_driver_that_is_planned_for_is_of_a_production_branch() -> None:
    newest = catalog().branches[-1]
    tables = replace(
        catalog(),
        branches=(
            *catalog().branches,
            replace(newest, branch="999", newest_seen="999.1", supported=True, kind="lts", newest_architecture=None),
        ),
    )
    on = base()
    asked = ask("pytorch", device="cuda").request
    facts = image_facts(on, supported_base(on.facts, distributions()), "generic", asked, tables)
    assert facts.driver.version is not None
    assert facts.driver.version.startswith("595.")
    assert facts.driver.state == "working"


def test_the_least_driver_is_in_the_label_and_in_the_reasons() -> None:
    made = plan("pytorch", device="cuda", driver_version="535.183.01")
    assert made.labels["io.provision.driver-minimum"] == "525.60.13"
    said = reason(made.plan, "driver.floor")
    assert said == "a host that runs it needs NVIDIA driver 525.60.13 or newer; planned as if it had 535.183.01"


def test_an_old_card_gets_the_last_branch_that_drives_it() -> None:
    made = plan("pytorch", cuda_compute_capabilities="5.2")
    assert made.plan.stack[0].build == "cu126"
    assert "planned as if it had 580." in reason(made.plan, "driver.floor")


def test_a_driver_that_is_too_old_is_told_in_the_words_of_an_image() -> None:
    error = refused("tensorflow==2.21", driver_version="470.82.01")
    assert isinstance(error, NoStackFits)
    found = error.details[0]
    assert found.why == "it is built for CUDA 12.5.1; the hosts are said to have driver 470.82.01"
    assert found.hint == "--driver-version 525.60.13 or newer, where the hosts have it"


def test_no_wheel_is_taken_that_needs_a_toolkit_of_the_system() -> None:
    """TensorFlow 2.3 wants CUDA 10.1 in /usr/local: a host gets it as a step, an image has none."""
    error = refused("tensorflow==2.3", device="cuda", origin="wheel")
    assert isinstance(error, NoStackFits)


def test_a_build_from_source_that_needs_a_toolkit_is_refused() -> None:
    error = refused("pytorch", device="cuda", origin="source", cuda_compute_capabilities="8.6")
    assert error.what == "this build from source needs a CUDA toolkit, which no base of an image has"
    assert "install CUDA toolkit" in error.why


def test_a_cuda_build_from_source_needs_the_gpus() -> None:
    error = refused("tensorflow", device="cuda", origin="source")
    assert error.what == "a CUDA build from source needs --cuda-compute-capabilities"
    made = plan("tensorflow", device="cuda", origin="source", cuda_compute_capabilities="8.6")
    assert made.plan.stack[0].compute_capabilities == ("8.6",)


def test_a_driver_for_a_cpu_image_contradicts_itself() -> None:
    error = refused("tensorflow", device="cpu", driver_version="580.65.06")
    assert error.what == "--device cpu and --driver-version contradict each other"
