"""The part of PyTorch's interface that this tree has."""

from torch import _C, __config__, cuda, version
from torch.version import __version__

__all__ = ["__config__", "__version__", "cuda", "dot", "version"]


def dot(x, y):
    """The inner product of two sequences of numbers, in float64."""
    return _C.dot(list(x), list(y))
