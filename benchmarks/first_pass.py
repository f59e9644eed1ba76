"""The first pass through the product, measured: `python benchmarks/first_pass.py [ROW ...]` prints a Markdown table.

Run by hand, as root, on a machine where the tests' harness can start a Docker engine. Everything is timed as whole
processes, in turn, in one run; the rows are named in ROWS. Needs a package index; pyinfra is installed into a
temporary environment for the comparison.
"""

from __future__ import annotations

import json
import shlex
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT / "tests"), str(ROOT)]

from harness.addresses import Addresses  # noqa: E402
from harness.engine import connect  # noqa: E402
from harness.fleet import Fleet, Fleets, Host  # noqa: E402
from harness.images import Images  # noqa: E402
from harness.places import Run  # noqa: E402
from measure import (  # noqa: E402
    Row,
    clean_environment,
    in_turn,
    median,
    peak_memory_mib,
    ratio_of_pairs,
    say,
    seconds,
    show,
    spread,
)

PROVISION = [sys.executable, "-m", "provision"]
TENSORFLOW = "tensorflow==2.21.0"
NUMPY = "numpy==2.4.6"  # runs on Debian 12's own Python
ENVS = "/home/me/.local/share/provision/envs"


@contextmanager
def fleet(count: int) -> Iterator[Fleet]:
    """``count`` SSH hosts, gone afterwards."""
    with ExitStack() as undo:
        run = Run()
        undo.callback(run.close)
        engine = connect()
        undo.callback(engine.close)
        addresses = Addresses()
        undo.callback(addresses.close)
        made = Fleets(engine, Images(engine.client), addresses, run.folder).make(count)
        undo.callback(made.close)
        yield made


def provision_env(made: Fleet, **more: str) -> dict[str, str]:
    return clean_environment(**made.environment(PYTHONPATH=str(ROOT), **more))


def detect() -> Row:
    env = clean_environment(PYTHONPATH=str(ROOT))
    ours, theirs = in_turn(
        11,
        lambda: seconds([*PROVISION, "detect", "--json"], env),
        lambda: seconds([sys.executable, "-m", "cpuinfo", "--json"], env),
    )
    faster = 1 / ratio_of_pairs(ours, theirs)
    met = median(ours) <= 0.25 and faster >= 4
    return Row(
        "`provision detect --json`, whole process", f"{spread(ours)}, {faster:.1f}× faster than py-cpuinfo",
        "≤ 0.25 s and ≥ 4×", met,
    )  # fmt: skip


def help_text() -> Row:
    (ours,) = in_turn(11, lambda: seconds([*PROVISION, "--help"], clean_environment(PYTHONPATH=str(ROOT))))
    return Row("`provision --help`", spread(ours), "≤ 0.20 s", median(ours) <= 0.20)


def bare_host() -> Row:
    """`up` on a bare SSH host with a warm package cache, against the same lock typed by hand there."""
    with fleet(1) as made:
        host = made.hosts[0]
        env = provision_env(made)
        up = [*PROVISION, "up", host.target, "--framework", TENSORFLOW, "--no-verify", "--yes"]
        seconds(up, env)
        lock = host.sh(f"cat {ENVS}/default/current/lock.txt")
        uv = host.sh("ls /home/me/.local/share/provision/bin/uv-*").strip()
        host.write("/home/me/lock.txt", lock.encode())

        def ours() -> float:
            host.sh(f"rm -rf {ENVS}")
            return seconds(up, env)

        def by_hand(compile_option: str) -> Callable[[], float]:
            install = f"{uv} pip install -q --python v/bin/python --require-hashes {compile_option} -r lock.txt"
            line = f"{uv} venv -q --no-config v && {install}"

            def run() -> float:
                host.sh("rm -rf /home/me/v")
                return _there(host, line)

            return run

        # by hand with byte code, as `up` leaves it, and without; and without asking the index, which `uv pip install`
        # does for each package of a lock, and which takes from nothing to seconds, as the index answers
        pairs = in_turn(
            5, ours, by_hand("--compile-bytecode"), by_hand(""), by_hand("--compile-bytecode --offline")
        )  # fmt: skip
    compiled, plain, offline = (ratio_of_pairs(pairs[0], each) for each in pairs[1:])
    measured = f"{compiled:.2f}× ({median(pairs[0]):.1f} s against {median(pairs[1]):.1f} s)"
    return Row(
        "`up` of tensorflow-cpu on a bare SSH host, warm cache, no smoke test", measured, "≤ 1.25×", compiled <= 1.25,
        f"against uv --offline, which asks the index nothing, {offline:.2f}× ({median(pairs[3]):.1f} s); "
        f"against uv without --compile-bytecode {plain:.2f}× ({median(pairs[2]):.1f} s)",
    )  # fmt: skip


def _there(host: Host, line: str) -> float:
    start = time.perf_counter()
    host.exec(["sh", "-ec", f"cd /home/me && {line}"], user="me").check()
    return time.perf_counter() - start


def second_up() -> Row:
    with tempfile.TemporaryDirectory() as folder:
        env = clean_environment(PYTHONPATH=str(ROOT), XDG_DATA_HOME=f"{folder}/data")
        up = [*PROVISION, "up", "--framework", NUMPY, "--no-verify", "--yes"]
        seconds(up, env)
        document = subprocess.run([*up, "--json"], env=env, capture_output=True, check=True).stdout
        changed = json.loads(document)["changed"]
        (again,) = in_turn(7, lambda: seconds(up, env))
    met = changed == 0 and median(again) <= 1.5
    return Row("second `up`, same plan, `--no-verify`, here", f"{spread(again)}, changed: {changed}", "≤ 1.5 s", met)


def fleet_no_op() -> Row:
    with fleet(8) as made, tempfile.TemporaryDirectory() as folder:
        env = provision_env(made)
        up = [*PROVISION, "up", *(host.target for host in made.hosts), "--framework", NUMPY, "--no-verify", "--yes"]
        seconds(up, env)
        reports = json.loads(subprocess.run([*up, "--json"], env=env, capture_output=True, check=True).stdout)
        changed = sum(report["changed"] for report in reports)
        pyinfra = _pyinfra(Path(folder), made)
        floor = _ansible_floor(Path(folder), made)
        ours, theirs, lowest = in_turn(
            5, lambda: seconds(up, env), lambda: seconds(pyinfra, env), lambda: seconds(floor, env)
        )
    ratio = ratio_of_pairs(ours, theirs)
    measured = f"{ratio:.2f}× of pyinfra ({median(ours):.2f} s against {median(theirs):.2f} s), changed: {changed}"
    return Row(
        "the same no-op over 8 SSH hosts", f"{measured}; Ansible's own floor (one ping) {median(lowest):.2f} s",
        "≤ 0.6×", ratio <= 0.6 and changed == 0,
    )  # fmt: skip


def _pyinfra(folder: Path, made: Fleet) -> list[str]:
    """pyinfra asking for the same state: the folder, the link, the plan and the lock as they are."""
    uv = str(Path(sys.executable).parent / "uv")
    seconds([uv, "venv", "-q", f"{folder}/venv"])
    seconds([uv, "pip", "install", "-q", "--python", f"{folder}/venv/bin/python", "pyinfra"])
    current = f"{ENVS}/default/current"
    host = made.hosts[0]
    for name in ("plan.json", "lock.txt", "activate"):
        (folder / name).write_text(host.sh(f"cat {current}/{name}"))
    hosts = [(each.address, {"ssh_port": each.port, "ssh_user": each.user}) for each in made.hosts]
    data = {
        "ssh_key": str(made.key),
        "ssh_known_hosts_file": str(made.known_hosts),
        "ssh_strict_host_key_checking": "yes",
    }
    (folder / "inventory.py").write_text(f"hosts = ({hosts!r}, {data!r})\n")
    number = host.sh(f"basename $(readlink {current})").strip()
    (folder / "deploy.py").write_text(
        "from pyinfra.operations import files\n"
        f"files.directory('{ENVS}/default', present=True)\n"
        f"files.link('{current}', target='generations/{number}')\n"
        f"files.put('{folder}/lock.txt', '{current}/lock.txt')\n"
        f"files.file('{current}/plan.json', present=True)\n"
    )
    return [f"{folder}/venv/bin/pyinfra", "-y", f"{folder}/inventory.py", f"{folder}/deploy.py"]


def _ansible_floor(folder: Path, made: Fleet) -> list[str]:
    book = folder / "ping.yml"
    book.write_text("- hosts: all\n  gather_facts: false\n  tasks:\n    - ansible.builtin.ping:\n")
    playbook = str(Path(sys.executable).parent / "ansible-playbook")
    python = "ansible_python_interpreter=/usr/bin/python3"
    return [playbook, "-i", str(made.inventory()), "-f", "8", "-e", python, str(book)]


def interrupt() -> Row:
    """Ctrl-C in the middle of an install on 4 hosts; what is left of ours after 3 s, here and there."""
    with fleet(4) as made:
        before = [set(host.processes()) for host in made.hosts]
        here = _local(made)
        env = provision_env(made)
        up = [
            *PROVISION,
            "up",
            *(host.target for host in made.hosts),
            "--framework",
            TENSORFLOW,
            "--no-verify",
            "--yes",
        ]
        process = subprocess.Popen(
            up, env=env, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        )
        deadline = time.monotonic() + 120
        while time.monotonic() < deadline and not all(_installs(host) for host in made.hosts):
            time.sleep(0.1)
        started = time.perf_counter()
        process.send_signal(signal.SIGINT)
        output, _ = process.communicate(timeout=60)
        ended = time.perf_counter() - started
        time.sleep(max(0.0, 3 - ended))
        left = [line for host, old in zip(made.hosts, before, strict=True) for line in set(host.processes()) - old]
        left += sorted(_local(made) - here)
    met = not left and ended <= 3 and process.returncode == 130
    note = output.decode(errors="replace")[-600:] if not met else ""
    return Row(
        "Ctrl-C during an install on 4 hosts",
        f"ended after {ended:.1f} s (exit {process.returncode}), {len(left)} left",
        "nothing left after 3 s", met, "\n".join([*left, note]),
    )  # fmt: skip


def _installs(host: Host) -> bool:
    return any("uv" in line and "pip" in line for line in host.processes())


def _local(made: Fleet) -> set[str]:
    """Processes here that belong to this fleet's run: its home is in their environment."""
    found = set()
    for path in Path("/proc").glob("[0-9]*/environ"):
        try:
            mine = str(made.folder).encode() in path.read_bytes()
            line = path.with_name("cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue
        if mine:
            found.add(f"{path.parent.name} {line}")
    return found


def memory() -> Row:
    with fleet(8) as made:
        env = provision_env(made)
        up = [*PROVISION, "up", *(host.target for host in made.hosts), "--framework", NUMPY, "--yes"]
        peak = peak_memory_mib(up, env)
    return Row(
        "peak memory of the controller, 8 hosts (PSS of its process tree)", f"{peak:.0f} MiB", "≤ 400 MiB", peak <= 400
    )


ROWS: dict[str, Callable[[], Row]] = {
    "detect": detect,
    "help": help_text,
    "bare-host": bare_host,
    "second-up": second_up,
    "fleet": fleet_no_op,
    "interrupt": interrupt,
    "memory": memory,
}


def main(names: Sequence[str]) -> None:
    rows = []
    for name in names or tuple(ROWS):
        say(f"measuring: {name}")
        rows.append(ROWS[name]())
        say(f"  {shlex.quote(rows[-1].measured)}")
    show(rows)


if __name__ == "__main__":
    main(sys.argv[1:])
