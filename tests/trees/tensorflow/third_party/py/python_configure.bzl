"""The Python that the wheel is for, and what names the wheel: read from --repo_env and --action_env.

HERMETIC_PYTHON_VERSION (TF_PYTHON_VERSION up to 2.16) names the version; before 2.14 PYTHON_BIN_PATH names the program.
The versions named are looked for on PATH: nothing is downloaded.
"""

load("//tensorflow:tensorflow.bzl", "HERMETIC_PYTHON", "HERMETIC_PYTHON_DEFAULT", "VERSION", "WHEEL_TYPES")

_ASK = """
import sys, sysconfig
print("%d.%d" % sys.version_info[:2])
print(sysconfig.get_path("include"))
print(sysconfig.get_config_var("EXT_SUFFIX"))
print(sysconfig.get_platform().replace("-", "_").replace(".", "_"))
"""

_BUILD = """
package(default_visibility = ["//visibility:public"])

cc_library(
    name = "python_headers",
    hdrs = glob(["include/**/*.h"]),
    includes = ["include"],
)
"""

def _ask(repository_ctx, program):
    """What a Python says of itself; None where it does not run or has no headers."""
    if not program:
        return None
    answer = repository_ctx.execute([program, "-c", _ASK])
    if answer.return_code:
        return None
    version, include, suffix, platform = answer.stdout.strip().split("\n")
    if not repository_ctx.path(include + "/Python.h").exists:
        return None
    return struct(program = str(program), version = version, include = include, suffix = suffix, platform = platform)

def _find(repository_ctx):
    environ = repository_ctx.os.environ
    configured = environ.get("PYTHON_BIN_PATH", "")
    if not HERMETIC_PYTHON:
        program = configured or repository_ctx.which("python3")
        found = _ask(repository_ctx, program)
        return found or fail("Python Configuration Error: %s does not run, or its Python.h is missing" % program)
    wanted = environ.get("HERMETIC_PYTHON_VERSION", "") or environ.get("TF_PYTHON_VERSION", "")
    if not wanted:
        wanted = HERMETIC_PYTHON_DEFAULT
        if not wanted:
            python3 = _ask(repository_ctx, repository_ctx.which("python3"))
            wanted = python3.version if python3 else "3.11"
    for program in [repository_ctx.which("python" + wanted), configured]:
        found = _ask(repository_ctx, program)
        if found and found.version == wanted:
            return found
    return fail("Python Configuration Error: no Python %s with its headers is on PATH" % wanted)

def _wheel_version(environ):
    if not WHEEL_TYPES:
        return VERSION
    kind = environ.get("ML_WHEEL_TYPE", "") or "snapshot"
    date = environ.get("ML_WHEEL_BUILD_DATE", "").replace("-", "")
    suffix = environ.get("ML_WHEEL_VERSION_SUFFIX", "")
    if kind == "release":
        return VERSION + suffix
    if kind == "nightly":
        return VERSION + ".dev" + date + suffix
    if kind == "snapshot":
        return VERSION + ".dev0+selfbuilt"
    return fail("ML_WHEEL_TYPE is %s, and must be release, nightly or snapshot" % kind)

def _python_configure(repository_ctx):
    found = _find(repository_ctx)
    repository_ctx.symlink(found.include, "include")
    repository_ctx.file("BUILD", _BUILD)
    tag = "cp" + found.version.replace(".", "")
    environ = repository_ctx.os.environ
    repository_ctx.file("py.bzl", "\n".join([
        "PYTHON = %r" % found.program,
        "PYTHON_VERSION = %r" % found.version,
        "TAG = %r" % "-".join([tag, tag, found.platform]),
        "WHEEL_NAME = %r" % (environ.get("WHEEL_NAME", "") or "tensorflow"),
        "WHEEL_VERSION = %r" % _wheel_version(environ),
        "",
    ]))

python_configure = repository_rule(
    implementation = _python_configure,
    environ = [
        "HERMETIC_PYTHON_VERSION",
        "ML_WHEEL_BUILD_DATE",
        "ML_WHEEL_TYPE",
        "ML_WHEEL_VERSION_SUFFIX",
        "PATH",
        "PYTHON_BIN_PATH",
        "TF_PYTHON_VERSION",
        "WHEEL_NAME",
    ],
    local = True,
)
