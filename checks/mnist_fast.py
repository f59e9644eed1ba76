# /// script
# requires-python = ">=3.9"
# dependencies = ["numpy"]
# ///
"""The network that mnist.py --target trains: 99 % in few epochs, all digits on the device from the start.

Three convolutions of 32, 64 and 128 3x3, each with batch normalisation, relu and 2x2 pooling, then a dense layer of 10;
batches of 512, Adam, a learning rate that rises for a fifth of the steps and falls to zero. After each epoch the test
digits are looked at, and training stops as soon as the target is reached: that look is part of the training's time.
The digits are copied to the device once (as bytes but with TensorFlow); shuffling and batches are made there.

A part of mnist.py, which loads it from its own folder.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from mnist_data import Digits
from mnist_devices import places

CHANNELS, KERNEL = (32, 64, 128), 3
SIDES = (28, 14, 7)
LAST = 3 * 3 * CHANNELS[-1]
"""What is left of 28x28 after three halvings (28, 14, 7, 3)."""
BATCH, PEAK_RATE, RISE, EPOCHS = 512, 0.004, 0.2, 4
MOMENTUM, EPSILON = 0.9, 1e-5
"""Of batch normalisation: of the running mean and variance, a step; added to the variance."""
MEAN, DEVIATION = 0.1307, 0.3081
"""Of MNIST's training pixels, in [0, 1]."""

_FORWARD = [
    2 * side * side * KERNEL * KERNEL * before * after for side, before, after in zip(SIDES, (1, *CHANNELS), CHANNELS)
]
FLOPS = 2 * _FORWARD[0] + 3 * (sum(_FORWARD[1:]) + 2 * LAST * 10)
"""Floating-point operations to train on one sample, counted as mnist_nets.py counts them."""


@dataclass(frozen=True)
class Job:
    digits: Digits
    device: str
    """ "cpu" or "cuda"."""
    epochs: int
    """At most; the learning rate is zero after the last one."""
    target: float
    """The test accuracy to stop at."""
    seed: int = 1


def rate_at(step: int, steps: int) -> float:
    """The learning rate of ``step``, from 0, of ``steps``."""
    done = (step + 0.5) / steps
    return PEAK_RATE * min(done / RISE, (1 - done) / (1 - RISE))


def timed(
    job: Job, warm_up: Callable[[], None], step: Callable[[int, float], None], accuracy: Callable[[], float]
) -> dict[str, Any]:
    """Train until the target. ``step`` takes its number within the epoch (0: shuffle first) and the learning rate.

    ``accuracy`` waits for the device, so that the clock is read when the work is done.
    """
    begun = time.perf_counter()
    warm_up()
    start = time.perf_counter()
    a_epoch = len(job.digits.train_images) // BATCH
    reached: list[float] = []
    while len(reached) < job.epochs and (not reached or reached[-1] < job.target):
        for number in range(a_epoch):
            step(number, rate_at(len(reached) * a_epoch + number, job.epochs * a_epoch))
        reached.append(accuracy())
    return {
        "warm_up_s": start - begun,
        "train_s": time.perf_counter() - start,
        "accuracies": reached,
        "accuracy": reached[-1],
        "samples": len(reached) * a_epoch * BATCH,
    }


def torch_model() -> Any:
    from torch import nn

    layers: list[Any] = []
    for before, after in zip((1, *CHANNELS), CHANNELS):
        convolution = nn.Conv2d(before, after, KERNEL, padding=1, bias=False)
        layers += [convolution, nn.BatchNorm2d(after, EPSILON, 1 - MOMENTUM), nn.ReLU(), nn.MaxPool2d(2)]
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(LAST, 10))


def train_pytorch(job: Job) -> dict[str, Any]:
    import torch

    on_gpu = job.device == "cuda"
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = True
    torch.backends.cudnn.benchmark = on_gpu
    images, labels, test_images, test_labels = (
        torch.from_numpy(part.copy()).to(job.device)
        for part in (job.digits.train_images, job.digits.train_labels, job.digits.test_images, job.digits.test_labels)
    )
    state: dict[str, Any] = {}

    def fresh() -> None:
        torch.manual_seed(job.seed)
        model = torch_model().to(job.device, memory_format=torch.channels_last)
        optimizer = torch.optim.Adam(model.parameters(), lr=PEAK_RATE, fused=on_gpu or None)
        state.update(model=model, optimizer=optimizer)

    def scaled(part: Any) -> Any:
        return ((part[:, None].float() / 255 - MEAN) / DEVIATION).contiguous(memory_format=torch.channels_last)

    def step(number: int, rate: float) -> None:
        if number == 0:
            state["model"].train()
            state["order"] = torch.randperm(len(images), device=job.device)
        rows = state["order"][number * BATCH : (number + 1) * BATCH]
        state["optimizer"].param_groups[0]["lr"] = rate
        state["optimizer"].zero_grad()
        scores = state["model"](scaled(images[rows]))
        torch.nn.functional.cross_entropy(scores, labels[rows].long()).backward()
        state["optimizer"].step()

    def accuracy() -> float:
        state["model"].eval()
        with torch.no_grad():
            right = [
                (state["model"](scaled(part)).argmax(1) == truth).sum()
                for part, truth in zip(test_images.split(2000), test_labels.split(2000))
            ]
        return float(torch.stack(right).sum()) / len(test_images)

    def warm_up() -> None:
        fresh()
        step(0, 0.0)
        step(1, 0.0)
        accuracy()
        fresh()

    found = timed(job, warm_up, step, accuracy)
    tensors = [*state["model"].parameters(), images, labels, test_images]
    return {"version": torch.__version__, "ran_on": places(tensors), **found}


def train_tensorflow(job: Job) -> dict[str, Any]:
    import numpy
    import tensorflow as tf

    from mnist_nets import set_seed

    keras = tf.keras
    with tf.device("/GPU:0" if job.device == "cuda" else "/CPU:0"):
        # float32, because not every kernel that TensorFlow has for it on GPUs exists for bytes
        images, test_images = (tf.constant(scaled(part)) for part in (job.digits.train_images, job.digits.test_images))
        labels = tf.constant(numpy.eye(10, dtype="float32")[job.digits.train_labels])
        test_labels = tf.constant(job.digits.test_labels.astype("int64"))
        set_seed(keras, job.seed)
        model = keras_model(keras)
        optimizer = keras.optimizers.Adam(PEAK_RATE, epsilon=1e-8)
        start = [(variable, variable.numpy()) for variable in model.variables]
        order = tf.Variable(tf.range(len(images), dtype=tf.int64), trainable=False)

        @tf.function
        def one(number: Any) -> None:
            rows = order[number * BATCH : (number + 1) * BATCH]
            with tf.GradientTape() as tape:
                scores = model(tf.gather(images, rows), training=True)
                loss = tf.reduce_mean(tf.nn.softmax_cross_entropy_with_logits(tf.gather(labels, rows), scores))
            slopes = tape.gradient(loss, model.trainable_variables)
            optimizer.apply_gradients(zip(slopes, model.trainable_variables))

        @tf.function
        def right(part: Any, truth: Any) -> Any:
            return tf.reduce_sum(tf.cast(tf.argmax(model(part, training=False), 1) == truth, tf.float32))

        def step(number: int, rate: float) -> None:
            if number == 0:
                order.assign(tf.cast(tf.argsort(tf.random.uniform((len(images),))), tf.int64))
            optimizer.learning_rate.assign(rate)
            one(tf.constant(number))

        def accuracy() -> float:
            parts = [slice(first, first + 2000) for first in range(0, len(test_images), 2000)]
            return sum(float(right(test_images[part], test_labels[part])) for part in parts) / len(test_images)

        def warm_up() -> None:
            step(0, 0.0)
            step(1, 0.0)
            accuracy()
            for variable, value in start:
                variable.assign(value)
            moments = optimizer.variables() if callable(optimizer.variables) else optimizer.variables  # Keras 2
            for variable in moments:  # steps so far, two moments; the learning rate is given to each step
                variable.assign(tf.zeros_like(variable))

        found = timed(job, warm_up, step, accuracy)
        tensors = [getattr(weight, "value", weight) for weight in model.trainable_weights]
        tensors = [tensor() if callable(tensor) else tensor for tensor in tensors]  # Keras 2: a method
        return {"version": tf.__version__, "ran_on": places([*tensors, images, labels, test_images]), **found}


def scaled(images: Any) -> Any:
    """float32, (N, 28, 28, 1), of mean 0 and deviation 1 over MNIST."""
    return ((images.astype("float32") / 255 - MEAN) / DEVIATION)[..., None]


def keras_model(keras: Any) -> Any:
    layers: list[Any] = [keras.Input((28, 28, 1))]
    for after in CHANNELS:
        layers += [
            keras.layers.Conv2D(after, KERNEL, padding="same", use_bias=False),
            keras.layers.BatchNormalization(momentum=MOMENTUM, epsilon=EPSILON),
            keras.layers.ReLU(),
            keras.layers.MaxPooling2D(2),
        ]
    return keras.Sequential([*layers, keras.layers.Flatten(), keras.layers.Dense(10)])


def jax_weights(seed: int) -> tuple[list[Any], list[Any]]:
    """What is learnt (kernel, scale and shift of each convolution; matrix and bias), and the running statistics."""
    import jax
    import jax.numpy as jnp

    keys = jax.random.split(jax.random.PRNGKey(seed), len(CHANNELS) + 1)
    learnt, running = [], []
    for key, before, after in zip(keys, (1, *CHANNELS), CHANNELS):
        limit = math.sqrt(6 / (KERNEL * KERNEL * (before + after)))
        kernel = jax.random.uniform(key, (KERNEL, KERNEL, before, after), minval=-limit, maxval=limit)
        learnt += [kernel, jnp.ones(after), jnp.zeros(after)]
        running += [jnp.zeros(after), jnp.ones(after)]
    limit = math.sqrt(6 / (LAST + 10))
    learnt += [jax.random.uniform(keys[-1], (LAST, 10), minval=-limit, maxval=limit), jnp.zeros(10)]
    return learnt, running


def jax_scores(learnt: list[Any], running: list[Any], images: Any, training: bool) -> tuple[Any, list[Any]]:
    """Logits, (N, 10), and the running statistics after this batch. ``images``: uint8, (N, 28, 28)."""
    import jax
    import jax.numpy as jnp

    maps = ((images.astype(jnp.float32) / 255 - MEAN) / DEVIATION)[..., None]
    after_this: list[Any] = []
    for layer in range(len(CHANNELS)):
        kernel, scale, shift = learnt[3 * layer : 3 * layer + 3]
        mean, variance = running[2 * layer : 2 * layer + 2]
        maps = jax.lax.conv_general_dilated(maps, kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"))
        if training:
            now, spread = maps.mean((0, 1, 2)), maps.var((0, 1, 2))
            after_this += [MOMENTUM * mean + (1 - MOMENTUM) * now, MOMENTUM * variance + (1 - MOMENTUM) * spread]
            mean, variance = now, spread
        maps = jax.nn.relu((maps - mean) * (scale * jax.lax.rsqrt(variance + EPSILON)) + shift)
        half = maps.shape[1] // 2
        # the maximum over a reshaped axis: the gradient of XLA's reduce_window is many times slower on CPUs
        maps = maps[:, : 2 * half, : 2 * half].reshape(len(maps), half, 2, half, 2, -1).max((2, 4))
    return maps.reshape(len(maps), -1) @ learnt[-2] + learnt[-1], after_this


def train_jax(job: Job) -> dict[str, Any]:
    import jax
    import jax.numpy as jnp

    from mnist_nets import adam

    device = jax.devices("gpu" if job.device == "cuda" else "cpu")[0]
    images, labels, test_images, test_labels = (
        jax.device_put(part, device)
        for part in (job.digits.train_images, job.digits.train_labels, job.digits.test_images, job.digits.test_labels)
    )

    # the digits are arguments: what a compiled function only refers to becomes a constant of its code
    def one(state: Any, images: Any, labels: Any, order: Any, first: Any, rate: Any) -> Any:
        learnt, running, means, squares, count = state
        rows = jax.lax.dynamic_slice(order, (first,), (BATCH,))

        def loss(weights: list[Any]) -> Any:
            scores, after_this = jax_scores(weights, running, images[rows], training=True)
            truth = labels[rows].astype(jnp.int32)[:, None]
            return -jnp.take_along_axis(jax.nn.log_softmax(scores), truth, 1).mean(), after_this

        slopes, after_this = jax.grad(loss, has_aux=True)(learnt)
        moved = adam(jnp.sqrt, learnt, slopes, means, squares, count + 1, rate)
        return moved[0], after_this, moved[1], moved[2], count + 1

    def right(learnt: Any, running: Any, part: Any, truth: Any) -> Any:
        return (jax_scores(learnt, running, part, training=False)[0].argmax(1) == truth).sum()

    one, right = jax.jit(one), jax.jit(right)
    held: dict[str, Any] = {}

    def fresh() -> None:
        learnt, running = jax_weights(job.seed)
        zeros = [0 * weight for weight in learnt]
        start = ((learnt, running, zeros, zeros, 0.0), jax.random.PRNGKey(job.seed + 1))
        held["state"], held["key"] = jax.device_put(start, device)

    def step(number: int, rate: float) -> None:
        if number == 0:
            held["key"], key = jax.random.split(held["key"])
            held["order"] = jax.random.permutation(key, len(images))
        held["state"] = one(held["state"], images, labels, held["order"], number * BATCH, rate)

    def accuracy() -> float:
        parts = [slice(first, first + 2000) for first in range(0, len(test_images), 2000)]
        found = [right(*held["state"][:2], test_images[part], test_labels[part]) for part in parts]
        return float(jnp.stack(found).sum()) / len(test_images)

    def warm_up() -> None:
        fresh()
        step(0, 0.0)
        step(1, 0.0)
        accuracy()
        fresh()

    found = timed(job, warm_up, step, accuracy)
    ran_on = places([*held["state"][0], images, labels, test_images])
    return {"version": jax.__version__, "ran_on": ran_on, **found}


TRAINERS = {"tensorflow": train_tensorflow, "pytorch": train_pytorch, "jax": train_jax}
