"""Trains with checks/mnist.py after breaking one thing in it; run by the environment's Python, not by pytest.

    python train_broken.py CHECKS BREAKAGE,… [--seeds 1,2] [--train N] and mnist.py's own options

Prints mnist.py's JSON line for each breakage and seed. This is also how the bounds in mnist.py were measured.
"""

from __future__ import annotations

import argparse
import dataclasses
import importlib
import json
import sys


def break_labels(mnist_data, change) -> None:
    digits_of = mnist_data.Source.digits

    def changed(source):
        digits = digits_of(source)
        return dataclasses.replace(digits, train_labels=change(digits.train_labels))

    mnist_data.Source.digits = changed


def break_first_layer(nets) -> None:
    """Its weights are zero, and stay zero: no gradient passes a rectifier that is off everywhere."""
    keras_model, torch_model, jax_weights, numpy_weights = (
        nets.keras_model, nets.torch_model, nets.jax_weights, nets.numpy_weights
    )  # fmt: skip

    def broken_keras_model(keras):
        model = keras_model(keras)
        layer = model.layers[0]
        layer.set_weights([0 * weights for weights in layer.get_weights()])
        return model

    def broken_torch_model():
        model = torch_model()
        for weights in model[0].parameters():
            weights.data.zero_()
        return model

    def without_first(weights):
        return [0 * weights[0], *weights[1:]]

    nets.keras_model, nets.torch_model = broken_keras_model, broken_torch_model
    nets.jax_weights = lambda seed: without_first(jax_weights(seed))
    nets.numpy_weights = lambda seed: without_first(numpy_weights(seed))


def broken(breakage, mnist_data, nets) -> None:
    import numpy as np

    if breakage == "zero-convolution":
        break_first_layer(nets)
    elif breakage == "shuffled-labels":
        break_labels(mnist_data, np.random.RandomState(0).permutation)
    elif breakage == "dead-class":
        break_labels(mnist_data, lambda labels: np.where(labels == 7, 1, labels).astype(labels.dtype))
    elif breakage in {"no-learning", "no-number"}:
        nets.LEARNING_RATE = 0.0 if breakage == "no-learning" else float("inf")
    elif breakage != "nothing":
        raise ValueError(breakage)


def main() -> int:
    sys.path.insert(0, sys.argv[1])
    import mnist
    import mnist_data
    import mnist_nets

    parser = argparse.ArgumentParser(parents=[mnist.parser(add_help=False)])
    parser.add_argument("checks")
    parser.add_argument("breakages")
    parser.add_argument("--train", type=int, default=60_000)
    parser.add_argument("--seeds", default="1")
    options = parser.parse_args()
    options.synthetic = options.data is None
    for breakage in options.breakages.split(","):
        importlib.reload(mnist_data)
        importlib.reload(mnist_nets)
        if options.train < 60_000:
            mnist_data.synthetic.__defaults__ = (options.train, 2_000, 0)
        broken(breakage, mnist_data, mnist_nets)
        for seed in options.seeds.split(","):
            options.seed = int(seed)
            found = mnist.inside(options)
            data = mnist.measured(options.framework, "cpu", found, extra=True)
            answer = {**mnist.verdict(data, found["losses"]), "breakage": breakage, "seed": seed}
            print(json.dumps(answer), flush=True)  # noqa: T201
    return 0


if __name__ == "__main__":
    sys.exit(main())
