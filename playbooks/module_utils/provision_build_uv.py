"""Engine "uv": a source distribution of the index, built by its own backend, as NumPy's is."""

from __future__ import annotations

from ansible.module_utils.provision_build_context import Context, EngineResult


def build(context: Context) -> EngineResult:
    raise NotImplementedError
