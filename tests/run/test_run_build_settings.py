"""Settings of source builds: hosts are told only what was given, and wrong values say so first."""

from __future__ import annotations

import pytest

from provision.errors import UsageError
from provision.run.build_settings import BuildSettings, build_settings


def test_only_what_was_given_becomes_a_variable():
    settings = build_settings(jobs=4, remote_cache="grpc://cache:9092", until="configure", environ={})
    assert settings.variables() == {
        "provision_jobs": 4,
        "provision_remote_cache": "grpc://cache:9092",
        "provision_until": "configure",
        "provision_force": False,
    }
    assert BuildSettings().variables() == {"provision_until": "", "provision_force": False}


def test_the_password_comes_from_the_environment_and_is_never_shown():
    environ = {"PROVISION_REMOTE_CACHE_USER": "lab", "PROVISION_REMOTE_CACHE_PASSWORD": "hunter2"}
    settings = build_settings(environ=environ)
    assert settings.variables()["provision_remote_cache_user"] == "lab"
    assert settings.variables()["provision_remote_cache_password"] == "hunter2"  # noqa: S105
    assert "hunter2" not in repr(settings)


def test_a_password_with_a_line_end():
    with pytest.raises(UsageError) as stop:
        build_settings(environ={"PROVISION_REMOTE_CACHE_PASSWORD": "hunter2\n"})
    assert stop.value.what.startswith("PROVISION_REMOTE_CACHE_PASSWORD holds a line end")
    assert "hunter2" not in str(stop.value.__dict__)


@pytest.mark.parametrize("jobs", [0, -1, 5000])
def test_no_number_of_jobs(jobs):
    with pytest.raises(UsageError) as stop:
        build_settings(jobs=jobs, environ={})
    assert stop.value.what == f"--jobs {jobs} is not a number of jobs"
    assert "1 to 4096" in stop.value.why


@pytest.mark.parametrize(
    ("address", "what", "why"),
    [
        ("cache:9092", "--remote-cache 'cache:9092' has no scheme that it can be reached by", "Bazel takes grpc://"),
        ("ftp://cache", "--remote-cache 'ftp://cache' has no scheme that it can be reached by", "https://"),
        ("http://cache:x/", "--remote-cache 'http://cache:x/' is not an address", "Port could not be cast"),
        ("http://", "--remote-cache 'http://' names no host", "scheme://host:port"),
        ("http://a b/", "--remote-cache 'http://a b/' names no host", "scheme://host:port"),
    ],
)
def test_a_cache_that_cannot_be_one(address, what, why):
    with pytest.raises(UsageError) as stop:
        build_settings(remote_cache=address, environ={})
    assert stop.value.what == what
    assert why in stop.value.why
    assert stop.value.hint == "--remote-cache grpc://cache:9092"


@pytest.mark.parametrize("address", ["http://me:hunter2@cache/x", "grpcs://hunter2@cache:9", "me:hunter2@cache:90"])
def test_credentials_in_an_address_are_refused_and_not_repeated(address):
    with pytest.raises(UsageError) as stop:
        build_settings(remote_cache=address, environ={})
    assert "hunter2" not in stop.value.what + stop.value.why + stop.value.hint
    if "//" in address:
        assert stop.value.what == "--remote-cache with a user name or password in it"
        assert "PROVISION_REMOTE_CACHE_PASSWORD" in stop.value.hint


def test_an_executor_speaks_grpc():
    with pytest.raises(UsageError) as stop:
        build_settings(remote_executor="https://executor", environ={})
    assert stop.value.why == "Bazel takes grpc://, grpcs://"


@pytest.mark.parametrize("path", ["bazel", "./bazel", "../x", "", "/opt/\nbazel"])
def test_a_path_that_means_nothing_on_another_host(path):
    with pytest.raises(UsageError) as stop:
        build_settings(bazel=path, environ={})
    assert "is not a path on the hosts" in stop.value.what
    assert build_settings(bazel="~/bin/bazelisk", build_folder="/scratch", environ={}).bazel == "~/bin/bazelisk"
