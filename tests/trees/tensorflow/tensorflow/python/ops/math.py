"""tf.math."""

from tensorflow.python import ops
from tensorflow.python.ops.gen_math_ops import add, div, exp, log, maximum, mul, sigmoid, sqrt, sub, tanh

divide, multiply, subtract = div, mul, sub


def reduce_sum(x, axis=None):
    return ops.reduce("sum", x, axis)


def reduce_max(x, axis=None):
    return ops.reduce("max", x, axis)


def reduce_mean(x, axis=None):
    total = ops.reduce("sum", x, axis)
    size = ops.array_of(x).size // max(1, ops.array_of(total).size)
    return total / float(size)


__all__ = [
    "add",
    "div",
    "divide",
    "exp",
    "log",
    "maximum",
    "mul",
    "multiply",
    "reduce_max",
    "reduce_mean",
    "reduce_sum",
    "sigmoid",
    "sqrt",
    "sub",
    "subtract",
    "tanh",
]
