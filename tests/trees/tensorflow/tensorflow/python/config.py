"""tf.config: one CPU, no GPU."""

from collections import namedtuple

PhysicalDevice = namedtuple("PhysicalDevice", "name device_type")

_CPU = PhysicalDevice("/physical_device:CPU:0", "CPU")


def list_physical_devices(device_type=None):
    return [_CPU] if device_type in (None, "CPU") else []


def set_visible_devices(devices, device_type=None):
    if not devices and device_type in (None, "CPU"):
        raise RuntimeError("the CPU cannot be hidden")


def set_soft_device_placement(enabled):
    """An operation never goes elsewhere than it was sent."""


class experimental:
    @staticmethod
    def get_device_details(device):
        return {}

    @staticmethod
    def set_memory_growth(device, enable):
        raise ValueError("%s has no memory of its own" % device.name)
