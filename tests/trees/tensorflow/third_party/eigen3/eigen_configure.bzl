"""Eigen as the distribution installs it (libeigen3-dev), its headers being inputs of each action like any other."""

_FOLDERS = ["/usr/include/eigen3", "/usr/local/include/eigen3"]

_BUILD = """
cc_library(
    name = "eigen3",
    hdrs = glob(["Eigen/**"]),
    includes = ["."],
    # Vectors start where the widest registers want them, whichever flags a file is compiled with.
    defines = ["EIGEN_MAX_ALIGN_BYTES=64", "EIGEN_MPL2_ONLY"],
    visibility = ["//visibility:public"],
)
"""

def _eigen_configure(repository_ctx):
    named = repository_ctx.os.environ.get("EIGEN_ROOT", "")
    for folder in ([named] if named else _FOLDERS):
        if repository_ctx.path(folder + "/Eigen/Core").exists:
            repository_ctx.symlink(folder + "/Eigen", "Eigen")
            repository_ctx.file("BUILD", _BUILD)
            return
    fail("Eigen 3.4's headers are not in %s: install libeigen3-dev, or set EIGEN_ROOT" % (named or ", ".join(_FOLDERS)))

eigen_configure = repository_rule(implementation = _eigen_configure, environ = ["EIGEN_ROOT"], local = True)
