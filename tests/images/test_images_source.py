"""Wheels in a builder stage: its Dockerfile, the files that it gets, and how a failure comes out of it."""

from __future__ import annotations

import base64
import importlib.util
import json
import re
import zipfile
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from harness.trees import tensorflow_tree
from source_plans import BAZEL_PACKAGES, VERSION, debian, source_plan

from provision import assets
from provision.errors import StepFailed, UsageError, VerificationFailed
from provision.model.image import ImagePlan
from provision.render.dockerfile import environment_dockerfile
from provision.render.dockerfile_wheels import builder_packages, runtime_packages, wheels_dockerfile
from provision.run.build_settings import BuildSettings
from provision.run.images import wheels_context as context
from provision.run.images.context import ContextFile, templates
from provision.run.images.wheels import Heard, _explained, without_packages
from provision.run.source_archive import Archive
from provision.run.uv import Uv

PASSWORD = "s3cret-of-the-lab"  # noqa: S105 - nobody's
SETTINGS = BuildSettings(
    remote_cache="http://cache:9090", remote_cache_user="me", remote_cache_password=PASSWORD, jobs=3
)
INDEX = {"UV_DEFAULT_INDEX": f"https://me:{PASSWORD}@index/simple", "UV_HTTP_TIMEOUT": "60"}


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tensorflow_tree(tmp_path_factory.mktemp("source") / "tensorflow", VERSION)


@pytest.fixture(scope="module")
def tensorflow(tree: Path) -> ImagePlan:
    return source_plan(f"tensorflow=={VERSION}", tree=tree, compiler="gcc-12")


@pytest.fixture
def script() -> ModuleType:
    """dockerfiles/files/build_wheel.py."""
    path = assets.folder("dockerfiles") / "files" / "build_wheel.py"
    spec = importlib.util.spec_from_file_location("build_wheel", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def dockerfile(plan: ImagePlan, *, mounts: bool = True, **more: Any) -> str:
    return wheels_dockerfile(plan, templates(), mounts=mounts, **more)


def files(plan: ImagePlan, settings: BuildSettings = SETTINGS, **more: Any) -> dict[str, ContextFile]:
    archive = Archive(
        path=Path("/nowhere/tensorflow-0123.tar.gz"), sha256="ab" * 32, framework="tensorflow", version=VERSION,
        bazel=None,
    )  # fmt: skip
    found = context.wheels_context(
        plan, settings=settings, uv=Uv(path=Path("/nowhere/uv"), version="0.13.9", sha256="00" * 32),
        uv_environment=INDEX, archives={plan.plan.builds[0].source: archive}, answer=True, **more,
    )  # fmt: skip
    return {file.name: file for file in found}


def params(plan: ImagePlan) -> dict[str, Any]:
    content = files(plan)["build/params.json"].content
    assert isinstance(content, bytes)
    return dict(json.loads(content))


# ── the Dockerfile ────────────────────────────────────────────────────────────────────────────────────────────────


def test_the_stage_installs_the_planned_compiler_and_what_the_recipe_needs(tensorflow: ImagePlan) -> None:
    (build,) = tensorflow.plan.builds
    assert build.compiler is not None and build.compiler.path == "/usr/bin/gcc-12"
    assert {"gcc-12", "g++-12", "patchelf", "unzip", "git", "python3-dev"} <= set(builder_packages(tensorflow))
    assert "clang-16" not in builder_packages(tensorflow)
    assert set(BAZEL_PACKAGES) <= set(builder_packages(tensorflow, BAZEL_PACKAGES))


def test_a_header_that_a_build_needs_comes_with_its_package() -> None:
    plan = source_plan("numpy", blas="openblas")
    assert "cblas.h" in plan.plan.builds[0].needs.headers
    assert {"libopenblas-dev", "pkg-config"} <= set(builder_packages(plan))
    # the wheel names libopenblas.so.0 of the distribution, and so the image needs it too
    assert "libopenblas0" in runtime_packages(plan)
    assert " libopenblas0 " in environment_dockerfile(plan, templates(), mounts=True)


def test_published_wheels_need_no_library_of_the_distribution(tensorflow: ImagePlan) -> None:
    assert runtime_packages(replace(tensorflow, plan=replace(tensorflow.plan, builds=()))) == ()


def test_a_compiler_that_the_build_brings_is_not_installed() -> None:
    plan = source_plan("tensorflow==2.21.0")
    assert plan.plan.builds[0].compiler is None
    assert not [name for name in builder_packages(plan) if name.startswith(("gcc", "g++", "clang"))]


def test_only_the_wheels_leave_the_builder(tensorflow: ImagePlan) -> None:
    text = dockerfile(tensorflow)
    assert re.findall(r"^FROM .*", text, re.MULTILINE) == ["FROM debian:bookworm AS builder", "FROM scratch AS wheels"]
    assert text.rstrip().endswith("COPY --from=builder /opt/provision-build/out /wheels")
    pinned = replace(tensorflow, base=debian("sha256:" + "1" * 64))
    assert f"FROM debian:bookworm@sha256:{'1' * 64} AS builder" in dockerfile(pinned)


def test_the_classic_builder_gets_no_mounts(tensorflow: ImagePlan) -> None:
    with_mounts, plain = dockerfile(tensorflow), dockerfile(tensorflow, mounts=False)
    assert "--mount=type=cache,id=provision-build-debian-12,target=/var/cache/provision,sharing=locked" in with_mounts
    assert "--mount" not in plain
    assert 'RUN ["python3", "/opt/provision-build/build_wheel.py"]' in plain
    # a list in a shell command: each line but its last goes on
    packages = plain[plain.index("apt-get install") : plain.index("COPY build/uv")].rstrip().splitlines()
    assert all(line.endswith("\\") for line in packages[:-1]) and not packages[-1].endswith("\\")


@pytest.mark.parametrize("bad", ["gawk; rm -rf /", "-o=Dpkg::Options", "Gawk", "", "a\nRUN x", "$(id)"])
def test_a_package_is_a_name_and_nothing_for_a_shell(tensorflow: ImagePlan, bad: str) -> None:
    with pytest.raises(UsageError) as caught:
        dockerfile(tensorflow, packages=(bad,))
    assert caught.value.what == f"{bad!r} is no package of a distribution"
    assert caught.value.hint == "give each one by itself: --builder-package libssl-dev --builder-package gawk"


def test_a_path_with_a_line_end_stays_in_its_comment(tensorflow: ImagePlan) -> None:
    (build,) = tensorflow.plan.builds
    odd = replace(build, source=replace(build.source, location="/home/me/a\nRUN curl evil\n"))
    text = dockerfile(replace(tensorflow, plan=replace(tensorflow.plan, builds=(odd,))))
    assert "\nRUN curl" not in text
    assert "# tensorflow 2.15.1 from /home/me/a?RUN curl evil? with GCC 12.2.0 for x86-64-v2: -m" in text


# ── the files ─────────────────────────────────────────────────────────────────────────────────────────────────────


def test_the_recipe_is_the_one_of_boxes_and_only_what_it_needs(tensorflow: ImagePlan) -> None:
    names = {name.removeprefix("build/ansible/module_utils/") for name in files(tensorflow)}
    assert {"provision_build.py", "provision_bazel.py", "provision_build_uv.py", "provision_failure.py"} <= names
    assert not {"provision_bench.py", "provision_verification.py", "provision_switch.py"} & names
    assert {"build/ansible/__init__.py", "build/uv", "build/sources/abababababababab/tensorflow-0123.tar.gz"} <= set(
        files(tensorflow)
    )


def test_the_build_is_for_another_machine_with_the_compiler_that_is_there(tensorflow: ImagePlan, tree: Path) -> None:
    (entry,) = params(tensorflow)["builds"]
    build = entry["build"]
    # the engine's CPU need not have the flags, and a point release of the distribution brings a newer GCC 12
    assert build["runs_here"] is False
    assert (build["compiler"]["path"], build["compiler"]["version"]) == ("/usr/bin/gcc-12", "")
    allowed = ",".join(tensorflow.plan.builds[0].allow)
    assert entry["audit"] == ["--framework", "tensorflow", "--expect", "", "--allow", allowed]
    assert entry["archive"] == "sources/abababababababab/tensorflow-0123.tar.gz"
    assert str(tree) not in json.dumps(params(tensorflow)), "another folder would build anew"
    assert build["environment"]["SOURCE_DATE_EPOCH"] == str(tensorflow.epoch)


def test_no_credential_is_in_a_file_that_becomes_a_layer(tensorflow: ImagePlan) -> None:
    texts = {name: file.content for name, file in files(tensorflow).items() if isinstance(file.content, bytes)}
    assert not [name for name, content in texts.items() if PASSWORD.encode() in content]
    settings, environment = (params(tensorflow)[name] for name in ("settings", "uv_environment"))
    assert settings["remote_cache"] == "http://cache:9090" and settings["jobs"] == 3
    assert environment == {"UV_HTTP_TIMEOUT": "60"}
    secret = context.credentials(SETTINGS, INDEX)
    assert secret is not None and secret.name == "build/credentials.json" and secret.mode == 0o600
    assert isinstance(secret.content, bytes)
    assert json.loads(secret.content) == {
        "settings": {"remote_cache_user": "me", "remote_cache_password": PASSWORD},
        "uv_environment": {"UV_DEFAULT_INDEX": INDEX["UV_DEFAULT_INDEX"]},
    }


def test_credentials_are_bound_or_given_as_a_secret_and_never_copied(tensorflow: ImagePlan) -> None:
    bound, given = dockerfile(tensorflow, credentials="context"), dockerfile(tensorflow)
    assert "--mount=type=bind,source=build/credentials.json,target=/run/secrets/provision-build" in bound
    assert "--mount=type=secret,id=provision-build,target=/run/secrets/provision-build,required=false" in given
    assert "/run/secrets" not in dockerfile(tensorflow, credentials="none")
    for text in (bound, given):
        assert not re.search(r"^(COPY|ADD|ENV|ARG).*credentials", text, re.MULTILINE)


def test_the_classic_builder_is_refused_credentials() -> None:
    context.refuse_credentials(context.credentials(BuildSettings(remote_cache="http://cache:9090"), {}))
    with pytest.raises(UsageError) as caught:
        context.refuse_credentials(context.credentials(SETTINGS, {}))
    assert caught.value.what == "the classic builder cannot keep a secret"
    assert "would\nstay in a layer of the engine" in caught.value.why
    assert "--builder buildx or --builder buildkit" in caught.value.hint
    assert PASSWORD not in str(caught.value)


# ── what is said ──────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_day_of_compiling_is_told_in_some_thousand_lines(
    script: ModuleType, capsys: pytest.CaptureFixture[str]
) -> None:
    now = [0.0]
    lines = script.Lines(clock=lambda: now[0])
    lines.say("preflight")
    lines.say("unpacking the source")
    for second in range(0, 86_400, 1):
        now[0] = float(second)
        about = {"done": second, "total": 90_000, "cached": 5, "running": 4, "elapsed_s": second, "remaining_s": 9.0}
        lines.say(f"Compiling file{second}.cc", build={**about, "guess": second < 60})
    said = capsys.readouterr().out.splitlines()
    assert said[:2] == ["preflight", "unpacking the source"]
    assert "[2 / 90000] Compiling file2.cc (5 from a cache, 4 running, 2 s)" in said
    assert said[-1].endswith(" s, 9 s to go)")
    assert 1000 < len(said) < 6000
    assert sum(map(len, said)) < 500_000, "BuildKit cuts a step's log at 1 MiB"


def failed(script: ModuleType, answer: dict[str, Any], capsys: pytest.CaptureFixture[str]) -> list[str]:
    assert script.failed([{"builds": []}, answer], {"answer": True}) == 1
    return capsys.readouterr().err.splitlines()


ANSWER = {
    "failed": True, "kind": "build", "what": "tensorflow 2.15.1 could not be built", "why": "//tensorflow:mnist",
    "msg": "tensorflow 2.15.1 could not be built\n  //tensorflow:mnist", "log": "/nowhere/log.txt",
    "log_tail": "gcc: fatal error: Killed signal terminated program cc1plus\n" * 40,
}  # fmt: skip


def test_the_answer_of_a_failed_build_comes_out_of_the_steps_log(
    script: ModuleType, capsys: pytest.CaptureFixture[str]
) -> None:
    said = failed(script, ANSWER, capsys)
    assert said[-2:] == ["error: tensorflow 2.15.1 could not be built", "  //tensorflow:mnist"]
    heard = Heard()
    for line in reversed(said):  # two streams: their order is nobody's promise
        heard.line(f"#11 18.60 {line}")
    assert heard.answers() == [{"builds": []}, ANSWER]
    assert not [line for line in heard.lines if "provision-answer" in line]


def test_an_answer_with_a_part_missing_is_none(script: ModuleType, capsys: pytest.CaptureFixture[str]) -> None:
    said = failed(script, ANSWER, capsys)
    heard = Heard()
    for line in said[1:]:
        heard.line(line)
    assert heard.answers() == []
    odd = Heard()
    odd.line("provision-answer:1/1:" + base64.b64encode(b"not JSON").decode())
    assert odd.answers() == []


def test_without_somebody_who_listens_only_people_are_told(
    script: ModuleType, capsys: pytest.CaptureFixture[str]
) -> None:
    script.failed([ANSWER], {"answer": False})
    said = capsys.readouterr().err
    assert "provision-answer" not in said
    assert said.startswith("gcc: fatal error: Killed signal") and "error: tensorflow 2.15.1 could not be built" in said


def test_a_failed_build_has_its_known_cause_and_its_log_lies_here(
    tensorflow: ImagePlan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    heard = Heard()
    heard.line("compiling")
    text = base64.b64encode(json.dumps([ANSWER]).encode()).decode()
    heard.line(f"provision-answer:1/1:{text}")
    found = _explained(tensorflow.plan, StepFailed(what="the step failed"), heard)
    assert found.what == "tensorflow 2.15.1 could not be built"
    assert "known cause: the machine ran out of memory" in found.why
    assert "--jobs" in found.hint
    (log,) = re.findall(r"the whole log: (\S+)", found.why)
    assert Path(log).read_text(encoding="utf-8") == "compiling\n"
    assert Path(log).is_relative_to(tmp_path)


def test_a_wheel_with_other_instructions_is_none_that_was_verified(tensorflow: ImagePlan) -> None:
    told = {"status": "fail", "what": "tensorflow lacks instructions", "why": "sse4_2: none", "hint": "look at --copt"}
    heard = Heard()
    text = base64.b64encode(json.dumps([{"failed": True, "kind": "audit", **told}]).encode()).decode()
    heard.line(f"provision-answer:1/1:{text}")
    found = _explained(tensorflow.plan, StepFailed(what="the step failed"), heard)
    assert isinstance(found, VerificationFailed)
    assert (found.what, found.why, found.hint) == ("tensorflow lacks instructions", "sse4_2: none", "look at --copt")


def test_the_audit_looks_at_what_is_in_the_wheel(script: ModuleType, tmp_path: Path) -> None:
    checks = assets.folder("checks")
    wheel = tmp_path / "it-1-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as made:
        made.writestr("it.py", "")
    told = script.audited(checks / "isa_audit.py", wheel, ["--framework", "numpy", "--expect", "", "--allow", "avx2"])
    assert told["status"] == "skip" and told["what"] == "numpy has no shared libraries"
    odd = script.audited(tmp_path / "nowhere.py", wheel, [])
    assert odd["status"] == "skip" and "No such file or directory" in odd["why"]


def test_where_the_recipe_said_nothing_the_builders_failure_stays(tensorflow: ImagePlan) -> None:
    error = StepFailed(what="step builder 2/7 failed", why="E: Unable to locate package gcc-99")
    heard = Heard()
    heard.line("E: Unable to locate package gcc-99")
    assert _explained(tensorflow.plan, error, heard) is error


# ── the rest's lock ───────────────────────────────────────────────────────────────────────────────────────────────

LOCK = """--index-url https://index/simple
keras==2.15.0 \\
    --hash=sha256:aa \\
    --hash=sha256:bb
tensorflow-cpu==2.15.1 \\
    --hash=sha256:cc
tensorflow-estimator==2.15.0 \\
    --hash=sha256:dd
"""


def test_a_lock_loses_what_is_built_and_nothing_else() -> None:
    kept = without_packages(LOCK, {"tensorflow", "Tensorflow_CPU"})
    assert kept == LOCK.replace("tensorflow-cpu==2.15.1 \\\n    --hash=sha256:cc\n", "")
