# /// script
# requires-python = ">=3.9"
# dependencies = []
# ///
"""quick_ops.py's operations of JAX."""

from __future__ import annotations

from typing import Any

from quick_ops_results import INPUTS, STEPS, UNITS, NoGpu, Op, convolution, lstm, numbers, same


def jax_ready(device: str) -> Any:
    import jax

    jax.config.update("jax_default_matmul_precision", "highest")
    if device == "cuda":
        try:
            jax.devices("gpu")
        except RuntimeError:
            raise NoGpu from None
    return jax


def jax_ops(device: str) -> dict[str, Op]:
    jax = jax_ready(device)
    import numpy as np
    from jax import numpy as jnp

    x, w = numbers(8, 16), numbers(16, 4, seed=1)

    def jit() -> None:
        same(jax.jit(lambda a, b: jnp.maximum(a @ b, 0) + 1)(x, w), (x @ w).clip(min=0) + 1)

    def gradient() -> None:
        same(jax.grad(lambda b: jnp.sum((x @ b) ** 2))(w), 2 * x.T @ (x @ w))

    def conv() -> None:
        images, kernel = numbers(2, 8, 8, 3), numbers(3, 3, 3, 4, seed=1)
        names = ("NHWC", "HWIO", "NHWC")
        same(
            jax.lax.conv_general_dilated(images, kernel, (1, 1), "VALID", dimension_numbers=names),
            convolution(images, kernel),
        )

    def recurrent() -> None:
        series, kernel = numbers(3, STEPS, INPUTS), numbers(INPUTS, 4 * UNITS, seed=1)
        inner, bias = numbers(UNITS, 4 * UNITS, seed=2), numbers(4 * UNITS, seed=3)

        def step(state: Any, one: Any) -> Any:
            hidden, cell = state
            i, f, g, o = jnp.split(one @ kernel + hidden @ inner + bias, 4, axis=1)
            cell = jax.nn.sigmoid(f) * cell + jax.nn.sigmoid(i) * jnp.tanh(g)
            return (jax.nn.sigmoid(o) * jnp.tanh(cell), cell), None

        start = (jnp.zeros((3, UNITS)), jnp.zeros((3, UNITS)))
        (hidden, _), _ = jax.lax.scan(step, start, jnp.swapaxes(series, 0, 1))
        same(hidden, lstm(series, kernel, inner, bias))

    def mapped() -> None:
        same(jax.vmap(lambda row: jnp.linalg.norm(row))(x), np.sqrt((x.astype(np.float64) ** 2).sum(1)))

    return {"jit": jit, "grad": gradient, "convolution": conv, "LSTM (scan)": recurrent, "vmap": mapped}
