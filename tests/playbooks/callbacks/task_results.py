"""Ansible callback: one JSON line a task and host into $TASK_RESULTS."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from ansible.plugins.callback import CallbackBase


class CallbackModule(CallbackBase):  # type: ignore[misc]
    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "aggregate"
    CALLBACK_NAME = "task_results"

    def _write(self, result: Any, **more: Any) -> None:
        found = result.result if hasattr(result, "result") else result._result
        host, task = (
            (result.host, result.task) if hasattr(result, "task") else (result._host, result._task)
        )  # ansible-core 2.17 and 2.18 know only the underscored names
        line = {"host": host.get_name(), "task": task.get_name(), "result": {**found, **more}}
        with Path(os.environ["TASK_RESULTS"]).open("a") as file:
            file.write(json.dumps(line, default=str) + "\n")

    def v2_runner_on_ok(self, result: Any) -> None:
        self._write(result)

    def v2_runner_on_skipped(self, result: Any) -> None:
        self._write(result, skipped=True)

    def v2_runner_on_failed(self, result: Any, ignore_errors: bool = False) -> None:
        self._write(result, failed=True)

    def v2_runner_on_unreachable(self, result: Any) -> None:
        self._write(result, unreachable=True)
