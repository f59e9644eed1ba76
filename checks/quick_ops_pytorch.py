# /// script
# requires-python = ">=3.9"
# dependencies = []
# ///
"""quick_ops.py's operations of PyTorch."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path
from typing import Any

from quick_ops_results import INPUTS, STEPS, UNITS, NoGpu, Op, arrays, convolution, lstm, numbers, same


class Squares:
    """What PyTorch's loader takes for a data set; at module level, so that its workers can import it."""

    def __len__(self) -> int:
        return 100

    def __getitem__(self, index: int) -> float:
        return float(index * index)


def torch_ready(device: str) -> Any:
    import torch

    if device == "cuda" and not torch.cuda.is_available():
        raise NoGpu
    torch.backends.cudnn.allow_tf32 = False
    torch.backends.cuda.matmul.allow_tf32 = False
    return torch


def relu_sum(x, w):
    """Compiled in several ways; its source is read for that. TorchScript would take Any at its word."""
    return (x @ w).relu() + 1


def pytorch_ops(device: str) -> dict[str, Op]:
    torch = torch_ready(device)
    x, w = numbers(8, 16), numbers(16, 4, seed=1)
    wanted = (x @ w).clip(min=0) + 1

    def put(array: Any) -> Any:
        return torch.from_numpy(array).to(device)

    def conv() -> None:
        images, kernel = numbers(2, 8, 8, 3), numbers(3, 3, 3, 4, seed=1)
        planes = torch.nn.functional.conv2d(put(images).permute(0, 3, 1, 2), put(kernel).permute(3, 2, 0, 1))
        same(arrays(planes.permute(0, 2, 3, 1)), convolution(images, kernel))

    def recurrent() -> None:
        series, layer = numbers(3, STEPS, INPUTS), torch.nn.LSTM(INPUTS, UNITS, batch_first=True).to(device)
        kernel, inner, first, second = (arrays(weights) for weights in layer.parameters())
        same(arrays(layer(put(series))[0][:, -1]), lstm(series, kernel.T, inner.T, first + second))

    def gradient() -> None:
        weights = put(w).requires_grad_()
        (put(x) @ weights).square().sum().backward()
        same(arrays(weights.grad), 2 * x.T @ (x @ w))

    def loader() -> None:
        batches = list(torch.utils.data.DataLoader(Squares(), batch_size=8, num_workers=2))
        same(sum(float(batch.sum()) for batch in batches), sum(n * n for n in range(100)))

    def file() -> None:
        with tempfile.TemporaryDirectory() as folder:
            path = str(Path(folder) / "weights.pt")
            torch.save({"w": put(w)}, path)
            same(arrays(torch.load(path, map_location=device)["w"]), w)

    def script() -> None:
        same(arrays(torch.jit.script(relu_sum)(put(x), put(w))), wanted)

    def traced() -> None:
        same(arrays(torch.jit.trace(relu_sum, (put(x), put(w)))(put(x), put(w))), wanted)

    found: dict[str, Op] = {
        "convolution": conv,
        "LSTM": recurrent,
        "gradient": gradient,
        "DataLoader": loader,
        "save and load": file,
        "jit.script": script,
        "jit.trace": traced,
    }
    if hasattr(torch, "compile"):
        found["torch.compile, eager"] = lambda: compiled(torch, "eager", put(x), put(w), wanted)
        found["torch.compile, inductor"] = lambda: inductor(lambda: compiled(torch, "inductor", put(x), put(w), wanted))
    return found


def compiled(torch: Any, backend: str, x: Any, w: Any, wanted: Any) -> str | None:
    try:
        result = torch.compile(relu_sum, backend=backend)(x, w)
    except RuntimeError as error:
        # RuntimeError: torch.compile is not supported on Python 3.14+; Dynamo is not supported on Python 3.12+
        if "not supported on Python" in str(error):
            return f"refused: {str(error).strip().splitlines()[-1]}"
        raise
    same(arrays(result), wanted)
    return None


NO_COMPILER = ("InvalidCxxCompiler", "No working C++ compiler", "Failed to find C compiler", "Python.h")
"""How inductor says that it has nothing to compile with: a C++ compiler, or Python's headers."""


def inductor(run: Op) -> str | None:
    """It writes C++ (on a GPU: Triton, whose launcher is C) and needs a compiler for that. Without one it must say so:
    a clean refusal is no failure."""
    there = compiler()
    try:
        run()
    except Exception as error:
        text = f"{type(error).__name__}: {error}"
        if any(word in text for word in NO_COMPILER) and (there is None or "Python.h" in text):
            missing = "Python's headers are not" if "Python.h" in text else "no C++ compiler is"
            return f"refused, as it should be: {missing} installed"
        raise
    return None if there is None else f"with {there}"


def compiler() -> str | None:
    for name in (os.environ.get("CXX"), "g++", "clang++", "c++"):
        if name and shutil.which(name):
            return name
    return None
