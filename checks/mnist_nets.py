# /// script
# requires-python = ">=3.9"
# dependencies = ["numpy"]
# ///
"""The networks that mnist.py trains, one for each framework, and what it measures of them.

A part of mnist.py, which loads it from its own folder: mnist.py and all mnist_*.py travel together.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from mnist_data import Digits
from mnist_devices import places

BATCH, LEARNING_RATE, DROPOUT = 128, 0.001, 0.2
FILTERS, KERNEL, DENSE = 32, 5, 128
HIDDEN = 256  # of the NumPy perceptron

# Floating-point operations to train on one sample: a multiplication and an addition for each weight and position,
# forward and for the gradient of the weights, and once more for the gradient of the inputs, except in the first layer.
POSITIONS, POOLED = 24 * 24, 12 * 12
CONVOLUTION = 2 * POSITIONS * KERNEL * KERNEL * FILTERS
DENSES = 2 * (POOLED * FILTERS * DENSE + DENSE * 10)
CONVOLUTIONAL_FLOPS = 2 * CONVOLUTION + 3 * DENSES
PERCEPTRON_FLOPS = 2 * (2 * 784 * HIDDEN) + 3 * (2 * HIDDEN * 10)


@dataclass(frozen=True)
class Job:
    digits: Digits
    device: str
    """ "cpu" or "cuda"."""
    epochs: int
    bound: float
    """The accuracy to reach."""
    seed: int = 1


def train_tensorflow(job: Job) -> dict[str, Any]:
    import tensorflow as tf

    def product(size: int) -> Callable[[], Any]:
        square = tf.ones((size, size))
        return lambda: tf.matmul(square, square)[0, 0].numpy()

    return {"version": tf.__version__, **train_keras_model(tf.keras, job), "peak_gflops": peak(product)}


def train_keras(job: Job) -> dict[str, Any]:
    import keras

    def product(size: int) -> Callable[[], Any]:
        square = keras.ops.ones((size, size))
        return lambda: keras.ops.convert_to_numpy(keras.ops.matmul(square, square)[0, 0])

    found = train_keras_model(keras, job)
    return {"version": keras.__version__, "backend": keras.backend.backend(), **found, "peak_gflops": peak(product)}


def keras_model(keras: Any) -> Any:
    layers = keras.layers
    return keras.Sequential(
        [
            keras.Input((28, 28, 1)),
            layers.Conv2D(FILTERS, KERNEL, activation="relu"),
            layers.MaxPooling2D(2),
            layers.Dropout(DROPOUT),
            layers.Flatten(),
            layers.Dense(DENSE, activation="relu"),
            layers.Dense(10, activation="softmax"),
        ]
    )


def set_seed(keras: Any, seed: int) -> None:
    """keras.utils.set_random_seed, which TensorFlow has from 2.7 on."""
    if hasattr(keras.utils, "set_random_seed"):
        keras.utils.set_random_seed(seed)
        return
    import numpy
    import tensorflow as tf

    numpy.random.seed(seed)
    tf.random.set_seed(seed)


def train_keras_model(keras: Any, job: Job) -> dict[str, Any]:
    set_seed(keras, job.seed)
    # whole batches: on GPUs Keras 3 has XLA compile its step, and a last batch of another shape once more while timed
    digits, whole = job.digits, len(job.digits.train_images) // BATCH * BATCH
    images, test_images = (pixels(part)[..., None] for part in (digits.train_images[:whole], digits.test_images))
    labels, test_labels = (part.astype("int32") for part in (digits.train_labels[:whole], digits.test_labels))
    model = keras_model(keras)
    optimizer = keras.optimizers.Adam(LEARNING_RATE)
    model.compile(optimizer=optimizer, loss="sparse_categorical_crossentropy", metrics=["accuracy"])
    start = time.perf_counter()
    model.fit(images[: 2 * BATCH], labels[: 2 * BATCH], batch_size=BATCH, verbose=0)  # traces and compiles
    warm = time.perf_counter()
    history = model.fit(images, labels, batch_size=BATCH, epochs=job.epochs, verbose=0).history
    end = time.perf_counter()
    accuracy = model.evaluate(test_images, test_labels, batch_size=1000, verbose=0)[1]
    tensors = [getattr(weight, "value", weight) for weight in model.trainable_weights]
    tensors = [tensor() if callable(tensor) else tensor for tensor in tensors]  # Keras 2: a method
    return {
        "ran_on": places([*tensors, model(test_images[:1])]),
        "warm_up_s": warm - start,
        "train_s": end - warm,
        "samples": len(images) * job.epochs,
        "losses": history["loss"],
        "accuracy": float(accuracy),
    }


def torch_model() -> Any:
    """Keras's network, its initialisation included (Glorot's uniform; biases are zero)."""
    from torch import nn

    model = nn.Sequential(
        nn.Conv2d(1, FILTERS, KERNEL),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Dropout(DROPOUT),
        nn.Flatten(),
        nn.Linear(POOLED * FILTERS, DENSE),
        nn.ReLU(),
        nn.Linear(DENSE, 10),
    )
    for layer in (model[0], model[5], model[7]):
        nn.init.xavier_uniform_(layer.weight)
        nn.init.zeros_(layer.bias)
    return model


def train_pytorch(job: Job) -> dict[str, Any]:
    import torch

    torch.manual_seed(job.seed)
    digits, device = job.digits, job.device
    images, test_images = (
        torch.from_numpy(pixels(part)[:, None]) for part in (digits.train_images, digits.test_images)
    )
    labels, test_labels = (torch.from_numpy(part.astype("int64")) for part in (digits.train_labels, digits.test_labels))
    model = torch_model().to(device)
    optimizer = torch.optim.Adam(model.parameters(), lr=LEARNING_RATE)

    def epoch(order: Any) -> float:
        total = torch.zeros((), device=device)
        for rows in order.split(BATCH):
            optimizer.zero_grad()
            loss = torch.nn.functional.cross_entropy(model(images[rows].to(device)), labels[rows].to(device))
            loss.backward()
            optimizer.step()
            total += loss.detach() * len(rows)
        return float(total) / len(order)

    times = timed_epochs(epoch, lambda: torch.randperm(len(images)), job.epochs)
    model.eval()
    with torch.no_grad():
        scores = torch.cat([model(part.to(device)) for part in test_images.split(1000)])
    right = scores.argmax(1).cpu() == test_labels

    def product(size: int) -> Callable[[], Any]:
        square = torch.ones((size, size), device=device)
        return lambda: float((square @ square)[0, 0])

    return {
        "version": torch.__version__,
        "ran_on": places([*model.parameters(), scores]),
        **times,
        "samples": len(images) * job.epochs,
        "accuracy": float(right.float().mean()),
        "peak_gflops": peak(product),
    }


def jax_weights(seed: int) -> list[Any]:
    """Keras's initialisation: Glorot's uniform; biases are zero."""
    import jax

    shapes = [(KERNEL, KERNEL, 1, FILTERS), (POOLED * FILTERS, DENSE), (DENSE, 10)]
    weights = []
    for key, shape in zip(jax.random.split(jax.random.PRNGKey(seed), 3), shapes):
        area = math.prod(shape[:-2])
        limit = math.sqrt(6 / (area * (shape[-2] + shape[-1])))
        weights += [jax.random.uniform(key, shape, minval=-limit, maxval=limit), jax.numpy.zeros(shape[-1])]
    return weights


def jax_scores(weights: list[Any], images: Any, dropout: Any = None) -> Any:
    """Logits, (N, 10); with a key, the pooled maps are dropped out."""
    import jax

    kernel, bias, dense, dense_bias, last, last_bias = weights
    layout = ("NHWC", "HWIO", "NHWC")
    maps = jax.lax.conv_general_dilated(images, kernel, (1, 1), "VALID", dimension_numbers=layout)
    # the maximum over a reshaped axis: the gradient of XLA's reduce_window is many times slower on CPUs
    maps = jax.nn.relu(maps + bias).reshape(len(images), 12, 2, 12, 2, FILTERS).max((2, 4))
    if dropout is not None:
        maps *= jax.random.bernoulli(dropout, 1 - DROPOUT, maps.shape) / (1 - DROPOUT)
    return jax.nn.relu(maps.reshape(len(images), -1) @ dense + dense_bias) @ last + last_bias


def jax_step(state: Any, images: Any, labels: Any) -> Any:
    """One step of training: the new state (weights, two moments, steps so far, key), and the loss."""
    import jax
    import jax.numpy as jnp

    def loss(weights: list[Any]) -> Any:
        chances = jax.nn.log_softmax(jax_scores(weights, images, dropout))
        return -jnp.take_along_axis(chances, labels[:, None], 1).mean()

    weights, means, squares, count, key = state
    key, dropout = jax.random.split(key)
    value, slopes = jax.value_and_grad(loss)(weights)
    return (*adam(jnp.sqrt, weights, slopes, means, squares, count + 1, LEARNING_RATE), count + 1, key), value


def train_jax(job: Job) -> dict[str, Any]:
    import jax
    import jax.numpy as jnp
    import numpy as np

    digits = job.digits
    images, test_images = (pixels(part)[..., None] for part in (digits.train_images, digits.test_images))
    labels, random = digits.train_labels.astype("int32"), np.random.RandomState(job.seed)
    start, step, forward = jax_weights(job.seed), jax.jit(jax_step), jax.jit(jax_scores)
    state: Any = (start, [0 * one for one in start], [0 * one for one in start], 0.0, jax.random.PRNGKey(job.seed))

    def epoch(order: Any) -> float:
        nonlocal state
        values = []
        for first in range(0, len(order) - BATCH + 1, BATCH):  # whole batches: another shape is another compilation
            rows = order[first : first + BATCH]
            state, value = step(state, images[rows], labels[rows])
            values.append(value)
        return float(np.mean(jax.device_get(values)))  # in JAX it would be one more compilation

    times = timed_epochs(epoch, lambda: random.permutation(len(images)), job.epochs)
    results = [forward(state[0], test_images[first : first + 1000]) for first in range(0, len(test_images), 1000)]
    right = np.concatenate(results).argmax(1) == digits.test_labels

    def product(size: int) -> Callable[[], Any]:
        square = jnp.ones((size, size))
        return lambda: (square @ square).block_until_ready()

    return {
        "version": jax.__version__,
        "ran_on": places([*state[0], results[0]]),
        **times,
        "samples": len(images) // BATCH * BATCH * job.epochs,
        "accuracy": float(right.mean()),
        "peak_gflops": peak(product),
    }


def adam(sqrt: Any, weights: Any, slopes: Any, means: Any, squares: Any, count: Any, rate: Any) -> Any:
    """Step ``count`` of Adam (Kingma, Ba 2015) over lists of arrays: new weights, first moments, second moments."""
    means = [0.9 * mean + 0.1 * slope for mean, slope in zip(means, slopes)]
    squares = [0.999 * square + 0.001 * slope * slope for square, slope in zip(squares, slopes)]
    rate *= (1 - 0.999**count) ** 0.5 / (1 - 0.9**count)
    moved = [one - rate * mean / (sqrt(square) + 1e-7) for one, mean, square in zip(weights, means, squares)]
    return moved, means, squares


def numpy_weights(seed: int) -> list[Any]:
    import numpy as np

    random = np.random.RandomState(seed)
    first = random.normal(0, math.sqrt(2 / 784), (784, HIDDEN)).astype(np.float32)
    second = random.normal(0, math.sqrt(2 / HIDDEN), (HIDDEN, 10)).astype(np.float32)
    return [first, np.zeros(HIDDEN, np.float32), second, np.zeros(10, np.float32)]


def numpy_step(state: Any, images: Any, labels: Any) -> Any:
    """One step of training: the new state (weights, two moments, steps so far), and the summed loss."""
    import numpy as np

    (first, bias, second, last), means, squares, count = state
    picked = (np.arange(len(labels)), labels)
    hidden = np.maximum(images @ first + bias, 0)
    scores = hidden @ second + last
    chances = np.exp(scores - scores.max(1, keepdims=True))
    chances /= chances.sum(1, keepdims=True)
    loss = -np.log(chances[picked] + 1e-12).sum()
    chances[picked] -= 1
    chances /= len(labels)
    back = (chances @ second.T) * (hidden > 0)
    slopes = [images.T @ back, back.sum(0), hidden.T @ chances, chances.sum(0)]
    return (*adam(np.sqrt, state[0], slopes, means, squares, count + 1, LEARNING_RATE), count + 1), float(loss)


def train_numpy(job: Job) -> dict[str, Any]:
    """Stops after the epoch that reaches the bound."""
    import numpy as np

    digits = job.digits
    images, test_images = (pixels(part).reshape(-1, 784) for part in (digits.train_images, digits.test_images))
    random, start = np.random.RandomState(job.seed), numpy_weights(job.seed)
    state: Any = (start, [0 * one for one in start], [0 * one for one in start], 0)

    def epoch(order: Any) -> float:
        nonlocal state
        total = 0.0
        for first in range(0, len(order), BATCH):
            rows = order[first : first + BATCH]
            state, loss = numpy_step(state, images[rows], digits.train_labels[rows])
            total += loss
        return total / len(order)

    times: dict[str, Any] = {"warm_up_s": 0.0, "train_s": 0.0, "losses": []}
    accuracy = 0.0
    while len(times["losses"]) < job.epochs and accuracy < job.bound:
        once = timed_epochs(epoch, lambda: random.permutation(len(images)), 1, warm_up=not times["losses"])
        times = {name: value + once[name] for name, value in times.items()}
        hidden = np.maximum(test_images @ state[0][0] + state[0][1], 0)
        accuracy = float(((hidden @ state[0][2] + state[0][3]).argmax(1) == digits.test_labels).mean())

    def product(size: int) -> Callable[[], Any]:
        square = np.ones((size, size), np.float32)
        return lambda: square @ square

    return {
        "version": np.__version__,
        "ran_on": "cpu",
        **times,
        "samples": len(images) * len(times["losses"]),
        "accuracy": accuracy,
        "peak_gflops": peak(product),
    }


TRAINERS = {
    "tensorflow": train_tensorflow,
    "keras": train_keras,
    "pytorch": train_pytorch,
    "jax": train_jax,
    "numpy": train_numpy,
}


# --- measuring -------------------------------------------------------------------------------------------------------


def pixels(images: Any) -> Any:
    """float32 in [0, 1], the same shape."""
    return images.astype("float32") / 255


def timed_epochs(
    epoch: Callable[[Any], float], order: Callable[[], Any], epochs: int, warm_up: bool = True
) -> dict[str, Any]:
    """Seconds of two warm-up batches (compilation, first allocations), seconds of the epochs, their losses."""
    start = time.perf_counter()
    if warm_up:
        epoch(order()[: 2 * BATCH])
    warm = time.perf_counter()
    losses = [epoch(order()) for _ in range(epochs)]
    return {"warm_up_s": warm - start, "train_s": time.perf_counter() - warm, "losses": losses}


def peak(product: Callable[[int], Callable[[], Any]]) -> float:
    """GFLOP/s of the fastest float32 matrix product: ``product(n)`` makes one of n by n, that waits for its result."""
    best, size = 0.0, 512
    while True:
        once = product(size)
        once()
        seconds = []
        for _ in range(5):
            start = time.perf_counter()
            once()
            seconds.append(time.perf_counter() - start)
        best = max(best, 2 * size**3 / min(seconds) / 1e9)
        if min(seconds) > 0.02 or size >= 8192:
            return best
        size *= 2
