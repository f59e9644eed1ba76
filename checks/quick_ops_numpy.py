# /// script
# requires-python = ">=3.9"
# dependencies = []
# ///
"""quick_ops.py's operations of NumPy."""

from __future__ import annotations

import math
import tempfile
from pathlib import Path

from quick_ops_results import NoGpu, Op, numbers, same


def numpy_ops(device: str) -> dict[str, Op]:
    import numpy as np

    if device == "cuda":
        raise NoGpu
    square = numbers(40, 40).astype(np.float64) + 40 * np.eye(40)

    def product() -> None:
        wanted = [[math.fsum(a * b for a, b in zip(row, column)) for column in square.T] for row in square]
        same(square @ square, wanted)

    def solve() -> None:
        wanted = numbers(40, seed=1)
        right = [math.fsum(a * b for a, b in zip(row, wanted)) for row in square]
        same(np.linalg.solve(square, right), wanted)

    def decompose() -> None:
        u, s, v = np.linalg.svd(square)
        same((u * s) @ v, square)
        symmetric = square + square.T
        values, vectors = np.linalg.eigh(symmetric)
        same((vectors * values) @ vectors.T, symmetric)

    def fourier() -> None:
        series = numbers(50)
        turns = np.exp(-2j * np.pi * np.outer(np.arange(50), np.arange(50)) / 50)
        found, wanted = np.fft.fft(series), turns @ series
        same([found.real, found.imag], [wanted.real, wanted.imag])

    def random() -> None:
        # its stream is frozen since NumPy 1.17 (NEP 19): the first numbers of seed 42
        same(np.random.RandomState(42).rand(3), [0.3745401188473625, 0.9507143064099162, 0.7319939418114051])
        drawn = np.random.default_rng(1).normal(size=100_000)
        same([round(float(drawn.mean()), 1), round(float(drawn.std()), 1)], [0.0, 1.0])

    def file() -> None:
        with tempfile.TemporaryDirectory() as folder:
            path = str(Path(folder) / "arrays.npz")
            np.savez_compressed(path, square=square)
            with np.load(path) as found:
                same(found["square"], square)

    return {
        "matrix product": product,
        "linalg.solve": solve,
        "svd and eigh": decompose,
        "fft": fourier,
        "random": random,
        "npz file": file,
    }
