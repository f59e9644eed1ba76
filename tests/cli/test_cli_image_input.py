"""What `image build` is told, and what it says of input that it cannot take."""

from __future__ import annotations

import pytest

from provision.catalog.load import catalog
from provision.cli import image_input
from provision.errors import UsageError
from provision.model.image import Copied


def refusal(call, *arguments, **named) -> UsageError:
    with pytest.raises(UsageError) as stop:
        call(*arguments, **named)
    return stop.value


@pytest.mark.parametrize(
    ("text", "cpus"),
    [
        ("generic", ("generic",)),
        ("x86-64-v3", ("x86-64-v3",)),
        ("x86-64-v2,x86-64-v3,x86-64-v4", ("x86-64-v2", "x86-64-v3", "x86-64-v4")),
        ("generic, zen4", ("generic", "zen4")),
        ("x86-64-v3,x86-64-v3", ("x86-64-v3",)),
        ("avx2,fma", ("avx2,fma",)),
        ("-mavx2,-mfma", ("-mavx2,-mfma",)),
        ("v2,v3", ("x86-64-v2", "x86-64-v3")),
    ],
)
def test_cpus_are_an_image_each_and_flags_are_one(text, cpus):
    assert image_input.cpu_list(text, catalog()) == cpus


def test_a_list_of_both_is_refused():
    error = refusal(image_input.cpu_list, "x86-64-v3,avx512f", catalog())
    assert error.what == "--cpu x86-64-v3,avx512f mixes CPUs and flags"
    assert error.why == "x86-64-v3 would be an image each, avx512f one image together"


@pytest.mark.parametrize(
    ("text", "what", "hint"),
    [
        ("native", "--cpu native is for a box, and an image leaves the machine that it is built on", "--cpu x86-64-v3"),
        ("fleet", "--cpu fleet needs the hosts", "-i hosts.yml"),
        ("x86-64-v9", "unknown level 'x86-64-v9'", "--cpu x86-64-v3"),
        ("x86-64-v2,zen44", "--cpu does not know 'zen44'", "did you mean zen4?"),
        ("x86-64-v2,,x86-64-v3", "--cpu 'x86-64-v2,,x86-64-v3' has an empty word in it", "--cpu x86-64-v2,x86-64-v3"),
        ("", "--cpu '' has an empty word in it", "--cpu x86-64-v2"),
    ],
)
def test_a_cpu_that_cannot_be_built_for(text, what, hint):
    error = refusal(image_input.cpu_list, text, catalog())
    assert error.what == what
    assert hint in error.hint
    assert "native" not in error.why


def test_copied_files_go_to_the_working_folder_or_where_they_are_told(tmp_path, monkeypatch):
    (tmp_path / "app.py").write_text("")
    (tmp_path / "a:b").mkdir()
    monkeypatch.chdir(tmp_path)
    assert image_input.copied_files(["app.py", "app.py:/srv/", "a:b", "a:b:/data"]) == (
        Copied(source=f"{tmp_path}/app.py", target="/work/app.py"),
        Copied(source=f"{tmp_path}/app.py", target="/srv/"),
        Copied(source=f"{tmp_path}/a:b", target="/work/a:b"),
        Copied(source=f"{tmp_path}/a:b", target="/data"),
    )


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("nothing.py", "there is no file or folder 'nothing.py'"),
        ("app.py:srv", "the target 'srv' of --copy app.py:srv is not absolute"),
        ("app.py:/work/../etc", "the target of --copy app.py:/work/../etc has .. in it"),
        ("app.py:/opt/provision/cpu", "--copy app.py:/opt/provision/cpu would change what was proved"),
        ("app.py\nRUN id", "--copy 'app.py\\nRUN id' has a line break or another control character in it"),
        ("", "there is no file or folder ''"),
    ],
)
def test_what_cannot_be_copied(text, what, tmp_path, monkeypatch):
    (tmp_path / "app.py").write_text("")
    monkeypatch.chdir(tmp_path)
    assert refusal(image_input.copied_files, [text]).what == what


def test_a_label_keeps_quotes_blanks_and_what_a_shell_would_run():
    said = image_input.labels(["vendor=A \"B\" 'C'", "org.example.motd=$(reboot) `id` $HOME \\", "empty="])
    assert said == {"vendor": "A \"B\" 'C'", "org.example.motd": "$(reboot) `id` $HOME \\", "empty": ""}


@pytest.mark.parametrize(
    ("text", "what", "why"),
    [
        ("vendor", "--label 'vendor' is not NAME=VALUE", "there is no = in it"),
        ("=x", "--label '=x' is not NAME=VALUE", "'' has more than letters"),
        ("a b=x", "--label 'a b=x' is not NAME=VALUE", "'a b' has more than letters"),
        ("motd=a\nUSER root", "the value of --label motd has a line break", "a Dockerfile cannot hold it"),
        ("io.provision.verdict={}", "--label io.provision.verdict is one of provision's own", "can be believed"),
    ],
)
def test_what_is_no_label(text, what, why):
    error = refusal(image_input.labels, [text])
    assert what in error.what
    assert why in error.why


@pytest.mark.parametrize("name", ["lib ssl", "$(id)", "-y", "libssl-dev;id", "LIBSSL", "a\nb", ""])
def test_what_is_no_package_of_a_distribution(name):
    assert refusal(image_input.packages, ["libssl-dev", name]).what == (
        f"--builder-package {name!r} is not a package's name"
    )


def test_packages_may_name_a_version():
    assert image_input.packages(["g++-12", "libssl-dev=3.0.17-1~deb12u2", "g++-12"]) == (
        "g++-12",
        "libssl-dev=3.0.17-1~deb12u2",
    )


@pytest.mark.parametrize("text", ["yesterday", "-1", "1.5", "99999999999", "12 "])
def test_an_epoch_that_is_no_number(text):
    error = refusal(image_input.epoch, {"SOURCE_DATE_EPOCH": text})
    assert error.what == f"SOURCE_DATE_EPOCH is {text!r}, which is not a time"
    assert "git log -1 --format=%ct" in error.hint


def test_an_epoch_is_seconds_or_left_to_the_base():
    assert image_input.epoch({"SOURCE_DATE_EPOCH": "1700000000"}) == 1700000000
    assert image_input.epoch({"SOURCE_DATE_EPOCH": ""}) is None
    assert image_input.epoch({}) is None


def test_an_image_needs_a_name_that_is_one(tmp_path):
    assert refusal(image_input.check_tag, None, None).what == "the image has no name"
    assert refusal(image_input.check_tag, "Me/TF:v3", None).what == "'Me/TF:v3' is not an image reference"
    image_input.check_tag(None, tmp_path / "Dockerfile")
    image_input.check_tag("me/tf:{level}-slim", None)


def test_output_builds_nothing_so_nothing_can_be_pushed(tmp_path):
    error = refusal(image_input.check_output, tmp_path, push=True, sbom=None)
    assert error.what == "--output and --push contradict each other"
    image_input.check_output(None, push=True)


def test_a_cache_is_a_reference_or_words_of_buildx():
    assert image_input.cache_places("--cache-from", ["me/tf:cache", "type=registry,ref=me/tf"]) == (
        "me/tf:cache",
        "type=registry,ref=me/tf",
    )
    assert "is not an image reference" in refusal(image_input.cache_places, "--cache-from", ["me tf"]).what


def test_a_bill_that_cannot_be_written_is_said_before_anything_is_built(tmp_path):
    error = refusal(image_input.check_sbom, tmp_path / "none" / "sbom.json")
    assert error.what == f"--sbom {tmp_path}/none/sbom.json cannot be written"
    assert error.why == f"{tmp_path}/none is no folder that you may write to"
    assert refusal(image_input.check_sbom, tmp_path).why == "it is a folder"
    image_input.check_sbom(tmp_path / "sbom.json")
