"""Known failures in a host's readings, and in logs that somebody brings."""

from provision.detect.doctor.host import doctor_host
from provision.detect.doctor.log import doctor_log

__all__ = ["doctor_host", "doctor_log"]
