"""A build on a host whose connection breaks."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from harness.fleet import Fleet
from playbook_builds import build, until
from playbook_site import Site
from playbook_target import Target
from test_playbooks_build_play import source, variables

pytestmark = [pytest.mark.ssh, pytest.mark.docker]
TREE = "/home/me/.cache/provision/build/trees/*"


@pytest.mark.parametrize("pipelining", ["True", "False"])
def test_a_build_survives_its_connection(
    fleet: Callable[..., Fleet], target: Target, tmp_path: Path, pipelining: str
) -> None:
    """Without pipelining Ansible asks for a terminal: its end is a hangup. With, nothing tells the module at all."""
    made = fleet(1)
    (host,) = made.hosts
    site = Site(target, tmp_path, {**made.environment(), "ANSIBLE_PIPELINING": pipelining})
    path = source(tmp_path, 'echo x >> began; echo "[1/2] one"; while [ ! -e go ]; do sleep 0.1; done')
    hosts = {
        "one": {
            **variables(site, path, build(python="3.11")),
            **host.inventory_variables(),
            "ansible_connection": "ssh",
            "ansible_python_interpreter": "/usr/bin/python3",
            "provision_build_folder": "",
        }
    }

    def there(script: str) -> str:
        return host.exec(["sh", "-c", script]).text.strip()

    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            status = site.play("build.yml", hosts)
        finally:
            os._exit(min(status, 100))
    until(lambda: there(f"cat {TREE}/began 2>/dev/null") == "x", timeout_s=120)
    # Ansible connects once more by itself where its control socket breaks, and that module goes along with the build
    ended = (0, 0)
    while not ended[0]:
        there("for pid in $(pgrep -u me sshd); do kill -KILL $pid; done")
        time.sleep(0.5)
        ended = os.waitpid(pid, os.WNOHANG)
    assert os.waitstatus_to_exitcode(ended[1]) != 0
    # the module is gone, the build is not
    until(lambda: there("pgrep -u me -f '^/usr/bin/python3' | tr '\\n' ' '").split() == [supervisor(there)])
    assert there("pgrep -u me -f build.sh")
    there(f"(sleep 8; touch $(dirname {TREE}/began)/go) >/dev/null 2>&1 &")
    assert site.play("build.yml", hosts) == 0, site.output
    (told,) = site.result("Build the wheel")["results"]
    assert (told["changed"], told["builds"][0]["built"]) == (True, True)
    assert there(f"cat {TREE}/began") == "x", "it was begun once"
    assert there("pgrep -u me -f build.sh") == ""


def supervisor(there: Callable[[str], str]) -> str:
    """Its number. It is forked from the module, so it goes by the module's name."""
    return there("sed -n 's/.*\"pid\": \\([0-9]*\\).*/\\1/p' /home/me/.local/share/provision/builds/*/state")
