"""What the entry point of an image reads: the CPU flags that it needs, and what a lesser CPU is told to take."""

from __future__ import annotations

from provision.model.image import ImagePlan


def cpu_file(plan: ImagePlan) -> str:
    """The content of /opt/provision/cpu: a line ``need FLAG …``, then ``instead TAG FLAG …``, most demanding first."""
    lines = [" ".join(("need", *plan.flags))]
    lines += [" ".join(("instead", tag, *flags)) for tag, flags in plan.instead if tag != plan.tag]
    return "".join(f"{line}\n" for line in lines)
