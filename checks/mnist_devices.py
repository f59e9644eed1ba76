# /// script
# requires-python = ">=3.9"
# dependencies = []
# ///
"""The GPUs that a framework sees, and where its tensors really lie.

A part of mnist.py and speed_up.py, which load it from their own folder.
"""

from __future__ import annotations

from typing import Any

GPU_PLATFORMS = ("gpu", "cuda")
"""As JAX says it, by release."""


def gpu_count(framework: str) -> int:
    """How many the framework sees. Asked before training, which some would start on the CPU instead."""
    if framework == "pytorch":
        import torch

        return torch.cuda.device_count() if torch.cuda.is_available() else 0
    if framework == "tensorflow":
        import tensorflow as tf

        return len(tf.config.list_physical_devices("GPU"))
    if framework == "jax":
        import jax

        return sum(device.platform in GPU_PLATFORMS for device in jax.devices())
    if framework == "keras":
        import keras

        return gpu_count({"torch": "pytorch"}.get(keras.backend.backend(), keras.backend.backend()))
    return 0


def gpu_name(framework: str) -> str | None:
    """Of the first GPU that the framework sees, which is the only one where the others are hidden."""
    if framework == "pytorch":
        import torch

        return str(torch.cuda.get_device_name(0))
    if framework == "tensorflow":
        import tensorflow as tf

        details = tf.config.experimental.get_device_details(tf.config.list_physical_devices("GPU")[0])
        return details.get("device_name")
    if framework == "jax":
        import jax

        return str(jax.devices("gpu")[0].device_kind)
    return None


def places(tensors: list[Any]) -> str:
    """ "cpu" or "cuda", where the tensors really lie; both, comma-separated, where they are spread."""
    found = set()
    for tensor in tensors:
        if callable(getattr(tensor, "devices", None)):  # JAX
            found |= {one.platform for one in tensor.devices()}
        else:  # torch.device("cuda:0"), "/job:localhost/replica:0/task:0/device:GPU:0"
            found.add(str(tensor.device).rpartition("device:")[2].partition(":")[0])
    names = {"gpu": "cuda", "GPU": "cuda", "CPU": "cpu"}
    return ",".join(sorted({names.get(one, one) for one in found}))
