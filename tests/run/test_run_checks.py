"""Which checks a plan needs."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest
from run_values import plan, stack

from provision.errors import UsageError
from provision.run import checks

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
    found = checks.check_commands(plan(stack("pytorch", device="cuda")), {}, mnist=False)
    assert "native_kernels:pytorch" in ids(found)
    assert next(check for check in found if check.id == "mnist:pytorch").argv[-3:] == ("--device", "cuda", "--download")
    assert "cpu_flags" not in ids(found)


def test_two_frameworks_are_both_checked_and_the_box_once() -> None:
    found = ids(checks.check_commands(plan(stack(), stack("numpy", version="2.4.6")), FLAGS, mnist=False))
    assert found.count("memory_disk") == found.count("blas") == 1
    assert [each for each in found if each.startswith("mnist")] == ["mnist:tensorflow", "mnist:numpy"]


def test_every_option_exists_in_its_script() -> None:
    both = (stack(device="cuda"), stack("numpy", version="2.4.6"))
    found = checks.check_commands(plan(*both), FLAGS, mnist=True)
    files = checks.check_files(found)
    for check in found:
        known = {
            node.value
            for node in ast.walk(ast.parse(files[check.argv[0]]))
            if isinstance(node, ast.Constant) and isinstance(node.value, str) and node.value.startswith("--")
        }
        assert {word for word in check.argv if word.startswith("--")} <= known, check.id
    assert {"mnist_data.py"} <= files.keys()


def test_mnist_files_in_each_spelling(tmp_path: Path) -> None:
    names = ["train-images-idx3-ubyte", "train-labels-idx1-ubyte.gz", "t10k-images.idx3-ubyte"]
    for name in [*names, "t10k-labels.idx1-ubyte.gz"]:
        (tmp_path / name).touch()
    assert [path.name for path in checks.mnist_files(tmp_path)] == [*names, "t10k-labels.idx1-ubyte.gz"]
    assert checks.mnist_files(None) == ()


def test_a_missing_mnist_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "train-images-idx3-ubyte").touch()
    with pytest.raises(UsageError) as caught:
        checks.mnist_files(tmp_path)
    assert caught.value.what == f"{tmp_path} has no train-labels-idx1-ubyte"
    assert "train-labels.idx1-ubyte.gz" in caught.value.why
    assert "t10k-labels-idx1-ubyte" in caught.value.hint
