"""torch.cuda: this tree has no kernels for GPUs."""

from torch import version


def is_available():
    return False


def device_count():
    return 0


def get_arch_list():
    return ["sm_" + entry.split("+")[0].replace(".", "") for entry in version.arch_list]
