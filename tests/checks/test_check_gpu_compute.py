"""What gpu_compute.py makes of figures; its arithmetic and clocks for real, on the CPU."""

from __future__ import annotations

import json
import re
import subprocess
from argparse import Namespace
from typing import Any

import pytest

from provision.catalog.gpu_rates import card_of
from provision.catalog.load import catalog

RIGHT = {"wrong": 0, "of": 1048576, "worst": 0.01, "ran_on": "cuda:0"}
L4 = {
    "match": r"\bL4\b", "name": "NVIDIA L4", "memory_gb_s": 300.0,
    "fp32_tflops": 30.3, "tf32_tflops": 60.0, "bf16_tflops": 121.0,
}  # fmt: skip


def gpu(**changes: Any) -> dict[str, Any]:
    found = {
        "name": "NVIDIA L4",
        "capability": [8, 9],
        "products": {number: dict(RIGHT) for number in ("fp32", "tf32", "bf16")},
        "tflops": {"fp32": 20.0, "tf32": 42.0, "bf16": 90.75},
        "memory_gb_s": 255.0,
    }
    return {**found, **changes}


@pytest.fixture
def judge(load):
    def run(*gpus: dict[str, Any], device: str = "cuda", cards: tuple[Any, ...] = (L4,)) -> dict[str, Any]:
        options = Namespace(framework="pytorch", device=device, card=[json.dumps(card) for card in cards])
        answer: dict[str, Any] = load("gpu_compute").judge(options, {"version": "2.13.0", "gpus": list(gpus)})
        return answer

    return run


def test_figures_stand_beside_the_cards_own(judge) -> None:
    answer = judge(gpu())
    assert answer["status"] == "pass"
    assert answer["what"] == (
        "pytorch computes rightly on 1 GPU: NVIDIA L4: FP32 20 TFLOP/s (66%), TF32 42 TFLOP/s (70%), "
        "BF16 90.75 TFLOP/s (75%), 255 GB/s (85%)"
    )
    assert answer["why"] == ""
    assert answer["data"]["gpus"][0]["card"] == "NVIDIA L4"
    assert answer["data"]["gpus"][0]["shares"] == {"memory": 0.85, "fp32": 0.66, "tf32": 0.7, "bf16": 0.75}


def test_a_slow_card_is_a_remark(judge) -> None:
    answer = judge(gpu(memory_gb_s=90.0, tflops={"fp32": 20.0, "tf32": 12.0, "bf16": 90.0}))
    assert answer["status"] == "pass"
    assert answer["why"] == (
        "NVIDIA L4 (GPU 0) is slow for NVIDIA L4: memory 30%, tf32 20% of its table; "
        "gpu_state.py says what holds it back"
    )


def test_a_card_that_nobody_tabled(judge) -> None:
    answer = judge(gpu(name="NVIDIA X1"))
    assert answer["status"] == "pass"
    assert "FP32 20 TFLOP/s, TF32" in answer["what"]
    assert answer["why"] == "NVIDIA X1 (GPU 0) is not in the table of cards: figures without shares"


def test_a_wrong_product_fails(judge) -> None:
    products = {"fp32": dict(RIGHT), "tf32": {**RIGHT, "wrong": 3, "worst": 8.1}}
    other = gpu(products={number: {**once, "ran_on": "cuda:1"} for number, once in products.items()})
    answer = judge(gpu(), other)
    assert (answer["status"], answer["what"]) == ("fail", "pytorch computes wrongly on NVIDIA L4 (GPU 1)")
    assert answer["why"] == (
        "TF32: 3 of 1048576 elements differ from the CPU's float64, the worst by 8.1 times what rounding allows"
    )
    assert "Xid" in answer["hint"]
    nothing = judge(gpu(products={"bf16": {**RIGHT, "wrong": 1, "worst": None}}))
    assert nothing["why"].endswith("the worst by no number")


@pytest.mark.parametrize("ran_on", ["cpu", "cpu:0", "cuda:1"])
def test_the_wrong_device_fails(judge, ran_on: str) -> None:
    answer = judge(gpu(products={"fp32": {**RIGHT, "ran_on": ran_on}}))
    assert (answer["status"], answer["what"]) == ("fail", "pytorch computes on the wrong device")
    assert answer["why"] == f"planned cuda:0, the FP32 product was made on {ran_on}"


def test_no_gpu_fails(judge) -> None:
    answer = judge()
    assert (answer["status"], answer["what"], answer["why"]) == ("fail", "pytorch sees no GPU", "planned cuda")


def test_formats_are_those_of_the_catalog(load) -> None:
    """The script stands alone on a host; the catalog knows the formats of every compute capability."""
    work = load("gpu_work")
    for row in catalog().formats:
        for text in row.compute_capabilities:
            capability = [int(part) for part in text.split(".")]
            assert work.formats_of(capability) == tuple(one for one in work.FORMATS if one in row.dtypes), text
    assert work.formats_of(None) == ("fp32",)


def test_every_row_of_the_catalog_is_taken_as_the_script_takes_it(load) -> None:
    row = card_of("Tesla T4")
    assert row is not None
    cards = [{"match": row.match, "name": row.name, "memory_gb_s": row.memory_gb_s, "fp32_tflops": row.fp32_tflops}]
    script = load("gpu_compute")
    assert script.card_of("Tesla T4", cards) == cards[0]
    assert script.card_of("Tesla T40", cards) is None
    assert script.shares_of({"memory_gb_s": 240.0, "tflops": {"fp32": 4.05}}, cards[0]) == {"memory": 0.75, "fp32": 0.5}


@pytest.mark.parametrize(
    ("stderr", "status", "found"),
    [
        ("ModuleNotFoundError: No module named 'torch'", 1, ("skip", "pytorch cannot be loaded")),
        ("RuntimeError: CUDA error: uncorrectable ECC error", 1, ("fail", "pytorch does not compute on cuda")),
        ("", -11, ("fail", "pytorch does not compute on cuda")),
        ("", None, ("fail", "pytorch gave no answer")),
    ],
)
def test_a_child_that_died(load, stderr: str, status: int | None, found: tuple[str, str]) -> None:
    options = Namespace(framework="pytorch", device="cuda", timeout=60.0)
    answer = load("gpu_compute").died(options, stderr, status)
    assert (answer["status"], answer["what"]) == found
    assert answer["hint"]


def test_without_a_framework(bare) -> None:
    answer = bare("gpu_compute.py", "--framework", "pytorch").data
    assert (answer["status"], answer["what"]) == ("skip", "pytorch cannot be loaded")


def test_many_launches_are_waited_for_together(load) -> None:
    """A launch returns at once on a GPU: only what is waited for was done."""
    done: list[str] = []
    taken = load("gpu_work").seconds_of(lambda: done.append("launch") or len(done), lambda _: done.append("wait"), 0.01)
    assert taken > 0
    assert done[:4] == ["launch", "wait", "launch", "wait"]
    rounds = "".join("w" if one == "wait" else "l" for one in done[4:]).split("w")
    assert len(rounds) == 4
    assert rounds[0] == rounds[1] == rounds[2] != ""
    assert rounds[3] == ""


@pytest.mark.parametrize(
    ("capability", "kernels", "device", "numbers"),
    [
        ([9, 0], ("fp32", "tf32", "bf16"), "cuda", ("fp32", "tf32", "bf16")),
        ([7, 5], ("fp32", "tf32", "bf16"), "cuda", ("fp32",)),
        ([8, 6], ("fp32", "tf32"), "cuda", ("fp32", "tf32")),  # TensorFlow 2.11
        (None, ("fp32", "tf32", "bf16"), "cpu", ("fp32", "tf32", "bf16")),
    ],
)
def test_formats_that_the_gpu_or_the_framework_lacks_are_left_out(load, capability, kernels, device, numbers) -> None:
    work = Namespace(formats=lambda: kernels)
    assert load("gpu_compute").numbers_of(work, {"capability": capability}, device) == numbers


class Recorded:
    """Stands for a framework: which matrices it was asked for."""

    def __init__(self) -> None:
        self.made: list[tuple[int, int, str, int]] = []
        self.multiplied: set[tuple[Any, Any]] = set()

    def random(self, *asked: Any) -> Any:
        self.made.append(asked)
        return asked

    def product(self, number: str) -> Any:
        return lambda left, right: self.multiplied.add((left, right))

    def wait(self, tensor: Any) -> None: ...


def test_rates_are_those_of_two_random_matrices_made_on_the_device(load) -> None:
    work = Recorded()
    assert load("gpu_compute").rate(work, 3, "tf32", 0.0) > 0
    sizes = load("gpu_compute").RATE_SIZES
    pairs = [((size, 3, "tf32", 1), (size, 3, "tf32", 2)) for size in sizes]
    assert work.made == [one for pair in pairs for one in pair]
    assert work.multiplied == set(pairs)


# Two devices of the CPU stand for two GPUs: whatever is asked of the second one has to happen there.
SECOND_DEVICE = """
import json, sys
sys.path.insert(0, sys.argv[1])
import numpy, gpu_work
name, count = sys.argv[2], 0
if name == "tensorflow":
    import tensorflow as tf
    tf.config.set_logical_device_configuration(
        tf.config.list_physical_devices("CPU")[0], [tf.config.LogicalDeviceConfiguration()] * 2
    )
    tf.debugging.set_log_device_placement(True)
work = gpu_work.WORKS[name]("cpu")
wheres = {"tensorflow": lambda one: one.device[-5:], "jax": lambda one: f"cpu:{one.device.id}", "pytorch": work.place}
index = 0 if name == "pytorch" else 1
left, right = (work.random(64, index, "bf16", seed) for seed in (1, 2))
ones = work.put(numpy.ones((64, 64), numpy.float32), index, "fp32")
made = [left, right, ones, work.product("bf16")(left, right), work.product("fp32")(ones, ones)]
made.append(work.copy(work.full(4096, index)))
for one in made:
    work.wait(one)
numbers = [work.numbers(one) for one in made[:2]]
print(json.dumps({
    "formats": work.formats(),
    "places": sorted({wheres[name](one) for one in made}), "numbers": [float(one[5, 7]) for one in numbers],
    "means": [float(one.mean()) for one in numbers], "deviations": [float(one.std()) for one in numbers],
}))
"""


@pytest.mark.frameworks
@pytest.mark.parametrize(("name", "second"), [("tensorflow", "CPU:1"), ("pytorch", "cpu"), ("jax", "cpu:1")])
def test_everything_happens_on_the_device_where_a_tensor_lies(check_in, load, name: str, second: str) -> None:
    checks, folder = check_in(name), load("gpu_work").__file__.rpartition("/")[0]
    command = [checks.python, "-c", SECOND_DEVICE, folder, name]
    env = checks.environment({"XLA_FLAGS": "--xla_force_host_platform_device_count=2", "TF_CPP_MIN_LOG_LEVEL": "0"})
    runs = [subprocess.run(command, capture_output=True, text=True, env=env, check=True) for _ in range(2)]
    first, again = (json.loads(done.stdout.splitlines()[-1]) for done in runs)
    assert first["places"] == [second]
    assert first["formats"] == ["fp32", "tf32", "bf16"]
    assert first == again, "the seed is fixed"
    assert first["numbers"][0] != first["numbers"][1]
    assert first["means"] == pytest.approx([0, 0], abs=0.1)
    assert first["deviations"] == pytest.approx([1, 1], abs=0.1)
    if name == "tensorflow":  # it copies silently, and says where each operation ran
        ran = re.findall(r"Executing op (\w+) in device \S+:(CPU:\d)", runs[0].stdout + runs[0].stderr)
        assert {"RandomStandardNormal", "AddV2", "Cast", "Reshape", "StridedSlice"} <= {name for name, _ in ran}
        assert {device for _, device in ran} == {"CPU:1"}


SABOTAGE = """
import json, sys
sys.path.insert(0, sys.argv[1])
import numpy, gpu_compute
left, right = gpu_compute.factors(256)
exact = left.astype("float64") @ right.astype("float64")
magnitudes = abs(left).astype("float64") @ abs(right).astype("float64")
def judged(result, number):
    return gpu_compute.compared(result, exact, magnitudes, number, 256)
def rounded(values):  # to bfloat16, to nearest
    bits = values.astype("float32").view(numpy.uint32)
    return ((bits + 0x8000) & numpy.uint32(0xFFFF0000)).view(numpy.float32).astype("float64")
flipped, none, missing = exact.copy(), exact.copy(), exact.copy()
flipped[3, 4] += magnitudes[3, 4] / 256
none[5, 6] = numpy.nan
missing[7] -= numpy.outer(left[7, :1], right[0])[0]
print(json.dumps({
    "float32": judged((left @ right).astype("float64"), "fp32"),
    "bf16": judged(rounded(left @ right), "bf16"),
    "bf16 as fp32": judged(rounded(left @ right), "fp32"),
    "flipped": judged(flipped, "tf32"),
    "none": judged(none, "fp32"),
    "missing": judged(missing, "tf32"),
}))
"""


@pytest.mark.frameworks
def test_the_tolerances_let_rounding_through_and_nothing_else(environment_of, load) -> None:
    folder = load("gpu_compute").__file__.rpartition("/")[0]
    done = subprocess.run([environment_of("numpy"), "-c", SABOTAGE, folder], capture_output=True, text=True, check=True)
    found = json.loads(done.stdout)
    assert (found["float32"]["wrong"], found["bf16"]["wrong"]) == (0, 0)
    assert found["float32"]["worst"] < 0.1
    assert 0.3 < found["bf16"]["worst"] <= 0.5, "a rounding is half of what is allowed"
    assert found["bf16 as fp32"]["wrong"] > 1000, "a product in a lesser format is not taken for FP32"
    assert found["flipped"]["wrong"] == 1
    assert found["none"] == {"wrong": 1, "of": 65536, "worst": None}
    assert found["missing"]["wrong"] > 200, "one of 256 products left out"


@pytest.mark.frameworks
@pytest.mark.parametrize("name", ["tensorflow", "pytorch", "jax"])
def test_the_same_arithmetic_and_clocks_on_the_cpu(check_in, name: str) -> None:
    answer = check_in(name)("gpu_compute.py", "--framework", name, "--device", "cpu", "--seconds", "0.05").data
    assert answer["status"] == "pass"
    assert answer["what"].startswith(f"{name} computes rightly on the CPU: CPU: FP32 ")
    one = answer["data"]["gpus"][0]
    assert set(one["products"]) == {"fp32", "tf32", "bf16"}
    assert {once["ran_on"].partition(":")[0] for once in one["products"].values()} == {"cpu"}
    assert one["tflops"]["fp32"] > 0.001
    assert one["memory_gb_s"] > 0.5


@pytest.mark.frameworks
@pytest.mark.parametrize("name", ["tensorflow", "pytorch", "jax"])
def test_without_a_gpu_nothing_is_made_on_the_cpu_instead(check_in, name: str) -> None:
    answer = check_in(name)("gpu_compute.py", "--framework", name).data
    assert (answer["status"], answer["what"]) == ("fail", f"{name} sees no GPU")
