"""Makes the wheels of a builder stage, by the recipe that boxes build with too.

Runs in an image, as the stage's RUN step: what it says goes to the step's log. /opt/provision-build/params.json says
what to build (provision/run/images/wheels_context.py writes it), /opt/provision-build/ansible has the recipe. The
wheels and result.json, which holds what the recipe returned for each, land in /opt/provision-build/out.

Standard library only, Python 3.8 and newer.
"""

from __future__ import annotations

import base64
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
import zipfile
from contextlib import suppress
from pathlib import Path
from typing import Any, Dict, List, Optional

HOME = Path(__file__).resolve().parent
CACHE = Path("/var/cache/provision")
KEPT = ("disk_cache", "repository_cache")
"""What the next build may use: what Bazel has compiled and downloaded."""
CREDENTIALS = Path("/run/secrets/provision-build")

EVERY_S = 2.0
TAIL_BYTES = 100_000
"""Of a failed build's log. BuildKit cuts a step's log at 1 MiB (2 MiB in newer ones)."""
CHUNK = 200
ANSWER = "provision-answer:"


class Lines:
    """What the recipe says while it works, as lines of the step's log."""

    def __init__(self, clock: Any = time.monotonic) -> None:
        self._clock = clock
        self._begun = clock()
        self._last, self._text = 0.0, ""

    def say(
        self,
        text: str,
        done_mib: Optional[float] = None,
        total_mib: Optional[float] = None,
        build: Optional[Dict[str, Any]] = None,
    ) -> None:
        """A new text at once; how far it is every two seconds, and ever more seldom: a day makes some 3000 lines."""
        now = self._clock()
        line = text if build is None else build_line(text, build)
        if total_mib is not None:
            line = "%s: %.1f of %.1f MiB" % (text, done_mib or 0.0, total_mib)
        key = text if build is None and total_mib is None and not text.startswith("build environment") else ""
        waits = not key and now - self._last < max(EVERY_S, (now - self._begun) / 600)
        if waits or line == self._text:
            return
        self._last, self._text = now, line
        print(line, flush=True)


def build_line(text: str, build: Dict[str, Any]) -> str:
    """[1234 / 5678] Compiling mnist.cc (1000 from a cache, 4 running, 65 s, 120 s to go)"""
    about = []
    if build.get("cached"):
        about.append("%d from a cache" % build["cached"])
    if build.get("running"):
        about.append("%d running" % build["running"])
    about.append("%.0f s" % (build.get("elapsed_s") or 0))
    if build.get("remaining_s") is not None and not build.get("guess"):
        about.append("%.0f s to go" % build["remaining_s"])
    return "[%s / %s] %s (%s)" % (build.get("done"), build.get("total") or "?", text, ", ".join(about))


def main(home: Path = HOME, cache: Path = CACHE, credentials: Path = CREDENTIALS) -> int:
    params = json.loads((home / "params.json").read_text(encoding="utf-8"))
    secret = json.loads(credentials.read_text(encoding="utf-8")) if credentials.is_file() else {}
    os.environ["XDG_DATA_HOME"] = str(home / "data")
    os.environ["XDG_CACHE_HOME"] = str(cache)
    # the cache mount is another file system than the layer, where hard links cannot go
    os.environ["UV_LINK_MODE"] = "copy"
    sys.path.insert(0, str(home))
    program = home / "data" / "provision" / "bin" / ("uv-%s" % params["uv_version"])
    program.parent.mkdir(parents=True, exist_ok=True)
    with suppress(FileExistsError):
        program.symlink_to(home / "uv")
    folder = Path(params["settings"].get("build_folder") or cache / "build").expanduser()
    return made(params, secret, home, folder)


def made(params: Dict[str, Any], secret: Dict[str, Any], home: Path, folder: Path) -> int:
    from ansible.module_utils.provision_build import present
    from ansible.module_utils.provision_failure import Failure, Interrupted, os_failure
    from ansible.module_utils.provision_layout import target_layout
    from ansible.module_utils.provision_process import stoppable

    layout, lines, out = target_layout(), Lines(), home / "out"
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir()
    answers: List[Dict[str, Any]] = []
    settings = {**params["settings"], **secret.get("settings", {}), "build_folder": str(folder)}
    environment = {**params["uv_environment"], **secret.get("uv_environment", {})}
    for each in params["builds"]:
        print("building %(framework)s %(version)s" % each["build"], flush=True)
        asked = {**each, "uv_version": params["uv_version"], "uv_environment": environment, "settings": settings}
        asked.update(run_id="", controller="", lock_timeout_s=params["lock_timeout_s"])
        try:
            with stoppable():
                answer = present(layout, asked, lines, False)
        except Failure as failure:
            answer = {"failed": True, **failure.result()}
        except OSError as error:
            answer = {"failed": True, **os_failure(error, "build").result()}
        except Interrupted as stop:
            answer = {"failed": True, "kind": "interrupted", "what": "stopped while building", "why": str(stop)}
        answers.append(answer)
        if answer.get("failed"):
            return failed(answers, params)
        for record in answer["builds"]:
            record["compiler"] = compiler(each["build"])
            ended(layout.builds / record["key"])
            shutil.copyfile(record["wheel"], str(out / record["file"]))
            record["audit"] = audited(home / "checks" / "isa_audit.py", out / record["file"], each.get("audit") or [])
            if record["audit"]["status"] == "fail":
                answers[-1] = {"failed": True, "kind": "audit", **record["audit"]}
                return failed(answers, params)
            print("made %s in %.0f s" % (record["file"], record["seconds"]), flush=True)
    (out / "result.json").write_text(json.dumps(answers, indent=2, sort_keys=True) + "\n", encoding="utf-8")
    cleared(folder)
    return 0


def audited(script: Path, wheel: Path, arguments: List[str]) -> Dict[str, Any]:
    """Whether the wheel holds the instructions that were asked for, and no others: looked at here, where objdump is and
    the symbols still are. {"status": "pass" | "fail" | "skip", "what", "why", "hint"}."""
    print("looking for the instructions in %s" % wheel.name, flush=True)
    with tempfile.TemporaryDirectory() as folder:
        with zipfile.ZipFile(str(wheel)) as files:
            files.extractall(folder)
        argv = [sys.executable, str(script), *arguments, "--path", folder]
        done = subprocess.run(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, check=False)
    try:
        found = json.loads(done.stdout.decode("utf-8").strip().splitlines()[-1])
        told = {name: str(found.get(name) or "") for name in ("status", "what", "why", "hint")}
    except (ValueError, IndexError, AttributeError):
        said = done.stderr.decode("utf-8", "replace").strip().splitlines()[-1:] or ["status %d" % done.returncode]
        told = {"status": "skip", "what": "the audit of instructions gave no answer", "why": said[0], "hint": ""}
    print("%(status)s: %(what)s" % told, flush=True)
    return told


def compiler(build: Dict[str, Any]) -> str:
    """What compiled it, with the version that it says it is: it was planned without having been asked."""
    from ansible.module_utils.provision_build_toolchain import called, version_of

    planned = build["compiler"]
    return called(planned, version_of(planned["family"], planned["path"])) if planned else ""


def ended(build: Path, timeout_s: float = 60.0) -> None:
    """Wait for the build's own process, which shuts Bazel down when the result is there already."""
    from ansible.module_utils.provision_build_supervisor import living, read_state

    until = time.monotonic() + timeout_s
    while living(read_state(build)) and time.monotonic() < until:
        time.sleep(0.1)


def cleared(folder: Path) -> None:
    """Only what a next build can use stays: with the classic builder, the folder becomes a layer."""
    for path in folder.iterdir() if folder.is_dir() else ():
        if path.name in KEPT:
            continue
        if path.is_dir() and not path.is_symlink():
            writable(path)
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink()


def writable(folder: Path) -> None:
    """Bazel takes the right to write from the folders that it has made; only root goes on without."""
    if os.geteuid() == 0:
        return
    for path, names, _ in os.walk(folder):
        for name in [path, *(os.path.join(path, name) for name in names)]:
            if not os.path.islink(name):
                os.chmod(name, 0o700)


def failed(answers: List[Dict[str, Any]], params: Dict[str, Any]) -> int:
    """Say why, first for the controller, where one listens, and last for people: the last lines are what is shown."""
    answer = answers[-1]
    if params.get("answer"):
        text = base64.b64encode(json.dumps(answers).encode("utf-8")).decode("ascii")
        chunks = [text[at : at + CHUNK] for at in range(0, len(text), CHUNK)]
        for number, chunk in enumerate(chunks, 1):
            print("%s%d/%d:%s" % (ANSWER, number, len(chunks), chunk), file=sys.stderr)
    sys.stderr.write(log_end(answer))
    print("error: %s" % (answer.get("msg") or answer.get("what")), file=sys.stderr, flush=True)
    return 1


def log_end(answer: Dict[str, Any]) -> str:
    """The end of the whole log, or of what the failing action wrote."""
    text = str(answer.get("log_tail") or "")
    with suppress(OSError):
        if answer.get("log"):
            with open(answer["log"], "rb") as file:
                file.seek(max(0, os.fstat(file.fileno()).st_size - TAIL_BYTES))
                text = file.read().decode("utf-8", "replace")
    return text if not text or text.endswith("\n") else text + "\n"


def reaped(work: Any) -> int:
    """Do ``work`` in a child, and be the init of the stage: `bazel shutdown` waits a minute for a server that has ended
    and that nobody has waited for."""
    child = os.fork()
    if child == 0:
        return int(work())
    while True:
        pid, status = os.wait()
        if pid == child:
            return os.WEXITSTATUS(status) if os.WIFEXITED(status) else 128 + os.WTERMSIG(status)


if __name__ == "__main__":
    sys.exit(reaped(main) if os.getpid() == 1 else main())
