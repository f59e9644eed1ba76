"""What `provision image` shows: plans before, outcomes after, who takes which, the list."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime
from pathlib import Path

import pytest
from worlds.images import plan, plans

from provision.model.image import Copied, ImageOutcome, ImagePlan, ImageReport, ImageRow, Verdict
from provision.model.report import CheckOutcome, Failure, Smoke
from provision.render.image import (
    age_text,
    list_text,
    output_text,
    plans_text,
    report_text,
    size_text,
    sweep_text,
    verdict_words,
)

GOLDEN = Path(__file__).parents[1] / "golden" / "image"
Golden = Callable[[Path, str], None]
PASSED = Verdict(
    status="passed", checks=("python", "import:tensorflow", "mnist:tensorflow"), accuracy=0.9785, dataset="mnist",
    device="cpu",
)  # fmt: skip
CHECKS = (
    CheckOutcome(id="import:tensorflow", status="pass", what="tensorflow 2.21.0 imports", data={"seconds": 2.1}),
    CheckOutcome(id="mnist:tensorflow", status="pass", what="trained on MNIST: accuracy 97.85%"),
)
SMOKE = Smoke(
    framework="tensorflow", device="cpu", dataset="mnist", samples=60000, train_s=6.5, samples_per_s=9230.8,
    accuracy=0.9785, peak_fraction=0.31,
)  # fmt: skip
NOW = datetime.fromisoformat("2026-11-22T12:00:00+00:00").timestamp()


def outcome(made: ImagePlan, **changed: object) -> ImageOutcome:
    """As if it had been built and proved."""
    whole = ImageOutcome(
        tag=made.tag, id="sha256:" + "1" * 64, cpu=made.cpu, level=made.level, flags=made.flags,
        stack=made.plan.stack, base=made.base.reference, base_digest=made.base.digest, minimal=made.minimal,
        size_bytes=1_138_204_113, layers=("sha256:a", "sha256:b", "sha256:c", f"sha256:{made.cpu}"), verdict=PASSED,
        checks=CHECKS, smoke=SMOKE,
    )  # fmt: skip
    return replace(whole, **changed)  # type: ignore[arg-type]


def report(*images: ImageOutcome) -> ImageReport:
    return ImageReport(
        ok=not any(image.failures for image in images),
        builder="buildkit",
        engine="Docker Engine 20.10.24 at unix:///var/run/docker.sock",
        images=images,
        steps=(),
    )


def test_one_image_is_shown_with_its_reasons(golden: Golden) -> None:
    made = plan("tensorflow", cpus=("x86-64-v3",), tag="me/tf:v3")
    made = replace(made, copied=(Copied(source="/home/me/app.py", target="/work/app.py"),))
    golden(GOLDEN / "plan.txt", plans_text([made], [["me/tf:v3"]]))


def test_several_tags_say_what_they_share_and_each_reason_once(golden: Golden) -> None:
    made = plans("tensorflow", cpus=("x86-64-v2", "x86-64-v3", "x86-64-v4"), tag="me/tf")
    text = plans_text(made, [["me/tf:v2"], ["me/tf:v3", "me/tf:v4"]], ["then me/tf:v3 is pushed to Docker Hub"])
    golden(GOLDEN / "plans.txt", text)
    flat = " ".join(text.split())
    assert flat.count("Python 3.11, which debian 12 has") == 1
    assert "why me/tf:v2 - tensorflow 2.21.0 from source" in flat


def test_a_cuda_image_says_which_gpus_and_which_driver(golden: Golden) -> None:
    made = plan("pytorch", device="cuda", cuda_compute_capabilities="8.6,9.0", tag="me/torch:cuda")
    golden(GOLDEN / "plan_cuda.txt", plans_text([made], [["me/torch:cuda"]]))


def test_equal_checks_are_shown_once_and_shared_layers_are_counted(golden: Golden) -> None:
    two, three = plans("tensorflow", cpus=("x86-64-v3", "x86-64-v4"), tag="me/tf")
    pushed = outcome(three, pushed="localhost:5000/me/tf@sha256:" + "2" * 64, sbom="sbom-v4.json", hosts=("a", "b"))
    text = report_text(report(outcome(two), pushed))
    golden(GOLDEN / "report.txt", text)
    assert text.count("trained on MNIST") == 1
    assert "4, 3 of them those of me/tf:v3" in text
    assert "run: docker run --rm -it me/tf:v4\nundo: docker rmi me/tf:v4" in text


def test_a_failed_image_has_no_line_to_run_it(golden: Golden) -> None:
    made = plan("tensorflow", cpus=("x86-64-v3",), tag="me/tf:v3")
    failure = Failure(
        what="the image failed 1 of 2 checks, so it got no tag",
        why="mnist:tensorflow: accuracy 11.35%",
        hint="to look into it: docker run --rm -it --entrypoint /bin/sh provision-failed:0-0",
        exit_code=6,
    )
    bad = CheckOutcome(id="mnist:tensorflow", status="fail", what="accuracy 11.35%", why="wanted 90%", hint="try again")
    failed = outcome(
        made, id=None, size_bytes=None, layers=(), verdict=Verdict(status="failed"), checks=(CHECKS[0], bad),
        smoke=None, failures=(failure,),
    )  # fmt: skip
    text = report_text(report(failed))
    golden(GOLDEN / "report_failed.txt", text)
    assert "docker run --rm -it me/tf:v3" not in text
    assert "verdict: NOT proved" in text


def test_an_image_with_cuda_is_run_with_its_gpus() -> None:
    made = plan("pytorch", device="cuda", cuda_compute_capabilities="8.6", tag="me/torch:cuda")
    assert "run: docker run --rm -it --gpus all me/torch:cuda" in report_text(report(outcome(made)))


def test_each_host_has_its_image(golden: Golden) -> None:
    rows = [
        ("athlon", "lab/tf:v2", "x86-64-v2, without a GPU to use"),
        ("gpu-box-1", "lab/tf:v3-cuda", "x86-64-v3, with a GPU to use"),
    ]
    golden(GOLDEN / "sweep.txt", sweep_text(rows))


ROW = ImageRow(
    tag="me/tf:v3", id="sha256:1", frameworks=("tensorflow 2.21.0", "keras 3.15.1"), device="cpu", cpu="x86-64-v3",
    level="x86-64-v3", minimal=False, size_bytes=1_138_204_113, created="2026-11-22T11:20:00Z", verdict=PASSED,
)  # fmt: skip


def test_the_list_is_as_wide_as_what_is_in_it(golden: Golden) -> None:
    other = replace(
        ROW, tag="localhost:5000/lab/a-longer-name:cuda-8.6", frameworks=("pytorch 2.13.0",), device="cuda",
        cpu="generic", minimal=True, size_bytes=642_000_000, created="2026-10-01T00:00:00Z",
        verdict=Verdict(status="not run", why="no GPU was at hand"),
    )  # fmt: skip
    strange = replace(ROW, tag="old:1", frameworks=(), device="", cpu="", created="", verdict=Verdict(status="failed"))
    golden(GOLDEN / "list.txt", list_text([ROW, other, strange], NOW))


def test_an_empty_list_says_how_to_make_an_image() -> None:
    assert "make one: provision image build --framework tensorflow --tag me/tf" in list_text([], NOW)


@pytest.mark.parametrize(
    ("created", "age"),
    [
        ("2026-11-22T11:59:30Z", "now"),
        ("2026-11-22T11:59:00Z", "1 minute"),
        ("2026-11-21T12:00:00+00:00", "1 day"),
        ("2024-11-21T12:00:00Z", "2 years"),
        ("2027-01-01T00:00:00Z", "now"),
        ("yesterday", "?"),
    ],
)
def test_ages(created: str, age: str) -> None:
    assert age_text(created, NOW) == age


def test_sizes_are_in_powers_of_ten_and_of_two() -> None:
    assert size_text(1_138_204_113) == "1.14 GB (1,085 MiB)"
    assert size_text(118_000_000) == "118 MB (113 MiB)"


def test_verdicts_in_words() -> None:
    assert verdict_words(PASSED) == "proved to work: 3 checks, MNIST 97.85% on cpu"
    assert verdict_words(Verdict(status="not run", why="left out")) == "not proved: left out"
    assert verdict_words(Verdict(status="failed")) == "NOT proved"


def test_the_line_that_builds_by_hand_is_quoted_for_a_shell() -> None:
    text = output_text("/tmp/my $(id)/Dockerfile", "/tmp/my $(id)/Dockerfile.context", "me/tf", mounts=True)
    assert "DOCKER_BUILDKIT=1 docker build -f '/tmp/my $(id)/Dockerfile' -t me/tf '/tmp/my $(id)/" in text
    assert "BUILDKIT" not in output_text("Dockerfile", "c", "", mounts=False)
