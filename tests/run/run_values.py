"""Plans and stacks for the tests of this folder."""

from __future__ import annotations

from typing import Any

from provision.model.plan import Plan, Stack
from provision.model.request import Request


def stack(framework: str = "tensorflow", **fields: Any) -> Stack:
    empty: dict[str, Any] = {
        "version": "2.21.0", "origin": "wheel", "python": "3.11", "device": "cpu", "build": "cpu", "index": None,
        "index_url": None, "requirements": ("tensorflow-cpu==2.21.0",), "cuda": None, "cudnn": None, "driver": None,
        "compute_capabilities": (), "copts": (), "bazel": None, "compiler": None, "environment": {},
    }  # fmt: skip
    return Stack(framework=framework, **{**empty, **fields})


def plan(
    *stacks: Stack, glibc: str | None = "2.36", arch: str | None = "x86_64", fingerprint: str = "", **request: Any
) -> Plan:
    return Plan(
        host="localhost", request=Request(**request), stack=stacks or (stack(),), reasons=(), rejected=(), steps=(),
        arch=arch, glibc=glibc, fingerprint=fingerprint,
    )  # fmt: skip
