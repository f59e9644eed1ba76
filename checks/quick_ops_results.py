# /// script
# requires-python = ">=3.9"
# dependencies = []
# ///
"""What quick_ops.py compares with: results that NumPy computed by the definition."""

from __future__ import annotations

from typing import Any, Callable, Union

TOLERANCE = 2e-4
"""Of values near one, in float32 without TF32."""
STEPS, INPUTS, UNITS = 6, 4, 5
"""Of the LSTM."""

Op = Callable[[], Union[str, None]]
"""Raises where it is wrong; may return a remark."""


class Wrong(Exception):
    """It ran, and the result is another one."""


class NoGpu(Exception):
    """cuda was asked for, and the framework sees none."""


def same(found: Any, wanted: Any) -> None:
    import numpy as np

    found, wanted = np.asarray(found, np.float64), np.asarray(wanted, np.float64)
    if found.shape != wanted.shape:
        raise Wrong(f"shape {found.shape}, wanted {wanted.shape}")
    error = float(np.max(np.abs(found - wanted) / np.maximum(1.0, np.abs(wanted)))) if wanted.size else 0.0
    if not error <= TOLERANCE:  # not a number is wrong too
        raise Wrong(f"differs from NumPy's result by {error:.3g}")


def numbers(*shape: int, seed: int = 0) -> Any:
    import numpy as np

    return np.random.RandomState(seed).uniform(-1, 1, shape).astype(np.float32)


def convolution(images: Any, kernel: Any) -> Any:
    """(n, height, width, in), (k, k, in, out): without padding, by the definition."""
    import numpy as np

    k = kernel.shape[0]
    rows, columns = images.shape[1] - k + 1, images.shape[2] - k + 1
    made = np.zeros((images.shape[0], rows, columns, kernel.shape[3]))
    for row in range(rows):
        for column in range(columns):
            made[:, row, column] = np.tensordot(images[:, row : row + k, column : column + k], kernel, 3)
    return made


def lstm(series: Any, kernel: Any, recurrent: Any, bias: Any) -> Any:
    """Last output for (n, steps, inputs); the gates lie as input, forget, cell, output along the last axis."""
    import numpy as np

    def sigmoid(x: Any) -> Any:
        return 1 / (1 + np.exp(-x))

    hidden = cell = np.zeros((series.shape[0], recurrent.shape[0]))
    for step in range(series.shape[1]):
        gates = np.split(series[:, step] @ kernel + hidden @ recurrent + bias, 4, axis=1)
        cell = sigmoid(gates[1]) * cell + sigmoid(gates[0]) * np.tanh(gates[2])
        hidden = sigmoid(gates[3]) * np.tanh(cell)
    return hidden


def arrays(tensor: Any) -> Any:
    """A tensor of any backend, wherever it lies, as NumPy's."""
    tensor = tensor.detach().cpu() if hasattr(tensor, "detach") else tensor
    import numpy as np

    return np.asarray(tensor)
