"""tf.test."""

from tensorflow.python import build_info


def is_built_with_cuda():
    return build_info.build_info["is_cuda_build"]
