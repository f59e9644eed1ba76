"""Tensors, computed by the kernels of the library."""

import contextlib
import threading

import numpy as np

from tensorflow.python import _pywrap_tensorflow_internal as core

CPU = "/job:localhost/replica:0/task:0/device:CPU:0"
TYPES = ("float32", "float64", "int32", "int64")

_scope = threading.local()


@contextlib.contextmanager
def device(name):
    """Only CPUs are there: another device is an error where an operation would run on it."""
    before = getattr(_scope, "device", "")
    _scope.device = name
    try:
        yield
    finally:
        _scope.device = before


def _placed():
    wanted = getattr(_scope, "device", "").upper()
    if "GPU" in wanted:
        raise RuntimeError("Could not satisfy device specification '%s': only %s is there" % (_scope.device, CPU))
    return CPU


class Tensor:
    """An array on a device. Its elements do not change."""

    __array_priority__ = 100

    def __init__(self, array):
        self._array = array
        self.device = _placed()

    shape = property(lambda self: self._array.shape)
    ndim = property(lambda self: self._array.ndim)
    dtype = property(lambda self: self._array.dtype)

    def numpy(self):
        return self._array if self._array.ndim else self._array[()]

    def __array__(self, dtype=None, copy=None):
        return self._array if dtype is None else self._array.astype(dtype)

    def __getitem__(self, key):
        return Tensor(np.asarray(self._array[key]))

    def __len__(self):
        return len(self._array)

    def __float__(self):
        return float(self._array)

    def __int__(self):
        return int(self._array)

    def __repr__(self):
        return "<tf.Tensor: shape=%s, dtype=%s, numpy=%r>" % (self.shape, self.dtype, self.numpy())

    __add__ = __radd__ = lambda self, other: binary("add", self, other)
    __mul__ = __rmul__ = lambda self, other: binary("mul", self, other)
    __sub__ = lambda self, other: binary("sub", self, other)
    __rsub__ = lambda self, other: binary("sub", other, self)
    __truediv__ = lambda self, other: binary("div", self, other)
    __rtruediv__ = lambda self, other: binary("div", other, self)
    __matmul__ = lambda self, other: matmul(self, other)
    __neg__ = lambda self: binary("mul", self, -1)


def array_of(value, like=None):
    """A contiguous array of one of TYPES; numbers of Python take the type of ``like``, or 32 bits."""
    if isinstance(value, Tensor):
        return np.ascontiguousarray(value._array).reshape(value.shape)
    array = np.asarray(value)
    if like is not None and not isinstance(value, np.ndarray):
        array = array.astype(like)
    elif not isinstance(value, (np.ndarray, np.generic)):
        array = array.astype({"f": "float32", "i": "int32"}.get(array.dtype.kind, array.dtype))
    if array.dtype.name not in TYPES:
        raise TypeError("no kernels for %s: use one of %s" % (array.dtype, ", ".join(TYPES)))
    return np.ascontiguousarray(array).reshape(array.shape)


def constant(value, dtype=None, shape=None):
    array = array_of(value) if dtype is None else np.ascontiguousarray(np.asarray(value, dtype))
    return Tensor(array if shape is None else np.broadcast_to(array, shape).copy())


def ones(shape, dtype="float32"):
    return Tensor(np.ones(shape, dtype))


def zeros(shape, dtype="float32"):
    return Tensor(np.zeros(shape, dtype))


def cast(x, dtype):
    return Tensor(array_of(x).astype(dtype))


def binary(op, x, y):
    tensors = [one for one in (x, y) if isinstance(one, (Tensor, np.ndarray))]
    like = tensors[0].dtype if tensors else None
    a, b = array_of(x, like), array_of(y, like)
    if a.dtype != b.dtype:
        raise TypeError("%s needs two tensors of one type, not %s and %s" % (op, a.dtype, b.dtype))
    if a.shape != b.shape:
        a, b = (np.ascontiguousarray(one) for one in np.broadcast_arrays(a, b))
    made = np.empty(a.shape, a.dtype)
    core.binary(op, a.dtype.name, a, b, made)
    return Tensor(made)


def unary(op, x):
    a = array_of(x)
    made = np.empty(a.shape, a.dtype)
    core.unary(op, a.dtype.name, a, made)
    return Tensor(made)


def reduce(op, x, axis=None):
    """Over all elements, or over the last axis (-1)."""
    a = array_of(x)
    if axis not in (None, -1, a.ndim - 1):
        raise ValueError("reductions are over all axes or the last one, not %s" % axis)
    made = np.empty(() if axis is None else a.shape[:-1], a.dtype)
    core.reduce(op, a.dtype.name, a, made)
    return Tensor(made)


def matmul(x, y):
    a, b = array_of(x), array_of(y)
    if a.ndim != 2 or b.ndim != 2 or a.shape[1] != b.shape[0] or a.dtype != b.dtype:
        raise ValueError("no product of %s %s and %s %s" % (a.dtype, a.shape, b.dtype, b.shape))
    made = np.empty((a.shape[0], b.shape[1]), a.dtype)
    core.matmul(a.dtype.name, a, b, made, a.shape[0], a.shape[1], b.shape[1])
    return Tensor(made)
