"""Known failures of images: each row is shown by its tools' own words, and the reader is told what to do."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from provision.catalog.image_failures import image_failures, read_image_failures
from provision.detect.build_failures import diagnose
from provision.errors import CatalogBroken
from provision.run.images.build_steps import Step, shortened
from provision.run.images.context import ContextFile
from provision.run.images.tar_stream import TarStream

WORDS = {
    "disk-full": "write /var/lib/docker/overlay2/x/diff/large: no space left on device",
    "python-download": "error: Failed to install cpython-3.15.2-linux-x86_64-gnu",
    "out-of-memory": "The command '/bin/sh -c ninja' returned a non-zero code: 137",
    "other-architecture": "standard_init_linux.go:228: exec user process caused: exec format error",
    "needs-buildkit": "the --mount option requires BuildKit. Refer to https://docs.docker.com/go/buildkit/ to learn",
    "no-session": "failed to solve with frontend dockerfile.v0: failed to load cache key: no active sessions",
    "cache-export": "ERROR: Cache export is not supported for the docker driver.",
    "https-to-http": 'Get "https://r:5000/v2/": http: server gave HTTP response to HTTPS client',
    "registry-certificate": 'Get "https://r/v2/": x509: certificate signed by unknown authority',
    "registry-login": "unauthorized: authentication required",
    "credential-helper": "Credentials store error: StoreError('docker-credential-x not installed')",
    "registry-denied": "denied: requested access to the resource is denied",
    "registry-readonly": "error parsing HTTP 405 response body: invalid character 'M': \"Method not allowed\\n\"",
    "image-unknown": "manifest for debian:nope not found: manifest unknown: manifest unknown",
    "rate-limit": "toomanyrequests: You have reached your pull rate limit.",
    "name-resolution": "W: Failed to fetch http://mirror.example/x  Temporary failure resolving 'mirror.example'",
    "certificate": "ssl.SSLCertVerificationError: [SSL: CERTIFICATE_VERIFY_FAILED] certificate verify failed",
    "apt-lock": "E: Could not get lock /var/lib/apt/lists/lock. It is held by process 7 (apt-get)",
    "apt-release": "E: The repository 'http://mirror.example buster Release' does not have a Release file.",
    "apt-not-found": "E: Failed to fetch http://mirror.example/p.deb  404  Not Found [IP: 1.2.3.4 80]",
    "apt-unknown": "E: Unable to locate package tini2",
    "hash-mismatch": "error: Hash mismatch for `numpy==2.4.6`",
    "no-shell": 'exec: "/bin/sh": stat /bin/sh: no such file or directory: unknown',
    "not-in-context": 'failed to compute cache key: "/x" not found: not found',
    "unreachable": "dial tcp 10.0.0.1:5000: connect: connection refused",
}


@pytest.mark.parametrize("row", image_failures(), ids=lambda row: row.id)
def test_each_row_is_shown_by_its_words(row: object) -> None:
    name = row.id  # type: ignore[attr-defined]
    found = diagnose(f"before\n{WORDS[name]}\nafter", image_failures())
    assert found[0].id == name, [each.id for each in found]
    assert found[0].cause
    assert found[0].remedy


@pytest.mark.parametrize(
    "log",
    [
        "Step 3/7 : RUN apt-get install space-invaders",
        "Collecting certifi (checks certificates)",
        "exit code: 1",
        "downloading 404 packages",
        "The command '/bin/sh -c x' returned a non-zero code: 1",
    ],
)
def test_what_is_merely_near_is_no_known_failure(log: str) -> None:
    assert diagnose(log, image_failures()) == ()


def test_a_broken_row_is_named(tmp_path: Path) -> None:
    (tmp_path / "image_failures.toml").write_text('[[failure]]\nid = "x"\ncause = "c"\nremedy = "r"\nsource = []\n')
    with pytest.raises(CatalogBroken) as failure:
        read_image_failures(tmp_path)
    assert "image_failures.toml" in failure.value.what + failure.value.why + str(failure.value.details)


def test_a_context_is_announced_with_its_size_and_equal_files_make_equal_bytes(tmp_path: Path) -> None:
    large = tmp_path / "large"
    large.write_bytes(b"x" * 3_000_000)
    long_name = "folder/" * 30 + "name"
    files = (
        ContextFile(name="a", content=b"a", mode=0o755, mtime=1_600_000_000),
        ContextFile(name=long_name, content=b""),
        ContextFile(name="large", content=large),
    )
    sent: list[tuple[int, int]] = []
    first = TarStream("FROM scratch\n", files, cancel=threading.Event(), on_sent=lambda *each: sent.append(each))
    data = b"".join(first)
    assert first.len == len(data)
    assert data == b"".join(TarStream("FROM scratch\n", files, cancel=threading.Event()))
    assert [total for _, total in sent] == [len(data)] * 3
    (tmp_path / "t.tar").write_bytes(data)
    import tarfile

    with tarfile.open(tmp_path / "t.tar") as tar:
        assert tar.getnames() == ["Dockerfile", "a", long_name, "large"]
        assert [(each.mode, each.mtime, each.uid) for each in tar][1] == (0o755, 1_600_000_000, 0)
        assert not any(each.pax_headers for each in tar.getmembers())


def test_a_file_that_shrinks_while_it_is_sent(tmp_path: Path) -> None:
    path = tmp_path / "f"
    path.write_bytes(b"x" * 100)
    stream = TarStream("FROM scratch\n", (ContextFile(name="f", content=path),), cancel=threading.Event())
    path.write_bytes(b"")
    with pytest.raises(OSError, match="became shorter while it was sent"):
        list(stream)


def test_a_long_instruction_is_one_short_line() -> None:
    assert shortened("RUN a \\\n   && b", 20) == "RUN a \\ && b"
    assert shortened("x" * 50, 10) == "x" * 9 + "…"


def test_the_title_of_a_step_is_what_it_does() -> None:
    step = Step(name="[environment 4/7] RUN --mount=type=cache,target=/c,id=uv --mount=type=bind,target=/w uv pip sync")
    assert step.title == "[environment 4/7] RUN uv pip sync"
