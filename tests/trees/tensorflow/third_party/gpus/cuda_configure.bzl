"""The CUDA toolkit that the build was configured with, and the settings that --config=cuda switches.

Host code alone is compiled here, whichever toolkit is found: this tree has no kernels for GPUs.
"""

_BUILD = """
load(":settings.bzl", "bool_setting", "string_setting")

package(default_visibility = ["//visibility:public"])

bool_setting(name = "enable_cuda", build_setting_default = False)
string_setting(name = "cuda_compiler", build_setting_default = "nvcc")
config_setting(name = "is_cuda_enabled", flag_values = {":enable_cuda": "True"})
"""

_SETTINGS = """
def _keep(ctx):
    return []

bool_setting = rule(implementation = _keep, build_setting = config.bool(flag = True))
string_setting = rule(implementation = _keep, build_setting = config.string(flag = True))
"""

_CUDA_BUILD = """
load("//:settings.bzl", "bool_setting")

package(default_visibility = ["//visibility:public"])

bool_setting(name = "include_cuda_libs", build_setting_default = True)
bool_setting(name = "override_include_cuda_libs", build_setting_default = False)
"""

_ROOTS = ["LOCAL_CUDA_PATH", "CUDA_TOOLKIT_PATH"]

def _cuda_configure(repository_ctx):
    environ = repository_ctx.os.environ
    enabled = environ.get("TF_NEED_CUDA", "0") == "1"
    if enabled:
        roots = [environ[name] for name in _ROOTS if environ.get(name)]
        roots += [root for root in environ.get("TF_CUDA_PATHS", "").split(",") if root]
        if not [root for root in roots if repository_ctx.path(root + "/include/cuda.h").exists]:
            fail("Cuda Configuration Error: no include/cuda.h in %s; this tree downloads no toolkit" % (roots or "any root given"))
    repository_ctx.file("BUILD", _BUILD)
    repository_ctx.file("settings.bzl", _SETTINGS)
    repository_ctx.file("cuda/BUILD", _CUDA_BUILD)
    capabilities = environ.get("HERMETIC_CUDA_COMPUTE_CAPABILITIES", "") or environ.get("TF_CUDA_COMPUTE_CAPABILITIES", "")
    repository_ctx.file("cuda_config.bzl", "\n".join([
        "CUDA = %r" % enabled,
        "CUDA_VERSION = %r" % (environ.get("HERMETIC_CUDA_VERSION", "") or environ.get("TF_CUDA_VERSION", "")),
        "CUDNN_VERSION = %r" % (environ.get("HERMETIC_CUDNN_VERSION", "") or environ.get("TF_CUDNN_VERSION", "")),
        "COMPUTE_CAPABILITIES = %r" % [one for one in capabilities.split(",") if one and enabled],
        "",
    ]))

cuda_configure = repository_rule(
    implementation = _cuda_configure,
    environ = _ROOTS + [
        "HERMETIC_CUDA_COMPUTE_CAPABILITIES",
        "HERMETIC_CUDA_VERSION",
        "HERMETIC_CUDNN_VERSION",
        "TF_CUDA_COMPUTE_CAPABILITIES",
        "TF_CUDA_PATHS",
        "TF_CUDA_VERSION",
        "TF_CUDNN_VERSION",
        "TF_NEED_CUDA",
    ],
    local = True,
)
