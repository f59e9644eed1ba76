"""How uv is called, and what its output and its errors become."""

from __future__ import annotations

from pathlib import Path

import pytest
from ansible.module_utils import provision_uv as uv
from hypothesis import given
from hypothesis import strategies as st

PAD = " " * 60
FRAME = "\x1b[2K\x1b[1A\r"


def test_what_uv_draws_becomes_text_and_numbers() -> None:
    watch = uv.Watch("compiling bytecode")
    seen = []
    # each line is something that uv 0.13 wrote at once on a terminal
    for number, written in enumerate(
        [
            "Using Python 3.11.7 environment at: v1\r\n",
            f"⠋ Resolving dependencies...{PAD}\r\x1b[2K",
            "Resolved 14 packages in 129ms\r\n",
            f"{FRAME}numpy                ------------------------------ 512.00 KiB/16.00 MiB{PAD}",
            f"{FRAME}numpy                ------------------------------ 4.00 MiB/16.00 MiB{PAD}"
            "keras                ------------------------------ 1.0",
            f"0 MiB/2.00 MiB{PAD}",
            f"{FRAME}numpy                ------------------------------ 8.00 MiB/16.00 MiB{PAD}",
            "\r\x1b[2K",
            "Prepared 14 packages in 1.28s\r\n",
            f"░░░░░░░░░░░░░░░░░░░░ [0/0] Installing wheels...{PAD}",
            f"\r\x1b[2K███████████████░░░░░ [12/14] numpy==2.4.6{PAD}",
            "\r\x1b[2KInstalled 14 packages in 79ms\r\n",
        ]
    ):
        watch.hear(written, number * 1.0)
        seen.append((watch.text, watch.done_mib, watch.total_mib))
    assert seen == [
        ("", None, None),
        ("", None, None),
        ("downloading", None, None),
        ("downloading numpy", 0.5, 16.0),
        ("downloading numpy", 4.0, 16.0),
        ("downloading numpy, keras", 5.0, 18.0),
        ("downloading numpy, keras", 9.0, 18.0),
        ("downloading numpy, keras", 10.0, 18.0),
        ("installing", None, None),
        ("installing 0/0 packages", None, None),
        ("installing 12/14 packages", None, None),
        ("compiling bytecode", None, None),
    ]


def test_a_bar_that_is_no_longer_drawn_is_a_wheel_that_is_here() -> None:
    watch = uv.Watch("")
    watch.hear("aa   ------------------------------ 1.00 MiB/2.00 MiB  bb   ----- 1.00 MiB/4.00 MiB ", 0.0)
    watch.hear("bb   ------------------------------ 2.00 MiB/4.00 MiB ", 2.0)
    assert (watch.text, watch.done_mib, watch.total_mib) == ("downloading bb", 4.0, 6.0)


def test_many_wheels_are_the_two_largest_and_a_number() -> None:
    watch = uv.Watch("")
    watch.hear("".join(f"p{size}  ------------ 0 B/{size}.00 KiB   " for size in (1, 5, 3, 9)), 0.0)
    assert watch.text == "downloading p9, p5 and 2 more"


SAID = "\x1b[?25l⠙ Resolving dependencies...     error: Failed to fetch: `https://x/`\r\n  cause: dns error\r\n\x1b[0m"


def test_what_stays_of_a_terminal_is_what_was_said() -> None:
    assert uv.plain(SAID) == "error: Failed to fetch: `https://x/`\n  cause: dns error"


@given(st.text(alphabet=st.sampled_from("ab1.- /KMiB\x1b[2K\r\n█⠙[]"), max_size=400), st.integers(1, 40))
def test_no_output_of_uv_can_stop_us(text: str, size: int) -> None:
    watch = uv.Watch("")
    for start in range(0, len(text), size):
        watch.hear(text[start : start + size], float(start))
    uv.explained("make it", 1, uv.plain(watch.raw), "3.12")


ERRORS = [
    (
        "disk_full",
        "error: Failed to download `numpy==2.4.6`\n  cause: failed to write: No space left on device (os error 28)",
    ),
    ("disk_full", "error: Failed to install: demo\n  cause: Disk quota exceeded (os error 122)"),
    ("read_only", "error: failed to create directory `/x`: Read-only file system (os error 30)"),
    ("permission", "error: Failed to initialize cache at `/root/.cache`\n  cause: Permission denied (os error 13)"),
    ("hash_mismatch", "error: Failed to download `six==1.17.0`\n  cause: Hash mismatch for `six==1.17.0`"),
    ("python_missing", "error: No interpreter found for Python 3.99 in managed installations or search path"),
    (
        "python_download",
        "error: Failed to download `https://github.com/astral-sh/python-build-standalone/releases/download/20261110/"
        "cpython-3.13.18.tar.gz`\n  cause: dns error",
    ),
    (
        "tls",
        "error: Failed to fetch: `https://x/`\n  cause: invalid peer certificate: UnknownIssuer",
    ),
    (
        "index_auth",
        "error: Failed to fetch: `https://x/`\n  cause: HTTP status client error (401 Unauthorized) for url",
    ),
    (
        "network",
        "error: Failed to fetch: `https://x/`\n  cause: dns error\n  cause: failed to lookup address information",
    ),
    (
        "network",
        "error: Failed to download `idna==3.11`\n  cause: Network connectivity is disabled, but the requested data",
    ),
    (
        "no_such_package",
        "error: No solution found when resolving dependencies\n  cause: Because there is no version of six",
    ),
    ("uv_failed", "error: something new"),
]


@pytest.mark.parametrize(("kind", "said"), ERRORS)
def test_errors_of_uv(kind: str, said: str) -> None:
    stop = uv.explained("make environment lab", 2, f"Using Python 3.11.7\n{said}", "3.12")
    assert stop.kind == kind
    assert stop.what.startswith("could not make environment lab: ")
    assert stop.why == said
    assert "{" not in stop.what + stop.hint


def test_a_uv_that_the_kernel_killed() -> None:
    stop = uv.explained("make it", -9, "Downloading x", "3.12")
    assert (stop.kind, stop.what) == ("killed", "could not make it: uv was killed")
    assert "memory ran out" in stop.why


def test_which_variables_reach_uv() -> None:
    ambient = {
        "PATH": "/bin", "COLUMNS": "80", "UV_PYTHON": "/usr/bin/python3", "UV_TARGET": "/x", "UV_NO_VERIFY_HASHES": "1",
        "UV_INDEX_CORP_PASSWORD": "pw", "UV_PYTHON_INSTALL_MIRROR": "https://m", "VIRTUAL_ENV": "/v",
        "PYTHONPATH": "/p", "HTTPS_PROXY": "http://proxy", "UV_CACHE_DIR": "/c",
    }  # fmt: skip
    seen = uv.variables(ambient, {"SSL_CERT_FILE": "/ca.crt", "UV_LINK_MODE": "copy"}, Path("/cache"))
    assert seen == {
        "PATH": "/bin", "UV_INDEX_CORP_PASSWORD": "pw", "UV_PYTHON_INSTALL_MIRROR": "https://m", "HTTPS_PROXY": "http://proxy",
        "UV_CACHE_DIR": "/c", "UV_LINK_MODE": "copy", "SSL_CERT_FILE": "/ca.crt", "NO_COLOR": "1", "TERM": "xterm",
    }  # fmt: skip
