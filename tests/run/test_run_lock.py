"""From a plan to its lock: what uv is asked, what its answers and failures become, what is kept and shipped."""

from __future__ import annotations

import hashlib
import os
import re
import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from run_values import plan, stack

from provision.errors import Interrupted, StepFailed
from provision.model.plan import Plan
from provision.run import lock

PYTORCH = "https://download.pytorch.org/whl/cpu"
PINNED = """
[tool.uv.sources]
torch = { index = "stack-0" }
"""


def torch(**request: Any) -> Plan:
    requirements = ("torch==2.13.0+cpu", "numpy<3")
    return plan(
        stack("pytorch", version="2.13.0", index="cpu", index_url=PYTORCH, requirements=requirements), **request
    )


def questions(asked: Plan, environ: dict[str, str] | None = None) -> list[lock.Question]:
    return list(lock.questions(asked, environ or {}))


@pytest.mark.parametrize(
    ("arch", "glibc", "platform"),
    [
        ("x86_64", "2.36", "x86_64-manylinux_2_36"),
        ("x86_64", "2.41", "x86_64-manylinux_2_40"),
        ("x86_64", "2.27", "x86_64-manylinux_2_17"),
        ("x86_64", "2.30", "x86_64-manylinux_2_28"),
        ("x86_64", None, "x86_64-manylinux_2_28"),
        ("x86_64", "2.12", "x86_64-manylinux_2_17"),
        ("aarch64", "2.35", "aarch64-manylinux_2_35"),
        ("riscv64", "2.39", "riscv64-unknown-linux"),
    ],
)
def test_the_target_decides_the_platform(arch: str, glibc: str | None, platform: str) -> None:
    (asked,) = questions(plan(arch=arch, glibc=glibc))
    assert asked.arguments[:4] == ("--python-version", "3.11", "--python-platform", platform)


def test_a_machine_that_uv_does_not_know_is_refused() -> None:
    with pytest.raises(StepFailed, match="cannot be resolved for ppc64le") as caught:
        questions(plan(arch="ppc64le"))
    assert caught.value.why == "uv resolves for x86_64, aarch64, riscv64"


def test_only_the_torch_family_may_come_from_torchs_index() -> None:
    (asked,) = questions(torch(requirements=("torchvision", "requests")))
    assert f'url = "{PYTORCH}"\nexplicit = true' in asked.pyproject
    assert asked.pyproject.endswith('torch = { index = "stack-0" }\ntorchvision = { index = "stack-0" }\n')
    assert 'dependencies = ["torch==2.13.0+cpu", "numpy<3", "torchvision", "requests"]' in asked.pyproject
    assert asked.options == (f"--extra-index-url {PYTORCH}",)


def test_a_plain_stack_asks_pypi_alone() -> None:
    (asked,) = questions(plan())
    assert "index" not in asked.pyproject
    assert asked.options == ()


def test_a_folder_that_holds_the_wheel_is_asked_before_the_index(tmp_path: Path) -> None:
    (tmp_path / "torch-2.13.0+cpu-cp311-cp311-manylinux_2_28_x86_64.whl").touch()
    first, second = questions(torch(find_links=(str(tmp_path),)))
    assert PINNED not in first.pyproject
    assert first.options == ()
    assert ("--find-links", str(tmp_path)) == first.arguments[-2:]
    assert PYTORCH in second.pyproject


def test_a_folder_without_the_wheel_leaves_the_pin(tmp_path: Path) -> None:
    (asked,) = questions(torch(find_links=(str(tmp_path),)))
    assert PYTORCH in asked.pyproject


def test_a_page_may_hold_a_local_version_only() -> None:
    page = "https://mirror.example/wheels.html"
    first, second = questions(torch(find_links=(page,)))
    assert (PYTORCH in first.pyproject, PYTORCH in second.pyproject) == (False, True)
    assert first.options == (f"--find-links {page}",)
    plain = plan(stack("pytorch", index_url=PYTORCH, requirements=("torch==2.13.0",)), find_links=(page,))
    (asked,) = questions(plain)
    assert PYTORCH in asked.pyproject


def test_the_lock_names_no_folder_of_this_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "wheels").mkdir()
    for asked in questions(plan(find_links=("wheels", f"file://{tmp_path}/more"))):
        assert str(tmp_path / "wheels") in asked.arguments
        assert not any(str(tmp_path) in option for option in asked.options)


def test_the_users_indexes_are_in_the_lock_without_credentials() -> None:
    environ = {"UV_DEFAULT_INDEX": "https://me:secret@mirror.example/simple", "UV_INDEX": "lab=https://lab.example/s"}
    asked = plan(indexes=("https://token@private.example/simple",))
    (found,) = questions(asked, environ)
    assert found.options == (
        "--index-url https://mirror.example/simple",
        "--extra-index-url https://lab.example/s",
        "--extra-index-url https://private.example/simple",
    )
    assert lock.target_environment(asked, environ, local=False) == {
        "UV_DEFAULT_INDEX": "https://me:secret@mirror.example/simple",
        "UV_INDEX": "lab=https://lab.example/s https://token@private.example/simple",
    }


def test_settings_that_name_a_path_stay_on_this_machine() -> None:
    environ = {
        "UV_CACHE_DIR": "/big/cache",
        "UV_INDEX": "file:///mirror/simple",
        "UV_HTTP_TIMEOUT": "9",
        "UV_PYTHON": "3",
    }
    assert lock.target_environment(plan(), environ, local=False) == {"UV_HTTP_TIMEOUT": "9"}
    assert set(lock.target_environment(plan(), environ, local=True)) == {"UV_CACHE_DIR", "UV_INDEX", "UV_HTTP_TIMEOUT"}


@given(st.text(alphabet=st.characters(exclude_categories=["Cs"]), max_size=40))
def test_requirements_are_data_in_the_project_file(text: str) -> None:
    try:
        import tomllib
    except ImportError:
        import tomli as tomllib  # type: ignore[no-redef]
    (asked,) = questions(plan(requirements=(text,)))
    assert tomllib.loads(asked.pyproject)["project"]["dependencies"] == ["tensorflow-cpu==2.21.0", text]


UNSATISFIABLE = "error: No solution found when resolving dependencies\n  cause: Because "


@pytest.mark.parametrize(
    ("stderr", "what", "hint"),
    [
        (
            "error: Failed to fetch: https://index.example/simple/x/\n  cause: error sending request for url\n"
            "  cause: client error (Connect)\n  cause: dns error\n",
            "the package index cannot be reached",
            "--find-links FOLDER",
        ),
        (
            "error: Failed to fetch: https://index.example/simple/x/\n  cause: error sending request for url\n"
            "  cause: invalid peer certificate: UnknownIssuer\n",
            "the package index's certificate is not trusted",
            "SSL_CERT_FILE",
        ),
        (
            UNSATISFIABLE + "x was not found in the cache and stack depends on x==1\n\nhint: Packages were unavailable "
            "because the network was disabled.",
            "the package index cannot be reached",
            "--find-links FOLDER",
        ),
        (
            UNSATISFIABLE + "there is no version of tensorflow-cpu==2.99.0 and stack depends on it",
            "a package or version is not in the index",
            "spelling",
        ),
        (
            UNSATISFIABLE + "tensorflow-cpu==2.21.0 has no wheels with a matching Python ABI tag (e.g., `cp314`)",
            "a package has no wheel for this host",
            "--python",
        ),
        (
            UNSATISFIABLE + "a==1 depends on numpy>=1.26.0 and stack depends on numpy<1.26, your requirements are "
            "unsatisfiable.",
            "the packages contradict each other",
            "--with",
        ),
        (
            "error: Failed to read `--find-links` directory: /none\n  cause: No such file or directory (os error 2)",
            "a folder given with --find-links cannot be read",
            "exists",
        ),
        ("error: Hash mismatch for `six==1.17.0`", "a package is not what its index says it is", "do not install"),
        (
            "error: Failed to initialize cache at `/home/me/.cache/uv`\n"
            "  cause: failed to create directory `/home/me/.cache/uv`: Permission denied (os error 13)",
            "uv cannot use its folders on this machine",
            "UV_CACHE_DIR=FOLDER (uv's cache alone) or XDG_CACHE_HOME=FOLDER",
        ),
        (
            "error: Could not acquire lock\n  cause: Could not create temporary file\n"
            '  cause: Read-only file system (os error 30) at path "/home/me/.cache/uv/.tmpSZakfP"',
            "uv cannot use its folders on this machine",
            "XDG_CACHE_HOME=FOLDER",
        ),
        (
            "error: Failed to initialize cache at `/home/me/.cache/uv`\n"
            "  cause: failed to write to file `/home/me/.cache/uv/.gitignore`: No space left on device (os error 28)",
            "a disk of this machine is full",
            "make room, or use a folder on another disk: UV_CACHE_DIR=FOLDER",
        ),
        ("error: something new", "the packages of the stack cannot be resolved", "uv's words above"),
        ("", "the packages of the stack cannot be resolved", "uv's words above"),
    ],
)
def test_each_failure_is_explained_in_uvs_words(stderr: str, what: str, hint: str) -> None:
    error = lock.explained(stderr)
    assert error.what == what
    assert hint in error.hint
    assert error.hint
    assert error.why
    assert "cause:" not in error.why
    assert not error.why.startswith("error")


def wheel(folder: Path, name: str, content: str) -> str:
    (folder / name).write_text(content)
    return f"--hash=sha256:{hashlib.sha256(content.encode()).hexdigest()}"


def test_wheels_are_shipped_when_the_lock_names_their_hash(tmp_path: Path) -> None:
    right = wheel(tmp_path, "torch-2.13.0+cpu-cp311-cp311-manylinux_2_28_x86_64.whl", "right")
    wheel(tmp_path, "torch-2.12.0+cpu-cp311-cp311-manylinux_2_28_x86_64.whl", "another version")
    other_python = wheel(tmp_path, "torch-2.13.0+cpu-cp312-cp312-manylinux_2_28_x86_64.whl", "another python")
    pure = wheel(tmp_path, "Some_Thing-1.0-py3-none-any.whl", "pure")
    text = f"torch==2.13.0+cpu \\\n    {right} \\\n    {other_python}\nsome-thing==1.0 \\\n    {pure}\n"
    asked = replace(torch(find_links=(str(tmp_path),)), lock=text)
    assert [file.name for file in lock.wheels_to_ship(asked, {})] == [
        "Some_Thing-1.0-py3-none-any.whl",
        "torch-2.13.0+cpu-cp311-cp311-manylinux_2_28_x86_64.whl",
    ]


def test_a_plan_with_a_lock_keeps_it(tmp_path: Path) -> None:
    kept = replace(plan(), lock="six==1.17.0\n")
    assert lock.locked(kept, environ={}, cache=tmp_path) is kept


def test_no_network_is_said_with_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("UV_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("UV_DEFAULT_INDEX", "http://127.0.0.1:9/simple")
    monkeypatch.setenv("UV_HTTP_RETRIES", "0")
    monkeypatch.setenv("UV_CACHE_DIR", str(tmp_path / "uv"))
    with pytest.raises(StepFailed) as caught:
        lock.locked(plan(), cache=tmp_path)
    assert caught.value.what == "the package index cannot be reached"
    assert "http://127.0.0.1:9/simple/tensorflow-cpu/" in caught.value.why
    assert "--find-links FOLDER" in caught.value.hint
    assert not list(tmp_path.glob("*.txt"))


def test_no_room_for_temporary_files_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setattr(lock.tempfile, "tempdir", str(tmp_path / "file"))
    with pytest.raises(StepFailed) as caught:
        lock.locked(plan(), cache=tmp_path)
    assert caught.value.what == "no temporary file can be written on this machine"
    assert str(tmp_path / "file") in caught.value.why
    assert caught.value.hint.endswith("or use another folder: TMPDIR=FOLDER")


def test_an_interrupt_ends_uv(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("UV_DEFAULT_INDEX", "http://192.0.2.1/simple")  # TEST-NET-1: nobody answers
    monkeypatch.setenv("UV_CACHE_DIR", str(tmp_path / "uv"))
    cancel = threading.Event()
    threading.Timer(0.3, cancel.set).start()
    begun = time.monotonic()
    with pytest.raises(Interrupted, match="interrupted"):
        lock.locked(plan(), cache=tmp_path, cancel=cancel)
    assert time.monotonic() - begun < 10


def pins(text: str) -> dict[str, str]:
    return dict(re.findall(r"^([a-z0-9-]+)==(\S+)", text, re.MULTILINE))


@pytest.mark.network
@pytest.mark.parametrize(
    ("requirements", "python", "found"),
    [
        (("tensorflow-cpu==2.21.0",), "3.11", {"tensorflow-cpu": "2.21.0"}),
        (("jax[cpu]==0.10.2",), "3.12", {"jax": "0.10.2", "jaxlib": "0.10.2"}),
        (("numpy<2.4",), "3.11", {}),
    ],
)
def test_real_packages_are_locked_with_hashes(
    requirements: tuple[str, ...],
    python: str,
    found: dict[str, str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked = plan(stack(requirements=requirements, python=python))
    text = lock.locked(asked, cache=tmp_path).lock
    assert text is not None
    pinned = pins(text)
    assert found.items() <= pinned.items()
    assert "numpy" in pinned
    assert "#" not in text
    assert all("--hash=sha256:" in block for block in re.split(r"^(?=\S)", text, flags=re.MULTILINE)[1:])
    monkeypatch.setattr(lock, "run_uv", None)  # a kept lock starts no uv
    assert lock.locked(asked, cache=tmp_path).lock == text


@pytest.mark.network
def test_a_kept_lock_is_asked_again_after_a_day(tmp_path: Path) -> None:
    asked = plan(stack(requirements=("six==1.17.0",)))
    lock.locked(asked, cache=tmp_path)
    (kept,) = tmp_path.glob("*.txt")
    kept.write_text("six==0\n")
    assert lock.locked(asked, cache=tmp_path).lock == "six==0\n"
    os.utime(kept, (time.time() - lock.KEEP_S - 1,) * 2)
    assert "six==1.17.0" in str(lock.locked(asked, cache=tmp_path).lock)


@pytest.mark.network
def test_conflicts_keep_uvs_explanation(tmp_path: Path) -> None:
    with pytest.raises(StepFailed) as caught:
        lock.locked(plan(requirements=("numpy<1.26",)), cache=tmp_path)
    assert caught.value.what == "the packages contradict each other"
    assert "tensorflow-cpu==2.21.0 depends on numpy>=1.26.0" in caught.value.why


@pytest.mark.network
def test_a_wheel_from_a_folder_is_locked_and_shipped(tmp_path: Path) -> None:
    folder = os.environ.get("PROVISION_TEST_FIND_LINKS")
    if not folder or not list(Path(folder).glob("torch-2.13.0+cpu-cp311-*x86_64.whl")):
        pytest.skip("PROVISION_TEST_FIND_LINKS names no folder with torch 2.13.0+cpu for Python 3.11")
    done = lock.locked(torch(find_links=(folder,)), cache=tmp_path)
    assert done.lock is not None
    assert pins(done.lock)["torch"] == "2.13.0+cpu"
    assert folder not in done.lock
    assert [file.name for file in lock.wheels_to_ship(done)] == [
        "torch-2.13.0+cpu-cp311-cp311-manylinux_2_28_x86_64.whl"
    ]
