"""What a network learns."""

from tensorflow.python import ops


class Variable:
    def __init__(self, array, name="Variable"):
        self._array, self.name = array, name
        self.device = ops.CPU

    shape = property(lambda self: self._array.shape)
    dtype = property(lambda self: self._array.dtype)

    def numpy(self):
        return self._array

    def __repr__(self):
        return "<tf.Variable %r shape=%s dtype=%s>" % (self.name, self.shape, self.dtype)
