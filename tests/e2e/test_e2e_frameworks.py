"""TensorFlow and PyTorch end in a passed MNIST smoke test on bare SSH hosts."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from harness.fleet import Fleet

pytestmark = [pytest.mark.docker, pytest.mark.ssh, pytest.mark.network, pytest.mark.frameworks, pytest.mark.slow]

MNIST = Path(__file__).resolve().parents[3] / "shared" / "data" / "mnist"
WHEELS = os.environ.get("PROVISION_TEST_FIND_LINKS")


def proved(made: Fleet, *words: str) -> None:
    data = ("--data", str(MNIST)) if MNIST.is_dir() else ()
    targets = [host.target for host in made.hosts]
    done = made.provision("up", *targets, *words, *data, "--yes", "--json", timeout_s=900)
    assert done.returncode == 0, done.stdout + done.stderr
    for report in json.loads(done.stdout):
        assert report["ok"]
        assert report["smoke"]["accuracy"] >= 0.97
        assert report["smoke"]["dataset"] == ("mnist" if data else "synthetic")
    again = made.provision("up", *targets, *words, "--yes", "--json", "--no-verify")
    assert [report["changed"] for report in json.loads(again.stdout)] == [0, 0]


def test_tensorflow_on_two_hosts(fleet: Callable[..., Fleet]) -> None:
    proved(fleet(2, uv_cache=True), "--framework", "tensorflow")


@pytest.mark.skipif(not WHEELS, reason="PROVISION_TEST_FIND_LINKS names no folder with PyTorch's CPU wheel")
def test_pytorch_on_two_hosts(fleet: Callable[..., Fleet]) -> None:
    proved(fleet(2, uv_cache=True), "--framework", "pytorch==2.13.0", "--find-links", str(WHEELS))
