"""tf.version."""

from tensorflow.python import _pywrap_tensorflow_internal as _core
from tensorflow.python.build_info import VERSION

COMPILER_VERSION = _core.compiler_version
GIT_VERSION = "unknown"

__all__ = ["COMPILER_VERSION", "GIT_VERSION", "VERSION"]
