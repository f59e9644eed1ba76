"""tf.sysconfig."""

from pathlib import Path

from tensorflow.python import build_info


def get_build_info():
    return dict(build_info.build_info)


def get_lib():
    return str(Path(__file__).resolve().parent)
