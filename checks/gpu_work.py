# /// script
# requires-python = ">=3.9"
# dependencies = ["numpy"]
# ///
"""Matrix products and copies on one device, with TensorFlow, PyTorch or JAX.

A part of gpu_compute.py and gpu_state.py, which load it from their own folder. A launch returns at once on a GPU, and
`wait` blocks until the device is done, so that many launches can be timed together. All that is done to a tensor is
done on the device where it lies: elsewhere it would be copied there, and the copy timed.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

FRAMEWORKS = ("tensorflow", "pytorch", "jax")
FORMATS = ("fp32", "tf32", "bf16")
TENSOR_FORMATS_FROM = (8, 0)
"""tf32 and bf16 are computed in from compute capability 8.0 on; below, frameworks emulate bf16 and ignore tf32."""


def formats_of(capability: list[int] | None) -> tuple[str, ...]:
    """What a GPU computes in at useful speed, of FORMATS. An unknown GPU is asked for fp32 alone."""
    return FORMATS if capability and tuple(capability) >= TENSOR_FORMATS_FROM else FORMATS[:1]


class PyTorch:
    def __init__(self, device: str) -> None:
        import torch

        self.torch, self.kind, self.version = torch, device, torch.__version__
        # sums of bf16 products are kept in float32 to the end, as the other frameworks keep them
        torch.backends.cuda.matmul.allow_bf16_reduced_precision_reduction = False

    def formats(self) -> tuple[str, ...]:
        """Those of FORMATS that it multiplies matrices in."""
        return FORMATS

    def devices(self) -> list[dict[str, Any]]:
        cuda = self.torch.cuda
        if self.kind == "cpu":
            return [{"name": "CPU", "capability": None}]
        count = cuda.device_count() if cuda.is_available() else 0
        return [
            {"name": cuda.get_device_name(index), "capability": list(cuda.get_device_capability(index))}
            for index in range(count)
        ]

    def ordinals(self) -> list[int]:
        """Of the devices, as CUDA numbers them."""
        return list(range(len(self.devices())))

    def where(self, index: int) -> str:
        return f"cuda:{index}" if self.kind == "cuda" else "cpu"

    def put(self, values: Any, index: int, number: str) -> Any:
        return self.cast(self.torch.from_numpy(values).to(self.where(index)), number)

    def random(self, size: int, index: int, number: str, seed: int) -> Any:
        """A square of normal numbers, made on the device."""
        dice = self.torch.Generator(device=self.where(index)).manual_seed(seed)
        return self.cast(self.torch.randn(size, size, generator=dice, device=self.where(index)), number)

    def cast(self, tensor: Any, number: str) -> Any:
        return tensor.to(self.torch.bfloat16) if number == "bf16" else tensor

    def full(self, elements: int, index: int) -> Any:
        return self.torch.ones(elements, device=self.where(index))

    def product(self, number: str) -> Callable[[Any, Any], Any]:
        self.torch.backends.cuda.matmul.allow_tf32 = number == "tf32"
        return lambda left, right: left @ right

    def copy(self, values: Any) -> Any:
        return values + 1

    def wait(self, tensor: Any) -> None:
        if tensor.device.type == "cuda":
            self.torch.cuda.synchronize(tensor.device)

    def numbers(self, tensor: Any) -> Any:
        return tensor.double().cpu().numpy()

    def place(self, tensor: Any) -> str:
        return str(tensor.device)

    def free(self) -> None:
        if self.kind == "cuda":
            self.torch.cuda.empty_cache()


class TensorFlow:
    def __init__(self, device: str) -> None:
        import tensorflow as tf

        self.tf, self.kind, self.version = tf, device, tf.__version__
        self.gpus = tf.config.list_physical_devices("GPU")
        if device == "cpu":
            tf.config.set_visible_devices([], "GPU")
        for gpu in self.gpus if device == "cuda" else ():
            tf.config.experimental.set_memory_growth(gpu, True)
        tf.config.set_soft_device_placement(False)  # else what the GPU cannot do runs on the CPU

    def formats(self) -> tuple[str, ...]:
        """Up to 2.11 it has no bf16 products for GPUs (looked up in the wheels of 2.5, 2.10, 2.11, 2.12 and 2.21)."""
        from tensorflow.python.framework import kernels

        device, number = ("GPU" if self.kind == "cuda" else "CPU"), self.tf.bfloat16.as_datatype_enum
        for kernel in kernels.get_registered_kernels_for_op("MatMul").kernel:
            types = [one for limit in kernel.constraint if limit.name == "T" for one in limit.allowed_values.list.type]
            if kernel.device_type == device and number in types:
                return FORMATS
        return tuple(one for one in FORMATS if one != "bf16")

    def devices(self) -> list[dict[str, Any]]:
        if self.kind == "cpu":
            return [{"name": "CPU", "capability": None}]
        found = []
        for gpu in self.gpus:
            details = self.tf.config.experimental.get_device_details(gpu)
            capability = details.get("compute_capability")
            name = details.get("device_name", gpu.name)
            found.append({"name": name, "capability": list(capability) if capability else None})
        return found

    def ordinals(self) -> list[int]:
        """TensorFlow leaves out small and old GPUs: /physical_device:GPU:2 may be its second one."""
        return [int(gpu.name.rpartition(":")[2]) for gpu in self.gpus]

    def where(self, index: int) -> Any:
        return self.tf.device(f"/{'GPU' if self.kind == 'cuda' else 'CPU'}:{index}")

    def put(self, values: Any, index: int, number: str) -> Any:
        with self.where(index):
            return self.cast(self.tf.identity(self.tf.constant(values)), number)

    def random(self, size: int, index: int, number: str, seed: int) -> Any:
        with self.where(index):
            # the operation itself: tf.random.normal holds two more matrices of that size for a while
            values = self.tf.raw_ops.RandomStandardNormal(shape=[size, size], dtype=self.tf.float32, seed=seed)
            return self.cast(values, number)

    def cast(self, tensor: Any, number: str) -> Any:
        return self.tf.cast(tensor, self.tf.bfloat16) if number == "bf16" else tensor

    def full(self, elements: int, index: int) -> Any:
        with self.where(index):
            return self.tf.ones((elements,))

    def product(self, number: str) -> Callable[[Any, Any], Any]:
        self.tf.config.experimental.enable_tensor_float_32_execution(number == "tf32")

        def multiply(left: Any, right: Any) -> Any:
            with self.tf.device(left.device):
                return self.tf.matmul(left, right)

        return multiply

    def copy(self, values: Any) -> Any:
        with self.tf.device(values.device):
            return values + 1

    def wait(self, tensor: Any) -> None:
        with self.tf.device(tensor.device):
            self.tf.reshape(tensor, [-1])[0].numpy()

    def numbers(self, tensor: Any) -> Any:
        with self.tf.device(tensor.device):
            return self.tf.cast(tensor, self.tf.float32).numpy().astype("float64")

    def place(self, tensor: Any) -> str:
        # /job:localhost/replica:0/task:0/device:GPU:0
        kind, _, index = tensor.device.rpartition("device:")[2].partition(":")
        return f"cuda:{index}" if kind == "GPU" else kind.lower()

    def free(self) -> None:
        pass


class Jax:
    def __init__(self, device: str) -> None:
        import jax

        self.jax, self.kind, self.version = jax, device, jax.__version__
        if device == "cpu":
            jax.config.update("jax_platforms", "cpu")
        # random bits of XLA's own: JAX's usual ones take three more matrices of that size while one is made
        jax.config.update("jax_default_prng_impl", "rbg")
        self.jitted = jax.jit(lambda values: values + 1)

    def formats(self) -> tuple[str, ...]:
        return FORMATS

    def all(self) -> list[Any]:
        try:
            return list(self.jax.devices("gpu" if self.kind == "cuda" else "cpu"))
        except RuntimeError:
            return []

    def devices(self) -> list[dict[str, Any]]:
        found = []
        for one in self.all():
            numbers = str(getattr(one, "compute_capability", "")).split(".")
            capability = [int(number) for number in numbers] if len(numbers) == 2 else None
            found.append({"name": one.device_kind if self.kind == "cuda" else "CPU", "capability": capability})
        return found

    def ordinals(self) -> list[int]:
        # the same number in a program of one process; JAX 0.4.13 has the second alone
        return [getattr(one, "local_hardware_id", one.id) for one in self.all()]

    def put(self, values: Any, index: int, number: str) -> Any:
        return self.cast(self.jax.device_put(values, self.all()[index]), number)

    def random(self, size: int, index: int, number: str, seed: int) -> Any:
        key = self.jax.random.PRNGKey(seed)
        return self.cast(self.made(index, lambda: self.jax.random.normal(key, (size, size))), number)

    def cast(self, tensor: Any, number: str) -> Any:
        return tensor.astype(self.jax.numpy.bfloat16) if number == "bf16" else tensor

    def full(self, elements: int, index: int) -> Any:
        return self.made(index, lambda: self.jax.numpy.ones(elements))

    def made(self, index: int, make: Callable[[], Any]) -> Any:
        """Bound to its device, without a copy: else JAX moves it to the first one for the next operation."""
        with self.jax.default_device(self.all()[index]):
            return self.jax.device_put(make(), self.all()[index])

    def product(self, number: str) -> Callable[[Any, Any], Any]:
        # HIGHEST is float32 throughout; the default lets XLA take tf32 for float32 from Ampere on
        precision = "highest" if number == "fp32" else "default"
        multiply: Callable[[Any, Any], Any] = self.jax.jit(
            lambda left, right: self.jax.numpy.matmul(left, right, precision=precision)
        )
        return multiply

    def copy(self, values: Any) -> Any:
        return self.jitted(values)

    def wait(self, tensor: Any) -> None:
        tensor.block_until_ready()

    def numbers(self, tensor: Any) -> Any:
        import numpy

        return numpy.asarray(tensor.astype(self.jax.numpy.float32)).astype("float64")

    def place(self, tensor: Any) -> str:
        one = next(iter(tensor.devices()))
        return f"cuda:{self.all().index(one)}" if one.platform in {"gpu", "cuda"} else str(one.platform)

    def free(self) -> None:
        pass


WORKS: dict[str, Callable[[str], Any]] = {"tensorflow": TensorFlow, "pytorch": PyTorch, "jax": Jax}


def seconds_of(launch: Callable[[], Any], wait: Callable[[Any], None], budget_s: float) -> float:
    """Seconds of one launch: after a warm-up, as many as fit the budget are launched and waited for together.

    The best of three rounds: other work on the machine only ever adds time.
    """
    wait(launch())  # libraries load, kernels are chosen
    start = time.perf_counter()
    wait(launch())
    once = max(time.perf_counter() - start, 1e-7)
    rounds, launches = [], max(1, min(1000, int(budget_s / 3 / once)))
    for _ in range(3):
        start = time.perf_counter()
        for _ in range(launches):
            last = launch()
        wait(last)
        rounds.append((time.perf_counter() - start) / launches)
    return min(rounds)
