"""Ask what to build, and write the answers into .tf_configure.bazelrc.

Each question is first looked up in the environment, under the names that this release of TensorFlow knows. Where
nothing is asked any more (standard input is closed), a question takes its default.
"""

import argparse
import os
import platform
import re
import shutil
import subprocess
import sys
from pathlib import Path

VERSION = "@VERSION@"
RELEASE = tuple(int(number) for number in VERSION.split(".")[:2])

CAPABILITIES = "3.5,7.0"
TRIES = 10
TRUE, FALSE = ("1", "t", "true", "y", "yes"), ("0", "f", "false", "n", "no")
BAZEL_RANGES = {  # of the last releases that look at Bazel's version themselves
    (2, 4): ("3.1.0", "3.99.0"),
    (2, 5): ("3.7.2", "3.99.0"),
    (2, 6): ("3.7.2", "3.99.0"),
    (2, 7): ("3.7.2", "4.99.0"),
    (2, 8): ("4.2.1", "4.99.0"),
    (2, 9): ("4.2.2", "5.99.0"),
}


class UserInputError(Exception):
    pass


class Configuration:
    """The environment, which answers are put into, and the file that is written."""

    def __init__(self, root):
        self.root = root
        self.environ = dict(os.environ)
        self.file = root / ".tf_configure.bazelrc"

    def write(self, line):
        with self.file.open("a") as file:
            file.write(line + "\n")

    def action_env(self, name, value):
        self.write('build --action_env %s="%s"' % (name, value))

    def ask(self, question):
        try:
            return input(question)
        except EOFError:
            return ""

    def text(self, name, question, default):
        """The variable; where it is missing or empty the answer; where that is empty the default."""
        value = self.environ.get(name)
        # newer releases take the default at once where a variable is there and empty
        if value is None or (not value and RELEASE < (2, 18)):
            value = self.ask("%s [Default is %s]: " % (question, default))
            print("\n")
        return value or default

    def yes(self, name, question, default):
        """The variable, which must be a boolean where it is there at all; else the answer."""
        value = self.environ.get(name)
        if value is not None:
            word = value.strip().lower()
            if word not in TRUE + FALSE:
                raise UserInputError(
                    "Environment variable %s must be set as a boolean indicator: one of %s or %s. Current value is %s."
                    % (name, ", ".join(TRUE), ", ".join(FALSE), value)
                )
            return word in TRUE
        while True:
            word = self.ask("%s [%s]: " % (question, "Y/n" if default else "y/N")).strip().lower()
            if word in ("y", "n", ""):
                return default if not word else word == "y"
            print("Invalid selection: %s" % word)

    def path(self, name, question, default):
        """An existing file. Raises UserInputError after ten wrong answers."""
        default = self.environ.get(name) or default
        for _ in range(TRIES):
            value = self.text(name, question, default)
            if os.path.exists(value):
                self.environ[name] = os.path.realpath(value)
                return self.environ[name]
            print("Invalid %s path. %s cannot be found." % (name, value))
            self.environ[name] = ""
        raise UserInputError(
            "Invalid %s setting was provided %d times in a row. Assuming to be a scripting mistake." % (name, TRIES)
        )


# --- Bazel, Python --------------------------------------------------------------------------------------------------


def check_bazel():
    names = ("bazel", "bazelisk") if RELEASE >= (2, 9) else ("bazel",)
    found = next(filter(None, map(shutil.which, names)), None)
    if found is None:
        print("Cannot find bazel. Please install %s." % "/".join(names))
        sys.exit(1 if RELEASE >= (2, 4) else 0)
    said = subprocess.run([found, "--version"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, check=False).stdout
    version = said.decode().strip().replace("bazel ", "")
    if not re.fullmatch(r"\d+\.\d+(\.\d+)?", version.split("-")[0]):
        print("WARNING: current bazel installation is not a release version.")
        return
    print("You have bazel %s installed." % version)
    least, most = BAZEL_RANGES.get(RELEASE, (None, None))
    if least and numbers(version) < numbers(least):
        print("Please upgrade your bazel installation to version %s or higher to build TensorFlow!" % least)
        sys.exit(1)
    if most and numbers(version) > numbers(most) and "TF_IGNORE_MAX_BAZEL_VERSION" not in os.environ:
        print("Please downgrade your bazel installation to version %s or lower to build TensorFlow!" % most)
        sys.exit(1)


def numbers(version):
    return [int(number) for number in version.split("-")[0].split(".")]


def set_python(config):
    environ = config.environ
    while True:
        python = config.text("PYTHON_BIN_PATH", "Please specify the location of python.", sys.executable)
        if os.path.isfile(python) and os.access(python, os.X_OK):
            break
        print("Invalid python path: %s cannot be found or is not executable." % python)
        environ["PYTHON_BIN_PATH"] = ""
    folder = environ.get("PYTHON_LIB_PATH")
    if not folder:
        code = 'import site; print("\\n".join(site.getsitepackages()))'
        said = subprocess.run([python, "-c", code], stdout=subprocess.PIPE, check=True).stdout.decode().split()
        given = environ.get("PYTHONPATH", "").split(":")
        folders = sorted(one for one in set(said + given) if one and os.path.isdir(one))
        folder = folders[0]
        if environ.get("USE_DEFAULT_PYTHON_LIB_PATH") != "1":
            print("Found possible Python library paths:\n  %s" % "\n  ".join(folders))
            folder = (
                config.ask("Please input the desired Python library path to use. Default is [%s]\n" % folder) or folder
            )
    config.action_env("PYTHON_BIN_PATH", python)
    config.action_env("PYTHON_LIB_PATH", folder)
    config.write('build --python_path="%s"' % python)
    if folder in environ.get("PYTHONPATH", "").split(":"):
        config.action_env("PYTHONPATH", environ["PYTHONPATH"])
    (config.root / "tools/python_bin_path.sh").write_text('export PYTHON_BIN_PATH="%s"' % python)


# --- CUDA, compilers ------------------------------------------------------------------------------------------------


def set_local_cuda(config):
    """Up to 2.17: a toolkit of this machine, which must be found."""
    environ = config.environ
    if config.yes("TF_NEED_TENSORRT", "Do you wish to build TensorFlow with TensorRT support?", False):
        config.write("build --config=tensorrt")
    version, cudnn = ("11", "2") if RELEASE >= (2, 9) else ("10", "7")
    finder = config.root / "third_party/gpus/find_cuda_config.py"
    for _ in range(TRIES):
        said = subprocess.run([sys.executable, str(finder)], stdout=subprocess.PIPE, env=environ, check=False)
        if said.returncode == 0:
            break
        print("Asking for detailed CUDA configuration...\n")
        for name, what, default in (
            ("TF_CUDA_VERSION", "CUDA SDK version", version),
            ("TF_CUDNN_VERSION", "cuDNN version", cudnn),
            ("TF_NCCL_VERSION", "NCCL version", ""),
            ("TF_CUDA_PATHS", "base paths, separated by commas,", ""),
        ):
            environ[name] = config.text(name, "Please specify the %s to use." % what, default)
    else:
        raise UserInputError(
            "Invalid CUDA setting were provided %d times in a row. Assuming to be a scripting mistake." % TRIES
        )
    found = dict(line.split(": ", 1) for line in said.stdout.decode().splitlines())
    environ["CUDA_TOOLKIT_PATH"] = found["cuda_toolkit_path"]
    for name in (
        "TF_CUDA_VERSION", "TF_CUBLAS_VERSION", "TF_CUDNN_VERSION", "TF_TENSORRT_VERSION", "TF_NCCL_VERSION",
        "TF_CUDA_PATHS", "CUDA_TOOLKIT_PATH", "CUDNN_INSTALL_PATH", "NCCL_INSTALL_PATH",
    ):  # fmt: skip
        if name in environ:
            config.action_env(name, environ[name])
    config.action_env("TF_CUDA_COMPUTE_CAPABILITIES", capabilities(config, "TF_CUDA_COMPUTE_CAPABILITIES"))


def set_hermetic_cuda(config):
    """From 2.18 on: versions that the build fetches."""
    for name in ("HERMETIC_CUDA_VERSION", "HERMETIC_CUDNN_VERSION"):
        value = config.text(name, "Please specify the version for %s or leave empty to use the default." % name, "")
        if value:
            config.write('build:cuda --repo_env %s="%s"' % (name, value))
    name = "HERMETIC_CUDA_COMPUTE_CAPABILITIES"
    config.write('build:cuda --repo_env %s="%s"' % (name, capabilities(config, name)))
    for name in ("LOCAL_CUDA_PATH", "LOCAL_CUDNN_PATH", "LOCAL_NCCL_PATH"):
        value = config.text(name, "Please specify %s or leave empty to use the default." % name, "")
        if value:
            config.write('build:cuda --repo_env %s="%s"' % (name, value))


def capabilities(config, name):
    """A list without a wrong entry. One that has any is thrown away, and asked for again."""
    while True:
        text = "".join(config.text(name, "Please specify a list of CUDA compute capabilities.", CAPABILITIES).split())
        if all(map(is_capability, text.split(","))):
            return text
        config.environ[name] = ""


def is_capability(text):
    dotted, named = re.match(r"\d+.\d+", text), re.match(r"(sm|compute)_?(\d\d+)", text)
    if not dotted and not named:
        print("Invalid compute capability: %s" % text)
        return False
    value = float(dotted.group()) if dotted else int(named.group(2)) / 10
    if value < 3:
        print("ERROR: TensorFlow only supports CUDA compute capabilities 3.0 and higher, not %s." % text)
    return value >= 3


def set_cuda(config):
    environ = config.environ
    if RELEASE >= (2, 18):
        set_hermetic_cuda(config)
    elif "TF_CUDA_CONFIG_REPO" not in environ:
        set_local_cuda(config)
    if environ.get("LD_LIBRARY_PATH", "1") != "1":
        config.action_env("LD_LIBRARY_PATH", environ["LD_LIBRARY_PATH"])
    clang = config.yes("TF_CUDA_CLANG", "Do you want to use clang as CUDA compiler?", RELEASE >= (2, 14))
    if clang:
        config.write("build --config=cuda_clang")
        if RELEASE < (2, 14) and config.yes("TF_DOWNLOAD_CLANG", "Do you wish to download a release of clang?", False):
            raise UserInputError("this tree downloads no clang")
        path = config.path("CLANG_CUDA_COMPILER_PATH", "Please specify which clang is to be used.", default_clang())
        config.action_env("CLANG_CUDA_COMPILER_PATH", path)
        spare_offsetof(config, path)
        config.write("build --config=cuda_clang")
        return
    path = config.path("GCC_HOST_COMPILER_PATH", "Please specify which gcc nvcc is to use.", shutil.which("gcc") or "")
    config.action_env("GCC_HOST_COMPILER_PATH", path)
    config.write("build --config=cuda")


def default_clang():
    majors = (
        (18, 17, 16) if RELEASE >= (2, 17) else (17, 16) if RELEASE >= (2, 15) else (16,) if RELEASE >= (2, 14) else ()
    )
    folders = ["/usr/lib/llvm-%d/bin/clang" % major for major in majors]
    return next(filter(os.path.exists, folders), shutil.which("clang") or "")


def set_compiler(config):
    """Builds without CUDA from 2.14 on."""
    if not config.yes("TF_NEED_CLANG", "Do you want to use Clang to build TensorFlow?", True):
        return
    path = config.path("CLANG_COMPILER_PATH", "Please specify the path to clang executable.", default_clang())
    config.action_env("CLANG_COMPILER_PATH", path)
    config.write("build --repo_env=CC=%s" % path)
    config.write("build --repo_env=BAZEL_COMPILER=%s" % path)
    spare_offsetof(config, path)


def spare_offsetof(config, path):
    if RELEASE < (2, 14):
        return
    said = subprocess.run([path, "--version"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, check=False).stdout
    found = re.search(r"clang version (\d+)", said.decode(), re.IGNORECASE)
    if found and int(found.group(1)) in (16, 17):
        config.write("build --copt=-Wno-gnu-offsetof-extensions")


def set_options(config):
    default = "-Wno-sign-compare" if RELEASE >= (2, 5) else "-march=native -Wno-sign-compare"
    if platform.machine() == "ppc64le":
        default = "-mcpu=native"
    options = config.text("CC_OPT_FLAGS", 'Please specify the options that "--config=opt" is to add.', default)
    for option in options.split():
        config.write("build:opt --copt=%s" % option)
        if RELEASE >= (2, 5):
            config.write("build:opt --host_copt=%s" % option)
    if RELEASE < (2, 5):
        config.write("build:opt --host_copt=-march=native")


def set_rest(config):
    environ = config.environ
    libraries = environ.get("TF_SYSTEM_LIBS", "")
    if libraries:
        config.action_env("TF_SYSTEM_LIBS", ",".join(sorted(re.split(r"[,\s]+", libraries))))
    names = ("PREFIX", "PROTOBUF_INCLUDE_PATH") if RELEASE >= (2, 18) else ("PREFIX", "LIBDIR", "INCLUDEDIR")
    for name in names:
        if name in environ:
            config.write("build --define=%s=%s" % (name, environ[name]))
    if config.yes("TF_SET_ANDROID_WORKSPACE", "Would you like to configure ./WORKSPACE for Android builds?", False):
        raise UserInputError("this tree has no Android builds")
    filters = "-benchmark-test,-no_oss," + ("-no_gpu" if environ.get("TF_NEED_CUDA") == "1" else "-gpu")
    config.write("test --test_size_filters=small,medium")
    config.write("test:v2 --test_tag_filters=%s,-oss_serial,-v1only" % filters)
    config.write("test:v2 --build_tag_filters=%s,-v1only" % filters)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--workspace", type=Path, default=Path(__file__).resolve().parent)
    config = Configuration(parser.parse_args().workspace)
    environ = config.environ
    check_bazel()
    config.file.write_text("")
    set_python(config)
    if "TF_ENABLE_XLA" in environ:
        config.write("build --define=with_xla_support=%s" % ("true" if int(environ["TF_ENABLE_XLA"]) else "false"))
    rocm = config.yes("TF_NEED_ROCM", "Do you wish to build TensorFlow with ROCm support?", False)
    if rocm:
        config.write("build --config=rocm")
    cuda = config.yes("TF_NEED_CUDA", "Do you wish to build TensorFlow with CUDA support?", False)
    environ["TF_NEED_CUDA"] = "1" if cuda else "0"
    if cuda:
        set_cuda(config)
    elif RELEASE >= (2, 14):
        set_compiler(config)
    elif config.yes("TF_DOWNLOAD_CLANG", "Do you wish to download a fresh release of clang?", False):
        config.write("build --config=download_clang")
    if rocm and cuda:
        raise UserInputError("CUDA / ROCm are mutually exclusive. At most 1 GPU platform can be configured.")
    set_options(config)
    set_rest(config)
    print("Preconfigured Bazel build configs: --config=opt, --config=monolithic, --config=nogcp, --config=nonccl.")


if __name__ == "__main__":
    main()
