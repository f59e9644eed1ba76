"""A network of layers in a row, trained by the library on one thread."""

import math

import numpy as np

from tensorflow.python import _pywrap_tensorflow_internal as core
from tensorflow.python import ops
from tensorflow.python.keras import optimizers, utils
from tensorflow.python.keras.layers import Dense, Flatten, Input
from tensorflow.python.keras.variable import Variable


class History:
    def __init__(self):
        self.history = {"loss": [], "accuracy": []}


class Sequential:
    """An Input first, a Dense layer with softmax last. Images are (N, height, width, channels) or (N, size)."""

    def __init__(self, layers):
        if not layers or not isinstance(layers[0], Input):
            raise ValueError("a network begins with its Input")
        self.layers = [layer for layer in layers[1:] if not isinstance(layer, Flatten)]
        if not self.layers or not isinstance(self.layers[-1], Dense) or not self.layers[-1].softmax:
            raise ValueError("a network ends with a Dense layer and softmax")
        self.input_shape = layers[0].shape
        inside = self.input_shape if len(self.input_shape) == 3 else (1, 1, math.prod(self.input_shape))
        self._network = core.network(inside, utils.next_seed())
        for layer in self.layers:
            outside = core.add(self._network, *layer.row)
        self._classes = math.prod(outside)
        self._compiled = False

    def compile(self, optimizer="adam", loss="sparse_categorical_crossentropy", metrics=()):
        if isinstance(optimizer, str) and optimizer == "adam":
            optimizer = optimizers.Adam()
        if not isinstance(optimizer, optimizers.Adam) or loss != "sparse_categorical_crossentropy":
            raise ValueError("this tree trains with Adam on sparse_categorical_crossentropy")
        core.learning_rate(self._network, optimizer.learning_rate)
        self._compiled = True

    def _images(self, images):
        array = np.ascontiguousarray(images, "float32")
        if array.shape[1:] != tuple(self.input_shape):
            raise ValueError("images of %s, and the network takes %s" % (array.shape[1:], self.input_shape))
        return array

    def fit(self, x, y, batch_size=32, epochs=1, verbose=1):
        if not self._compiled:
            raise RuntimeError("You must call `compile()` before using the model.")
        images, labels = self._images(x), np.ascontiguousarray(y, "int32")
        found = History()
        for epoch in range(epochs):
            loss, accuracy = core.train(self._network, images, labels, len(images), batch_size)
            found.history["loss"].append(loss)
            found.history["accuracy"].append(accuracy)
            if verbose:
                print("Epoch %d/%d - loss: %.4f - accuracy: %.4f" % (epoch + 1, epochs, loss, accuracy))
        return found

    def evaluate(self, x, y, batch_size=32, verbose=1):
        images = self._images(x)
        found = core.evaluate(self._network, images, np.ascontiguousarray(y, "int32"), len(images))
        if verbose:
            print("loss: %.4f - accuracy: %.4f" % found)
        return list(found)

    def __call__(self, x):
        images = self._images(x)
        chances = np.empty((len(images), self._classes), "float32")
        core.predict(self._network, images, chances, len(images))
        return ops.Tensor(chances)

    def predict(self, x, batch_size=32, verbose=1):
        return self(x).numpy()

    @property
    def trainable_weights(self):
        return [
            Variable(np.frombuffer(content, "float32").reshape(shape), name)
            for name, shape, content in core.weights(self._network)
        ]

    trainable_variables = trainable_weights
