"""Find a CUDA toolkit and cuDNN by their headers, in TF_CUDA_PATHS or where they usually lie.

Prints lines of "name: value"; ends with status 1 and the reason on standard error where something is missing.
"""

import os
import re
import sys

USUAL = ("/usr/local/cuda", "/usr/local", "/usr")


def find(folders, header):
    for folder in folders:
        for path in (os.path.join(folder, "include", header), os.path.join(folder, header)):
            if os.path.isfile(path):
                return folder, path
    sys.exit("Could not find any %s in any of: %s" % (header, ", ".join(folders)))


def define(path, name):
    with open(path) as file:
        found = re.search(r"#define\s+%s\s+(\d+)" % name, file.read())
    return int(found.group(1)) if found else 0


def check(what, found, wanted):
    if wanted and not (found + ".").startswith(wanted + "."):
        sys.exit("Could not find %s %s: found %s" % (what, wanted, found))


def main():
    given = [one for one in os.environ.get("TF_CUDA_PATHS", "").split(",") if one]
    given += [os.environ[name] for name in ("CUDA_TOOLKIT_PATH", "CUDNN_INSTALL_PATH") if os.environ.get(name)]
    folders = given or list(USUAL)
    toolkit, header = find(folders, "cuda.h")
    number = define(header, "CUDA_VERSION")  # 12020
    cuda = "%d.%d" % (number // 1000, number % 1000 // 10)
    check("CUDA", cuda, os.environ.get("TF_CUDA_VERSION", ""))
    _, header = find(folders, "cudnn_version.h")
    cudnn = "%d.%d" % (define(header, "CUDNN_MAJOR"), define(header, "CUDNN_MINOR"))
    check("cuDNN", cudnn, os.environ.get("TF_CUDNN_VERSION", ""))
    for line in (
        "cuda_version: " + cuda,
        "cuda_toolkit_path: " + toolkit,
        "cudnn_version: " + cudnn,
        "cudnn_include_dir: " + os.path.dirname(header),
    ):
        print(line)


if __name__ == "__main__":
    main()
