"""The part of TensorFlow's interface that this tree has: eager operations, and networks in a row."""

from tensorflow.python import config, keras, sysconfig, test, version
from tensorflow.python import ops as _ops
from tensorflow.python.keras.variable import Variable
from tensorflow.python.ops import Tensor, cast, constant, device, math, matmul, ones, zeros
from tensorflow.python.ops.math import reduce_max, reduce_mean, reduce_sum

__version__ = version.VERSION
float32, float64, int32, int64 = _ops.TYPES

__all__ = [
    "Tensor",
    "Variable",
    "cast",
    "config",
    "constant",
    "device",
    "float32",
    "float64",
    "int32",
    "int64",
    "keras",
    "math",
    "matmul",
    "ones",
    "reduce_max",
    "reduce_mean",
    "reduce_sum",
    "sysconfig",
    "test",
    "version",
    "zeros",
    "__version__",
]
