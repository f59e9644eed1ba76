"""What this build is."""

from torch import _C, version


def show():
    settings = ", ".join("%s=%s" % pair for pair in version.parts.items())
    return "\n".join(
        [
            "PyTorch built with:",
            "  - " + _C.compiler(),
            "  - CPU capability usage: " + _C.capability(),
            "  - Build settings: CXX_FLAGS=%s, TORCH_VERSION=%s, %s, "
            % (version.cxx_flags, version.__version__, settings),
            "",
        ]
    )
