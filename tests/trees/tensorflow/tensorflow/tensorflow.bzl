"""What differs between releases, and the rule for kernels."""

#@ 2.20-
load("//tensorflow:tf_version.bzl", "TF_VERSION")

VERSION = TF_VERSION
#@ -2.19
VERSION = "@VERSION@"
#@ end

#@ -2.13
HERMETIC_PYTHON = False
HERMETIC_PYTHON_DEFAULT = ""
#@ 2.14-2.15
HERMETIC_PYTHON = True
HERMETIC_PYTHON_DEFAULT = "3.10"
#@ 2.16-2.17
HERMETIC_PYTHON = True
HERMETIC_PYTHON_DEFAULT = "3.11"
#@ 2.18-
HERMETIC_PYTHON = True
HERMETIC_PYTHON_DEFAULT = ""  # that of the python3 on PATH
#@ end

# Whether ML_WHEEL_TYPE decides how the wheel's version ends.
#@ -2.19
WHEEL_TYPES = False
#@ 2.20-
WHEEL_TYPES = True
#@ end

def tf_kernel(name, op, src, types, deps = []):
    """One library of kernels for an operation: each element type is compiled apart, and registers itself."""
    parts = []
    for type in types:
        part = "%s_%s" % (name, type.replace("::", "_"))
        native.cc_library(
            name = part,
            srcs = [src],
            local_defines = ["TF_OP=" + op, "TF_TYPE=" + type],
            deps = deps + ["//tensorflow/core/framework", "@eigen_archive//:eigen3"],
            alwayslink = True,
        )
        parts.append(part)
    native.cc_library(name = name, deps = parts)
