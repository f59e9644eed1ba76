"""Known failures in a host's readings, in logs that somebody brings, and in what a check heard."""

from provision.detect.doctor.check import explained
from provision.detect.doctor.host import doctor_host
from provision.detect.doctor.log import doctor_log

__all__ = ["doctor_host", "doctor_log", "explained"]
