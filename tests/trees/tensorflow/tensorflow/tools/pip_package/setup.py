"""Packs what build_pip_package.sh has gathered in this folder."""

import sys

from setuptools import Distribution, find_packages, setup

_VERSION = "@VERSION@"

project_name = "tensorflow"
if "--project_name" in sys.argv:
    at = sys.argv.index("--project_name")
    project_name = sys.argv[at + 1]
    del sys.argv[at : at + 2]


class BinaryDistribution(Distribution):
    def has_ext_modules(self):
        return True


setup(
    name=project_name,
    version=_VERSION.replace("-", ""),
    description="A small tree with the shape of TensorFlow's, for tests",
    packages=find_packages(),
    package_data={"tensorflow.python": ["*.so"]},
    install_requires=["numpy"],
    python_requires=">=3.9",
    distclass=BinaryDistribution,
    zip_safe=False,
)
