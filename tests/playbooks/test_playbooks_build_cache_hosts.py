"""Role build_cache on a real host over SSH: check mode, a second run, another site, the timer, bad input, removal."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from harness.caches_http import ROLE, rendered
from harness.fleet import Fleet
from harness.fleet import Host as Box

from provision.model.host import Host
from provision.run import ansible
from provision.run.play_events import HostResult
from provision.run.ssh import ControlDir

PLAYBOOK = ROLE.parents[1] / "build_cache.yml"
SECRETS = ("correct horse battery", "staple {{ 7 * 7 }} it's")
GIVEN: dict[str, Any] = {
    "build_cache_writers": [{"name": "ci", "password": SECRETS[0]}],
    "build_cache_readers": [{"name": "lab", "password": SECRETS[1]}],
    "build_cache_size_gib": 1,
    "build_cache_reserve_gib": 0,
}
LEFT = "ls -d /etc/provision* /etc/nginx/conf.d/* /etc/systemd/system/provision* /usr/local/sbin/* /var/lib/provision*"


class Site:
    def __init__(self, box: Box, control_dir: str) -> None:
        self.box, self._control_dir = box, control_dir
        self.host = Host(name=box.target, connection="ssh", address=box.address, port=box.port, user=box.user)

    def play(self, *, check: bool = False, **changes: Any) -> HostResult:
        done = ansible.play(
            PLAYBOOK, [self.host], {self.host.name: {**GIVEN, **changes}}, on_event=lambda _: None,
            cancel=threading.Event(), control_dir=self._control_dir, check=check,
        )  # fmt: skip
        found = done.results[self.host.name]
        told = json.dumps({title: dict(result) for title, result in found.data.items()}, default=str)
        assert not [secret for secret in SECRETS if secret in told]
        return found

    def changed(self, **changes: Any) -> list[str]:
        found = self.play(**changes)
        assert found.status == "ok", found.failure
        return [step.title for step in found.steps if step.status == "changed"]

    def get(self, path: str, user: str = "", port: int = 9090) -> str:
        """Status and body, as the host itself gets them."""
        program = (
            "import sys, urllib.request as r, urllib.error as e, base64\n"
            "q = r.Request(sys.argv[1])\n"
            "word = base64.b64encode(sys.argv[2].encode()).decode()\n"
            "if word: q.add_header('Authorization', 'Basic ' + word)\n"
            "try:\n    a = r.urlopen(q)\nexcept e.HTTPError as x:\n    a = x\n"
            "print(a.code, a.read().decode())"
        )
        argv = ["python3", "-c", program, f"http://127.0.0.1:{port}{path}", user]
        return self.box.exec(argv).check().strip()


@pytest.fixture
def site(fleet: Callable[..., Fleet], monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    machines = fleet(1, "systemd")
    for name in ("PATH", "HOME"):
        monkeypatch.setenv(name, machines.environment()[name])
    with ControlDir() as control_dir:
        yield Site(machines.hosts[0], control_dir)


@pytest.mark.docker
@pytest.mark.ssh
@pytest.mark.slow
def test_the_cache_of_a_host(site: Site) -> None:
    box = site.box
    assert site.play(check=True).status == "ok", "a bare host"
    assert box.sh(f"{LEFT} 2>/dev/null || true") == ""

    site.play()
    assert site.changed() == []
    assert site.changed(check=True) == []
    assert box.sh("stat -c '%a %U:%G' /etc/provision-build-cache.users") == "640 root:www-data\n"
    assert site.get("/status").startswith("401")
    assert json.loads(site.get("/status", f"ci:{SECRETS[0]}").partition(" ")[2])["MaxSize"] == 2**30
    assert site.get("/status", f"lab:{SECRETS[1]}").startswith("200")

    # a password that is not given again stays; one that changes needs no reload
    kept = {"build_cache_writers": [{"name": "ci", "password": ""}]}
    assert site.changed(**kept) == []
    renewed = {"build_cache_readers": [{"name": "lab", "password": "another one for them"}]}
    assert site.changed(**renewed) == ["Write the users"]
    assert site.get("/status", f"lab:{SECRETS[1]}").startswith("401")
    assert site.get("/status", "lab:another one for them").startswith("200")

    # above its bound, what is old goes by the timer's service
    blobs = "/var/lib/provision-build-cache/blobs/cas"
    box.sh(f"install -d -o www-data {blobs}; cd {blobs}; for n in 1 2 3; do f=$(printf %064d $n); "
           "fallocate -l 400M $f; chown www-data $f; touch -d \"$n days ago\" $f; done")  # fmt: skip
    box.sh("systemctl start provision-build-cache-collect.service")
    assert box.sh(f"ls {blobs}").split() == [f"{1:064d}", f"{2:064d}"]
    assert json.loads(box.sh("cat /var/lib/provision-build-cache/status.json"))["RemovedFiles"] == 1
    assert "active" in box.sh("systemctl is-active provision-build-cache-collect.timer")

    # a site of the user's own is there, and stays
    own = "server { listen 8081; location / { return 200 mine; } }"
    box.write("/etc/nginx/conf.d/own.conf", own.encode())
    box.sh("systemctl reload nginx")
    moved = {"build_cache_port": 9191}
    assert {"Write the settings", "Write the site", "Reload nginx"} <= set(site.changed(**moved))
    assert site.get("/status", port=9191).startswith("401")
    assert site.get("/", port=8081) == "200 mine"

    taken = site.play(build_cache_port=8081).failure
    assert taken is not None
    assert taken.why.startswith("something else answers on port 8081 of this host")
    engine = site.play(build_cache_folder="/srv/elsewhere").failure
    assert engine is not None
    assert "this host has a cache of nginx in /var/lib/provision-build-cache: take it away first" in engine.why

    assert "Remove the blobs" in site.changed(check=True, build_cache_state="absent")
    assert site.get("/status", port=9191).startswith("401"), "check mode removed nothing"
    site.changed(build_cache_state="absent")
    assert box.sh(f"{LEFT} 2>/dev/null || true") == "/etc/nginx/conf.d/own.conf\n"
    assert site.get("/", port=8081) == "200 mine"
    listening = box.sh("awk '$4 == \"0A\" {print $2}' /proc/net/tcp")
    assert f":{8081:X}" in listening
    assert f":{9191:X}" not in listening
    assert site.changed(build_cache_state="absent") == []


@pytest.mark.docker
@pytest.mark.ssh
def test_bad_input_is_said_before_anything_changes(site: Site) -> None:
    nobody: dict[str, Any] = {"build_cache_writers": [], "build_cache_readers": []}
    for changes, why in (
        (nobody, "build_cache_writers must name at least one user"),
        ({"build_cache_writers": [{"name": 'a"b', "password": "x"}]}, "letters, digits, dots, dashes and underscores"),
        ({"build_cache_readers": [{"name": "ci", "password": "x"}]}, "each user of the cache is named once"),
        ({"build_cache_port": 70000}, "build_cache_port is 1 to 65535"),
        ({"build_cache_folder": "/"}, "build_cache_folder an absolute path of at least two plain names"),
        ({"build_cache_folder": "/var/lib/../../etc"}, "build_cache_folder an absolute path"),
        ({"build_cache_prefix": "lab"}, "build_cache_prefix empty or as in /lab/tensorflow"),
        ({"build_cache_tls_key": "/etc/key.pem"}, "both paths on the host, or both empty"),
        ({"build_cache_engine": "bazel-remote"}, "bazel-remote lets every user of its password file write"),
        (
            {"build_cache_engine": "bazel-remote", "build_cache_readers": []},
            "needs either build_cache_binary",
        ),
        ({"build_cache_engine": "apache"}, "must be one of"),
    ):
        failure = site.play(**changes).failure
        assert failure is not None, changes
        assert why in failure.why.replace("\n", " "), changes
    assert site.box.sh(f"{LEFT} 2>/dev/null || true") == ""


REMOTE = {
    "__build_cache_remote_unit": "provision-build-cache",
    "__build_cache_remote_user": "provision-build-cache",
    "__build_cache_remote_binary": "/usr/local/sbin/provision-bazel-remote",
    "__build_cache_users_file": "/etc/provision-build-cache.users",
    "__build_cache_container_program": "/usr/bin/podman",
    "__build_cache_remote_ids": "990:990",
}


def remote_unit(**changes: Any) -> str:
    """The unit of engine bazel-remote, its arguments computed as the role's variables say."""
    import jinja2

    values = {**yaml.safe_load((ROLE / "defaults" / "main.yml").read_text()), **REMOTE, **changes}
    environment = jinja2.Environment(undefined=jinja2.StrictUndefined)  # noqa: S701 - no HTML
    environment.filters["bool"] = bool
    text = yaml.safe_load((ROLE / "vars" / "main.yml").read_text())["__build_cache_remote_arguments"]
    arguments = environment.compile_expression(text.strip().removeprefix("{{").removesuffix("}}"))(**values)
    return rendered("bazel-remote.service.j2", {**values, "__build_cache_remote_arguments": arguments})


def test_bazel_remote_as_a_program() -> None:
    unit = remote_unit(build_cache_anonymous_read=True, build_cache_max_blob_mib=0)
    assert (
        "ExecStart=/usr/local/sbin/provision-bazel-remote --dir /var/lib/provision-build-cache/bazel-remote "
        "--max_size 50 --http_address 0.0.0.0:9090 --grpc_address none "
        "--htpasswd_file /etc/provision-build-cache.users --allow_unauthenticated_reads\n"
    ) in unit
    assert "User=provision-build-cache\n" in unit
    assert "--allow_unauthenticated_reads" not in remote_unit()
    assert "--max_blob_size 4294967296" in remote_unit()


def test_bazel_remote_as_an_image_with_tls() -> None:
    unit = remote_unit(
        build_cache_image="example.org/bazel-remote@sha256:" + "ab" * 32,
        build_cache_tls_certificate="/etc/ssl/cache.pem",
        build_cache_tls_key="/etc/ssl/cache.key",
    )
    assert "--volume /etc/ssl/cache.key:/etc/ssl/cache.key:ro \\\n" in unit
    assert "--tls_cert_file /etc/ssl/cache.pem --tls_key_file /etc/ssl/cache.key --min_tls_version 1.2\n" in unit
    assert "ExecStart=/usr/bin/podman run --rm --name provision-build-cache --network host --read-only \\\n" in unit
    assert "--user 990:990" in unit


def test_every_input_has_its_default_and_its_type() -> None:
    defaults = yaml.safe_load((ROLE / "defaults" / "main.yml").read_text())
    options = yaml.safe_load((ROLE / "meta" / "argument_specs.yml").read_text())["argument_specs"]["main"]["options"]
    assert defaults == {name: option["default"] for name, option in options.items()}
    assert Path(ROLE / "README.md").exists()
