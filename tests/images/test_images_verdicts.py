"""Proofs are kept by what they are about."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from provision.model.image import Verdict
from provision.model.report import CheckOutcome, Smoke
from provision.run.images.verdicts import Proof, keep, kept, proof_key

LAYERS = ("sha256:aa", "sha256:bb")
CONFIG = {"Env": ["PATH=/opt/provision/venv/bin"], "User": "1000:1000", "Labels": {"a": "b"}, "Hostname": "x"}
ASKED = {"commands": [{"id": "blas"}], "gpus": False}
PROOF = Proof(
    verdict=Verdict(status="passed", checks=("blas",), accuracy=0.98, dataset="mnist", device="cpu"),
    checks=(CheckOutcome(id="blas", status="pass", what="NumPy uses OpenBLAS", data={"kernel": "Zen"}),),
    smoke=Smoke(
        framework="numpy",
        device="cpu",
        dataset="mnist",
        samples=60000,
        train_s=2.0,
        samples_per_s=30000.0,
        accuracy=0.98,
        peak_fraction=None,
    ),
)


def test_a_proof_is_found_again(tmp_path: Path) -> None:
    keep("key", PROOF, tmp_path)
    assert kept("key", tmp_path) == PROOF


@pytest.mark.parametrize("status", ["failed", "not run"])
def test_only_what_passed_is_kept(status: str, tmp_path: Path) -> None:
    keep("key", replace(PROOF, verdict=Verdict(status=status, why="because")), tmp_path)  # type: ignore[arg-type]
    assert kept("key", tmp_path) is None


def test_a_file_that_is_broken_is_no_proof(tmp_path: Path) -> None:
    keep("key", PROOF, tmp_path)
    (tmp_path / "key.json").write_text('{"verdict": {"status": "passed"')
    assert kept("key", tmp_path) is None
    (tmp_path / "key.json").write_text('{"verdict": {"status": "fine"}, "checks": [], "smoke": null}')
    assert kept("key", tmp_path) is None


def test_what_differs_makes_another_key() -> None:
    key = proof_key(LAYERS, CONFIG, ASKED)
    assert key == proof_key(list(LAYERS), {**CONFIG, "Labels": {"other": "label"}, "Hostname": "y"}, dict(ASKED))
    others = [
        proof_key(LAYERS[:1], CONFIG, ASKED),
        proof_key(LAYERS[::-1], CONFIG, ASKED),
        proof_key(LAYERS, {**CONFIG, "Env": ["PATH=/usr/bin"]}, ASKED),
        proof_key(LAYERS, {**CONFIG, "User": "root"}, ASKED),
        proof_key(LAYERS, CONFIG, {**ASKED, "gpus": True}),
    ]
    assert len({key, *others}) == 6
