"""Descriptions of layers; the library has their code."""


class Input:
    def __init__(self, shape):
        self.shape = tuple(shape)


class Layer:
    # kind, two sizes, a rate, relu: what the library is told
    row = None


def _relu(activation, allowed):
    if activation not in allowed:
        raise ValueError("activation %r: this tree has %s" % (activation, ", ".join(map(repr, allowed))))
    return activation == "relu"


class Conv2D(Layer):
    def __init__(self, filters, kernel_size, activation=None):
        self.row = ("conv2d", filters, kernel_size, 0.0, _relu(activation, (None, "relu")))


class MaxPooling2D(Layer):
    def __init__(self, pool_size=2):
        self.row = ("max_pool", pool_size, 0, 0.0, False)


class Dropout(Layer):
    def __init__(self, rate):
        self.row = ("dropout", 0, 0, rate, False)


class Flatten(Layer):
    pass


class Dense(Layer):
    def __init__(self, units, activation=None):
        self.softmax = activation == "softmax"
        self.row = ("dense", units, 0, 0.0, _relu(activation, (None, "relu", "softmax")))
