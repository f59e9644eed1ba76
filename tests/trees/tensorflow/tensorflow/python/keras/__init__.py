"""tf.keras: networks of layers in a row."""

from tensorflow.python.keras import layers, optimizers, utils
from tensorflow.python.keras.layers import Input
from tensorflow.python.keras.sequential import Sequential

__all__ = ["Input", "Sequential", "layers", "optimizers", "utils"]
