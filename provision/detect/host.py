"""Readings to facts."""

from __future__ import annotations

from provision.detect.cpu import cpu_facts
from provision.detect.driver import driver_facts
from provision.detect.findings import findings
from provision.detect.gpus import gpu_facts
from provision.detect.memory import memory_facts
from provision.detect.nvidia import host_nvidia
from provision.detect.system import system_facts
from provision.detect.toolkit import toolkit_facts
from provision.model.chips import Chips
from provision.model.facts import Facts
from provision.model.readings import Readings


def host_facts(readings: Readings, chips: Chips, *, host: str) -> Facts:
    """What the host is, as far as ``readings`` tell: any subset of them, cut or damaged, gives facts and no error."""
    cpu, driver, gpus = cpu_facts(readings), driver_facts(readings), gpu_facts(readings, chips)
    system, nvidia = system_facts(readings), host_nvidia(readings, driver, gpus)
    return Facts(
        host=host,
        cpu=cpu,
        memory=memory_facts(readings),
        system=system,
        driver=driver,
        gpus=gpus,
        toolkit=toolkit_facts(readings),
        findings=findings(readings, cpu=cpu, system=system, driver=driver, gpus=gpus, nvidia=nvidia),
        nvidia=nvidia,
    )
