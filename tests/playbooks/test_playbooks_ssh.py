"""Files, wheels and an environment that reach bare hosts over SSH."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from harness.fleet import Fleet
from playbook_site import Site
from playbook_target import Target
from playbook_wheels import Wheel

pytestmark = [pytest.mark.ssh, pytest.mark.docker]
Demo = Callable[..., Wheel]


def test_two_bare_hosts_get_what_they_need_once(
    fleet: Callable[..., Fleet], target: Target, demo: Demo, tmp_path: Path
) -> None:
    made = fleet(2)
    site = Site(target, tmp_path, {**made.environment(), "ANSIBLE_PIPELINING": "True"})
    idx = tmp_path / "t10k-labels-idx1-ubyte"
    idx.write_bytes(b"\0\0\x08\x01")
    wheel = demo()
    lock = target.lock(wheel).replace(f"--find-links {target.wheels.as_uri()}\n", "")
    plan = target.plan(lock, python="3.11")
    brought = {"provision_wheels": [str(wheel.path)], "provision_mnist_files": [str(idx)]}
    hosts = {
        name: {
            **site.variables(plan, **brought),
            **host.inventory_variables(),
            "ansible_connection": "ssh",
            "ansible_python_interpreter": "/usr/bin/python3",
        }
        for name, host in zip(("one", "two"), made.hosts, strict=True)
    }
    assert site.play("site.yml", hosts, "--check") == 0
    assert site.play("site.yml", hosts) == 0
    for name, host in zip(("one", "two"), made.hosts, strict=True):
        assert site.result("Bring the uv program", name)["placed"] == ["bin/uv-1.2.3"]
        assert site.result("Run the checks", name)["passed"] is True
        current = site.result("Make the generation current", name)
        assert current["generation"] == 1
        see = """python -c 'import demo; print(demo.VERSION)'; echo "$DEMO" """
        shown = host.exec(["sh", "-c", f". {current['activate']}; {see}"])
        assert (shown.text, shown.status) == ("1.0\nit's $HOME\n", 0)
        listing = host.exec(["sh", "-c", "cd ~me/.local/share/provision; ls -A incoming; ls mnist bin"])
        assert listing.text == "bin:\nuv-1.2.3\n\nmnist:\nt10k-labels-idx1-ubyte\n"

    assert site.play("site.yml", hosts) == 0
    assert site.changed() == []


def test_a_home_that_cannot_be_written_to(
    fleet: Callable[..., Fleet], target: Target, demo: Demo, tmp_path: Path
) -> None:
    made = fleet(1)
    (host,) = made.hosts
    host.exec(["chown", "root:root", "/home/me"])  # its .ssh stays the user's
    site = Site(target, tmp_path, {**made.environment(), "ANSIBLE_PIPELINING": "True"})
    variables = {**site.variables(target.plan(target.lock(demo()))), **host.inventory_variables()}
    bare = {**variables, "ansible_connection": "ssh", "ansible_python_interpreter": "/usr/bin/python3"}
    assert site.play("site.yml", {"one": bare}) == 2, site.results
    failed = site.result("Bring the uv program")
    assert (failed["kind"], failed["what"]) == ("permission", "could not put a file in its place: Permission denied")
    assert "/home/me/.local" in failed["why"]
    assert "XDG_DATA_HOME" in failed["hint"]
