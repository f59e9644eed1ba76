"""`provision image …` as it is typed: built, proved, tagged, rebuilt, pushed, pulled, verified, and what a failure
leaves."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from docker.errors import ImageNotFound
from harness.engine import Engine
from harness.fleet import REPOSITORY, Fleet
from harness.places import RUN
from harness.registry import registry

pytestmark = [pytest.mark.docker, pytest.mark.network, pytest.mark.slow]

NUMPY = ("--framework", "numpy==2.3.5", "--python", "3.11")


@dataclass
class Desk:
    """Where images are asked for: an engine, a base, a cache of its own."""

    engine: Engine
    base: str
    cache: Path
    tags: list[str] = field(default_factory=list)

    @property
    def env(self) -> dict[str, str]:
        return {**os.environ, **self.engine.environment(), "XDG_CACHE_HOME": str(self.cache), "COLUMNS": "200"}

    def tag(self, name: str) -> str:
        """A name that no other run of the tests has."""
        found = f"provision-tests-{RUN}/{name}"
        self.tags.append(found)
        return found

    def argv(self, *words: str) -> list[str]:
        return [sys.executable, "-m", "provision", "image", *words]

    def run(self, *words: str, code: int = 0) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            self.argv(*words), env=self.env, cwd=REPOSITORY, stdin=subprocess.DEVNULL, capture_output=True, text=True,
            timeout=900, check=False,
        )  # fmt: skip
        assert done.returncode == code, done.stdout + done.stderr
        return done

    def build(self, tag: str, *words: str, code: int = 0) -> dict[str, Any]:
        done = self.run("build", "--yes", "--json", "--base", self.base, "--tag", tag, *words, code=code)
        found: dict[str, Any] = json.loads(done.stdout)
        return found

    def layers(self, tag: str) -> list[str]:
        found: list[str] = self.engine.client.images.get(tag).attrs["RootFS"]["Layers"]
        return found

    def started(self, tag: str, *command: str) -> str:
        out: bytes = self.engine.client.containers.run(tag, list(command), remove=True, network_mode="none")
        return out.decode()

    def temporary(self) -> set[str]:
        """Temporary tags of any run: other tests build on this engine, too."""
        return {tag for image in self.engine.client.images.list("provision-build") for tag in image.tags}

    def containers(self) -> set[str]:
        """Likewise containers."""
        found = self.engine.client.api.containers(all=True, filters={"label": "io.provision.run"})
        return {each["Id"] for each in found}

    def left(self, look: Callable[[], set[str]], before: set[str]) -> set[str]:
        """What came after ``before`` and stays. That of other tests goes as their builds end."""
        found, deadline = look() - before, time.monotonic() + 180
        while found and time.monotonic() < deadline:
            time.sleep(1)
            found &= look()
        return found

    def tidy(self) -> None:
        for image in self.engine.client.images.list():
            for tag in image.tags:
                if any(tag == ours or tag.startswith(f"{ours}:") or ours in tag for ours in self.tags):
                    self.engine.client.images.remove(tag, force=True)


@pytest.fixture(scope="module")
def desk(engine: Engine, base_image: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Desk]:
    found = Desk(engine, base_image, tmp_path_factory.mktemp("cache"))
    yield found
    found.tidy()


def test_levels_share_all_but_the_last_layers_and_one_proof(desk: Desk) -> None:
    tag, before = desk.tag("levels"), desk.temporary()
    report = desk.build(tag, *NUMPY, "--cpu", "x86-64-v2,x86-64-v3,x86-64-v4")
    assert report["ok"], report
    assert report["builder"] in ("buildx", "buildkit", "classic")
    assert [image["tag"] for image in report["images"]] == [f"{tag}:v2", f"{tag}:v3", f"{tag}:v4"]
    assert {image["verdict"]["status"] for image in report["images"]} == {"passed"}
    assert [step["title"] for step in report["steps"]].count("Run the checks") == 1
    two, three, _ = (desk.layers(image["tag"]) for image in report["images"])
    shared = sum(one == other for one, other in zip(two, three, strict=True))
    assert len(two) - shared == 1, "only the file that the entry point reads"
    labels = desk.engine.client.images.get(f"{tag}:v3").labels
    assert labels["io.provision.frameworks"] == "numpy 2.3.5"
    assert labels["io.provision.cpu-level"] == "x86-64-v3"
    assert {"avx2", "fma", "bmi2"} <= set(labels["io.provision.cpu-flags"].split(","))
    assert json.loads(labels["io.provision.verdict"])["status"] == "passed"
    assert desk.started(f"{tag}:v2", "python3", "-c", "import numpy; print(numpy.__version__)") == "2.3.5\n"
    assert desk.left(desk.temporary, before) == set()
    listed = json.loads(desk.run("list", "--json").stdout)
    assert {f"{tag}:v2", f"{tag}:v3", f"{tag}:v4"} <= {row["tag"] for row in listed}


def test_a_change_in_the_last_layer_is_no_new_proof(desk: Desk, tmp_path: Path) -> None:
    app = tmp_path / "app"
    app.mkdir()
    tag = desk.tag("app:1")
    (app / "main.py").write_text("print('one')\n")
    first = desk.build(tag, *NUMPY, "--copy", str(app))["images"][0]
    (app / "main.py").write_text("print('two')\n")
    report = desk.build(tag, *NUMPY, "--copy", str(app))
    second = report["images"][0]
    assert desk.started(tag, "python3", "app/main.py") == "two\n"
    assert first["layers"][:-1] == second["layers"][:-1]
    assert first["layers"][-1] != second["layers"][-1]
    assert first["verdict"] == second["verdict"]
    proving = next(step for step in report["steps"] if step["title"] == "Run the checks")
    assert (proving["status"], proving["detail"]) == ("skipped", "the same environment passed the same checks before")
    with pytest.raises(ImageNotFound):
        desk.engine.client.images.get(first["id"])  # the tag's old image went with its name


def broken(folder: Path) -> Path:
    """A wheel that makes every later `import numpy` fail, as a package that does not fit does."""
    folder.mkdir(exist_ok=True)
    info = "spoilsport-1.0.dist-info"
    files = {
        "spoilsport.pth": "import sys; sys.modules['numpy'] = None\n",
        f"{info}/METADATA": "Metadata-Version: 2.1\nName: spoilsport\nVersion: 1.0\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    files[f"{info}/RECORD"] = "".join(f"{name},,\n" for name in files) + f"{info}/RECORD,,\n"
    with zipfile.ZipFile(folder / "spoilsport-1.0-py3-none-any.whl", "w") as wheel:
        for name, text in files.items():
            wheel.writestr(name, text)
    return folder


def test_what_fails_its_checks_gets_no_tag_and_can_be_looked_into(desk: Desk, tmp_path: Path) -> None:
    tag, temporary = desk.tag("spoilt:1"), desk.temporary()
    before = desk.build(tag, *NUMPY)["images"][0]["id"]
    report = desk.build(tag, *NUMPY, "--with", "spoilsport", "--find-links", str(broken(tmp_path / "w")), code=6)
    (image,) = report["images"]
    assert image["id"] is None
    assert desk.engine.client.images.get(tag).id == before, "the tag stays with what passed"
    (failure,) = image["failures"]
    assert "so it got no tag" in failure["what"]
    assert "framework_import:numpy" in failure["why"]
    kept = re.search(r"docker run --rm -it --entrypoint /bin/sh (provision-failed:\S+); ", failure["hint"])
    assert kept is not None, failure["hint"]
    assert desk.engine.client.images.get(kept[1])
    desk.engine.client.images.remove(kept[1])
    assert desk.left(desk.temporary, temporary) == set()


def test_a_failed_push_takes_nothing_back(desk: Desk) -> None:
    tag = "127.0.0.1:9/" + desk.tag("np:1")  # nobody listens there
    words = ("build", "--yes", "--base", desk.base, "--tag", tag, *NUMPY, "--push")
    said = desk.run(*words, code=5).stdout
    assert "Connection refused" in said or "connection refused" in said, said
    assert re.search(r"verdict: proved to work: .*; what was to be done with it failed\n", said), said
    assert f"undo: docker rmi {tag}" in said
    assert desk.engine.client.images.get(tag)


def test_another_tag_of_the_same_environment_is_no_new_proof(desk: Desk) -> None:
    first = desk.build(desk.tag("same:1"), *NUMPY, "--cpu", "v3")["images"][0]
    report = desk.build(desk.tag("other:2"), *NUMPY, "--cpu", "v2")
    second = report["images"][0]
    assert first["layers"][: len(second["layers"]) - 2] == second["layers"][:-2]
    proving = next(step for step in report["steps"] if step["title"] == "Run the checks")
    assert proving["status"] == "skipped"


def test_ctrl_c_leaves_nothing(desk: Desk) -> None:
    tag, before, containers = desk.tag("interrupted:1"), desk.temporary(), desk.containers()
    argv = desk.argv("build", "--yes", "--base", desk.base, "--tag", tag, *NUMPY, "--no-cache")
    with subprocess.Popen(
        argv, env=desk.env, cwd=REPOSITORY, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stderr is not None
        for line in process.stderr:
            if line.endswith("Build the environment\n"):
                break
        time.sleep(2.0)  # into its steps, which take about ten
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)
    assert process.returncode == 130, out + err
    assert "interrupted" in out + err
    assert desk.left(desk.temporary, before) == set()
    assert not [image for image in desk.engine.client.images.list() if tag in image.tags]
    assert desk.left(desk.containers, containers) == set()


def test_an_inventory_says_which_host_takes_which_tag(desk: Desk, session_fleet: Callable[..., Fleet]) -> None:
    hosts = session_fleet(2)
    tag = desk.tag("fleet:1")
    words = ("-i", str(hosts.inventory()), "--base", desk.base, "--tag", tag, *NUMPY, "--dry-run")
    done = hosts.provision("image", "build", *words, **desk.engine.environment())
    assert done.returncode == 0, done.stdout + done.stderr
    for host in hosts.hosts:
        assert re.search(rf"{host.name}.*{re.escape(tag)}|{re.escape(tag)}.*{host.name}", done.stdout), done.stdout


@pytest.mark.frameworks
def test_tensorflow_for_two_levels_goes_through_a_registry(desk: Desk, shared: Path, tmp_path: Path) -> None:
    with registry(tmp_path / "registry") as server:
        tag = f"{server.address}/{desk.tag('tf')}"
        report = desk.build(
            tag, "--framework", "tensorflow==2.21.0", "--cpu", "generic,x86-64-v3", "--minimal", "--push",
            "--data", str(shared / "data" / "mnist"), "--sbom", str(tmp_path / "bill.json"),
        )  # fmt: skip
        assert report["ok"], report
        for image in report["images"]:
            assert image["pushed"].startswith(f"{tag}@sha256:"), image["pushed"]
            assert (image["smoke"]["dataset"], image["smoke"]["device"]) == ("mnist", "cpu")
            assert image["smoke"]["accuracy"] > 0.97
            assert json.loads(Path(image["sbom"]).read_text())["bomFormat"] == "CycloneDX"
            assert {"quick_ops:tensorflow", "mnist:tensorflow"} <= set(image["verdict"]["checks"])
        pulled = report["images"][1]
        for image in report["images"]:
            desk.engine.client.images.remove(image["tag"])
        desk.engine.client.images.pull(pulled["pushed"])
        verified = json.loads(desk.run("verify", pulled["pushed"], "--json").stdout)
        assert verified["ok"], verified
        assert "mnist:tensorflow" in {check["id"] for check in verified["checks"] if check["status"] == "pass"}
        desk.engine.client.images.remove(pulled["pushed"], force=True)
