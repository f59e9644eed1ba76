"""Lines of logs, written for these tests in the words of the tools: g++ 12, Clang 16 and configure were run or read for
theirs, the others' words are those of the threads that the catalog names."""

# ruff: noqa: E501 - logs have long lines

SHOWN: dict[str, tuple[str, ...]] = {
    "out-of-memory": (
        "g++: fatal error: Killed signal terminated program cc1plus\ncompilation terminated.",
        "gcc: internal compiler error: Killed (program cc1plus)\nPlease submit a full bug report,",
        "clang: error: unable to execute command: Killed\nclang: error: clang frontend command failed",
        "collect2: fatal error: ld terminated with signal 9 [Killed]\ncompilation terminated.",
        "virtual memory exhausted: Cannot allocate memory",
        "cc1plus: out of memory allocating 214898 bytes after a total of 1282048 bytes",
        "LLVM ERROR: out of memory\nAllocation failed",
        "Server terminated abruptly (error code: 14, error message: 'Socket closed', log file: '/x/server/jvm.out')",
    ),
    "bazel-out-of-memory": (
        "FATAL: bazel crashed due to an internal error: java.lang.OutOfMemoryError: Java heap space",
    ),
    "disk-full": (
        "/tmp/ccX1.s: Fatal error: can't write 57 bytes to section .text of x.o: 'No space left on device'",
        "cp: error writing 'tensorflow/libtensorflow_cc.so.2': Disk quota exceeded",
    ),
    "wrong-bazel": (
        "Please upgrade your bazel installation to version 3.1.0 or higher to build TensorFlow!",
        "Please downgrade your bazel installation to version 3.99.0 or lower to build TensorFlow! To downgrade: …",
        "ERROR: --experimental_link_static_libraries_once=false :: Unrecognized option: --experimental_link_static",
        "ERROR: The project you're trying to build requires Bazel 6.1.0 (specified in /t/.bazelversion), but it wasn't",
        "Current Bazel version is 4.2.3, expected at least 5.3.0",
    ),
    "bazel-not-fetched": (
        "could not download Bazel: could not fetch Bazel v6.1.0",
        "2024/05/01 failed to download bazel: failed to download bazel to /root/.cache/bazelisk/downloads",
    ),
    "renamed-target": (
        "ERROR: Skipping '//tensorflow/tools/pip_package:wheel': no such target '//tensorflow/tools/pip_package:wheel': "
        "target 'wheel' not declared in package 'tensorflow/tools/pip_package' defined by /t/BUILD",
        "ERROR: no such target '//tensorflow/tools/pip_package:build_pip_package': target 'build_pip_package' not declared",
    ),
    "cuda-not-found": (
        "Inconsistent CUDA toolkit path: /usr vs /usr/lib",
        "Could not find any cuda.h matching version '11' in any subdirectory:",
        "Could not find any cudnn_version.h, cudnn.h in any subdirectory:",
        "ERROR: no such package '@local_config_cuda//cuda': Traceback (most recent call last):",
        "\x1b[31m\x1b[0mCuda Configuration Error:\x1b[0m Cannot find cuda library libcudart.so.11.0",
    ),
    "gcc-13-cstdint": (
        "a.cc:1:6: error: 'uint8_t' in namespace 'std' does not name a type",
        "a.cc:1:17: error: ‘uint32_t’ does not name a type",
        "b.h:40:14: error: ‘uint64_t’ has not been declared",
        "a.cc:1:1: note: ‘uint32_t’ is defined in header ‘<cstdint>’; did you forget to ‘#include <cstdint>’?",
    ),
    "compiler-too-old-for-xnnpack": (
        "gcc: error: unrecognized command-line option '-mavx512fp16'; did you mean '-mavx512bf16'?",
        "g++-12: error: unrecognized command-line option ‘-mavxvnniint8’; did you mean ‘-mavxvnni’?",
        "gcc: error: unrecognized command line option '-mamx-tile'",
        "clang: error: unknown argument: '-mavxvnniint8'",
    ),
    "illegal-instruction": (
        "/bin/bash: line 1:   849 Illegal instruction     (core dumped) bazel-out/host/bin/tensorflow/python/gen_ops",
        "Illegal instruction",
        "F tensorflow/core/platform/cpu_feature_guard.cc:37] The TensorFlow library was compiled to use AVX2 instructions, "
        "but these aren't available on your machine.",
        "ERROR: /t/BUILD:12:1: Executing genrule //tensorflow/python:gen failed (Exit 132): bash failed: error executing",
    ),
    "gpu-too-old-for-cuda": (
        "nvcc fatal   : Unsupported gpu architecture 'compute_35'",
        "clang: error: unsupported CUDA gpu architecture: sm_35",
        "clang: error: GPU arch sm_35 is supported by CUDA versions between 7.0 and 11.8 (inclusive), but installation "
        "at /usr/local/cuda is 12.3; use '--cuda-path' to specify a different CUDA install",
    ),
    "gcc-given-clang-cuda-options": (
        "gcc: error: unrecognized command-line option '--cuda-gpu-arch=sm_80'",
        "clang: error: cannot find libdevice for sm_80; provide path to different CUDA installation via '--cuda-path'",
    ),
    "clang-extension-is-an-error": (
        "external/upb/upb/upb.c:192:10: error: defining a type within 'offsetof' is a Clang extension "
        "[-Werror,-Wgnu-offsetof-extensions]",
        "x.cc:1:2: error: label followed by a declaration is a C23 extension [-Werror,-Wc23-extensions]",
    ),
    "lld-missing": (
        "clang: error: invalid linker name in argument '-fuse-ld=lld'",
        "collect2: fatal error: cannot find 'ld'\ncompilation terminated.",
        "sh: 1: ld.lld: not found",
    ),
    "patchelf-missing": (
        "bash: line 30: patchelf: command not found",
        "sh: 1: patchelf: not found",
        "FileNotFoundError: [Errno 2] No such file or directory: 'patchelf'",
    ),
    "download-changed": (
        "java.io.IOException: Error downloading [https://example.org/z.zip] to /c/z.zip: Checksum was "
        "4a6a6b7e1b2c3d4e5f60718293a4b5c6d7e8f9 but wanted 1d3f0d2e9c8b7a6f5e4d3c2b1a0f9e8d7c6b5a",
    ),
    "download-failed": (
        "ERROR: java.io.IOException: Error downloading [https://zlib.net/zlib-1.2.11.tar.gz] to /c/x: GET returned 404 Not Found",
        "WARNING: Download from https://mirror failed: class java.io.IOException Unknown host: mirror.example.org",
    ),
    "compiler-changed": (
        "ERROR: /t/BUILD:1:1: undeclared inclusion(s) in rule '//tensorflow/core:lib':",
        "this rule is missing dependency declarations for the following files included by 'x.cc':",
    ),
    "python-module-missing": (
        "ModuleNotFoundError: No module named 'numpy'",
        "ModuleNotFoundError: No module named 'keras_preprocessing'",
        "ImportError: No module named packaging",
        "Python Configuration Error: 'PYTHON_BIN_PATH' environment variable is not set",
        "error: invalid command 'bdist_wheel'",
    ),
    "numpy-2": (
        "A module that was compiled using NumPy 1.x cannot be run in\nNumPy 2.4.6 as it may crash.",
        "TypeError: Unable to convert function return value to a Python type! The signature was\n\t() -> handle",
        "AttributeError: _ARRAY_API not found",
    ),
    "python-of-the-build": (
        "ERROR: tensorflow-2.14.0-cp311-cp311-linux_x86_64.whl is not a supported wheel on this platform.",
        "Could not find requirements_lock.txt file matching specified Python version.",
    ),
    "python-as-root": (
        "Error in fail: The current user is root, please run as non-root when using the hermetic Python interpreter.",
    ),
    "cuda-wheel-config": (
        "Error in fail: TF wheel shouldn't be built with CUDA dependencies. Please provide `--config=cuda_wheel`",
    ),
    "eigen-avx512-without-fma": (
        "Eigen/src/Core/util/ConfigureVectorization.h:270:8: error: #error Please add -mfma to your compiler flags: "
        "compiling with -mavx512f alone without SSE/AVX FMA is not supported (bug 1638).",
    ),
    "flags-do-not-fit": (
        "/usr/lib/gcc/x86_64-linux-gnu/12/include/avx512fintrin.h:305:1: error: inlining failed in call to ‘always_inline’ "
        "‘__m512 _mm512_setzero_ps()’: target specific option mismatch",
        "b.cc:2:19: error: always_inline function '_mm512_setzero_ps' requires target feature 'avx512f', but would be "
        "inlined into function 'f' that is compiled without support for 'avx512f'",
        "/tmp/cc1.s:41: Error: selected processor does not support `sdot v2.4s,v1.16b,v0.4b[0]'",
        "error: unknown FP unit 'both'",
    ),
    "imported-from-the-source-tree": (
        "ImportError: cannot import name 'pywrap_tensorflow' from partially initialized module 'tensorflow.python' (most",
    ),
    "protobuf-4": (
        "TypeError: Descriptors cannot not be created directly.",
        "TypeError: Descriptors cannot be created directly.",
    ),
    "self-built-version": ("Successfully built tensorflow-2.21.0.dev0+selfbuilt-cp311-cp311-linux_x86_64.whl",),
    "llvm-is-downloaded": ("Fetching repository @@llvm18_linux_x86_64; starting 12s",),
    "output-on-nfs": (
        "WARNING: Output base '/home/me/.cache/bazel/x' is on NFS. This may lead to surprising failures and undetermined "
        "behavior.",
    ),
    "cuda-on-windows": ("Starting in TF 2.11, CUDA build is not supported for Windows. For using TensorFlow GPU on",),
}
"""By failure: what shows it."""

NEAR = (
    "ERROR: test killed by user",
    "Killed",
    "collect2: fatal error: ld terminated with signal 11 [Segmentation fault]",
    "out of memory allocating a name",
    "java.lang.OutOfMemoryError: unable to create native thread",
    "Unrecognized option: -Xfoo\nError: Could not create the Java Virtual Machine.",
    "Current Bazel version is 6.1.0",
    "no such target '//tensorflow/core:wheel': target 'wheel' not declared in package 'tensorflow/core'",
    "Could not find any matching header",
    "a.cc:3:1: error: 'Foo' does not name a type",
    "a.cc:3:1: error: 'size_t' has not been declared",
    "note: 'std::string' is defined in header '<string>'; did you forget to '#include <string>'?",
    "gcc: error: unrecognized command-line option '-mavx2x'",
    "gcc: error: unrecognized command-line option '-Wno-foo'",
    "clang: error: unknown argument: '-mavx512foo'",
    "x.s:1: Error: illegal instruction operand",
    "checking for Illegal instructions: none",
    "(Exit 1): gcc failed: error executing command",
    "nvcc warning : The 'compute_35' architecture is deprecated",
    "gcc ... --cuda-gpu-arch=sm_80 -c x.cc",
    "x.c:1:2: warning: defining a type within 'offsetof' is a Clang extension [-Wgnu-offsetof-extensions]",
    "clang: error: invalid linker name in argument '-fuse-ld=gold'",
    "patchelf --set-rpath '$ORIGIN' libx.so",
    "Checksum was not given",
    "java.io.IOException: /c/x (Permission denied)",
    "ModuleNotFoundError: No module named 'tensorflow'",
    "ModuleNotFoundError: No module named 'numpy_financial'",
    "PYTHON_BIN_PATH=/usr/bin/python3",
    "The current user is root; installing packages for everybody",
    "warning: inlining failed in call to 'f': call is unlikely and code size would grow [-Winline]",
    "this processor requires target feature tests",
    "ImportError: cannot import name 'x' from partially initialized module 'mine' (most likely due to a circular import)",
    "Descriptors are created directly",
    "llvm-ar: creating libx.a",
    "Extracting Bazel installation...",
    "Created wheel tensorflow-2.21.0-cp311-cp311-linux_x86_64.whl",
)
"""What nothing known is shown by, though it is near it."""
