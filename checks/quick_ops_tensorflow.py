# /// script
# requires-python = ">=3.9"
# dependencies = []
# ///
"""quick_ops.py's operations of TensorFlow, and of Keras on any backend."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from quick_ops_jax import jax_ready
from quick_ops_pytorch import torch_ready
from quick_ops_results import INPUTS, STEPS, UNITS, NoGpu, Op, Wrong, arrays, convolution, lstm, numbers, same


def tensorflow_ops(device: str) -> dict[str, Op]:
    import tensorflow as tf

    gpus = tf.config.list_physical_devices("GPU")
    if device == "cuda" and not gpus:
        raise NoGpu
    for gpu in gpus:
        tf.config.experimental.set_memory_growth(gpu, True)
    tf.config.experimental.enable_tensor_float_32_execution(False)
    x, w = numbers(8, 16), numbers(16, 4, seed=1)

    def conv() -> None:
        images, kernel = numbers(2, 8, 8, 3), numbers(3, 3, 3, 4, seed=1)
        same(tf.nn.conv2d(images, kernel, 1, "VALID"), convolution(images, kernel))

    def gradient() -> None:
        variable = tf.Variable(w)
        with tf.GradientTape() as tape:
            loss = tf.reduce_sum(tf.square(x @ variable))
        same(tape.gradient(loss, variable), 2 * x.T @ (x @ w))

    def function() -> None:
        @tf.function
        def halvings(value: Any) -> Any:
            count = 0
            while value > 1.0:  # AutoGraph reads this source and makes a graph of it
                value, count = value / 2, count + 1
            return count

        same(halvings(tf.constant(1000.0)), 10)

    def jit_compile() -> None:
        compiled = tf.function(lambda a, b: tf.nn.relu(a @ b) + 1, jit_compile=True)
        same(compiled(x, w), (x @ w).clip(min=0) + 1)

    def saved_model() -> None:
        module = tf.Module()
        module.w = tf.Variable(w)
        module.apply = tf.function(
            lambda a: a @ module.w, input_signature=[tf.TensorSpec([None, w.shape[0]], tf.float32)]
        )
        with tempfile.TemporaryDirectory() as folder:
            tf.saved_model.save(module, folder)
            loaded = tf.saved_model.load(folder)  # its variables go with it
            same(loaded.apply(tf.constant(x)), x @ w)

    def data() -> None:
        values = tf.data.Dataset.range(100).map(lambda n: n * n, num_parallel_calls=2).shuffle(100).batch(8).prefetch(1)
        same(sum(int(tf.reduce_sum(batch)) for batch in values), sum(n * n for n in range(100)))

    found: dict[str, Op] = {
        "convolution": conv,
        "gradient": gradient,
        "tf.function": function,
        "jit_compile": jit_compile,
        "SavedModel": saved_model,
        "tf.data": data,
    }
    if hasattr(tf, "keras"):
        found.update(keras_layers(tf.keras))
    return {name: on_device(tf, device, op) for name, op in found.items()}


def on_device(tf: Any, device: str, op: Op) -> Op:
    def placed() -> str | None:
        with tf.device("/GPU:0" if device == "cuda" else "/CPU:0"):
            return op()

    return placed


def keras_layers(keras: Any) -> dict[str, Op]:
    """Layers, training and the file format, of tf.keras or of Keras on any backend."""
    import numpy as np

    def recurrent() -> None:
        series = numbers(3, STEPS, INPUTS)
        layer = keras.layers.LSTM(UNITS)
        layer(series)
        weights = [numbers(*array.shape, seed=seed) for seed, array in enumerate(layer.get_weights())]
        layer.set_weights(weights)
        same(arrays(layer(series)), lstm(series, *weights))

    def training() -> None:
        model = keras.Sequential([keras.layers.Input((8,)), keras.layers.Dense(1, use_bias=False)])
        model.compile(optimizer=keras.optimizers.SGD(0.1), loss="mse")
        x, wanted = numbers(256, 8), numbers(8, 1, seed=1)
        model.fit(x, x @ wanted, epochs=40, batch_size=32, verbose=0)
        error = float(np.max(np.abs(model.get_weights()[0] - wanted)))
        if not error < 0.05:
            raise Wrong(f"gradient descent ended {error:.3g} from the weights that it should have found")

    def file() -> None:
        model = keras.Sequential([keras.layers.Input((8,)), keras.layers.Dense(4, activation="relu")])
        weights = [numbers(8, 4), numbers(4, seed=1)]
        model.set_weights(weights)
        x = numbers(5, 8, seed=2)
        with tempfile.TemporaryDirectory() as folder:
            # Keras 2.11 and older know no .keras
            path = str(Path(folder) / ("model.keras" if version_of(keras) >= (2, 12) else "model.h5"))
            model.save(path)
            same(keras.models.load_model(path).predict(x, verbose=0), (x @ weights[0] + weights[1]).clip(min=0))

    return {"LSTM": recurrent, "fit": training, ".keras file": file}


def version_of(module: Any) -> tuple[int, int]:
    major, minor = str(getattr(module, "__version__", None) or "3.0").split(".")[:2]
    return int(major), int(minor)


def keras_ops(device: str) -> dict[str, Op]:
    import keras

    backend = keras.backend.backend() if hasattr(keras, "backend") else "tensorflow"
    if backend == "tensorflow":
        import tensorflow as tf

        if device == "cuda" and not tf.config.list_physical_devices("GPU"):
            raise NoGpu
        tf.config.experimental.enable_tensor_float_32_execution(False)
    elif backend == "torch":
        torch_ready(device)
    elif backend == "jax":
        jax_ready(device)

    def conv() -> None:
        images, kernel = numbers(2, 8, 8, 3), numbers(3, 3, 3, 4, seed=1)
        layer = keras.layers.Conv2D(4, 3, use_bias=False)
        layer(images)
        layer.set_weights([kernel])
        same(arrays(layer(images)), convolution(images, kernel))

    return {"convolution": conv, **keras_layers(keras)}
