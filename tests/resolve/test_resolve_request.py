"""What can be asked for, and what every refusal says."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from worlds.tables import CATALOG

from provision.errors import UsageError
from provision.model.request import Request, Wanted
from provision.resolve.request import parse_request


def asked(*frameworks: str, **more: Any) -> Request:
    return parse_request(frameworks=frameworks, catalog=CATALOG, **more)


def refusal(*frameworks: str, **more: Any) -> UsageError:
    with pytest.raises(UsageError) as caught:
        asked(*frameworks, **more)
    return caught.value


def test_asked_for_nothing_it_is_tensorflow() -> None:
    assert asked() == Request(frameworks=(Wanted(framework="tensorflow"),))


@pytest.mark.parametrize(
    ("text", "framework", "specifier"),
    [
        ("tensorflow==2.21", "tensorflow", "==2.21"),
        ("tf", "tensorflow", ""),
        ("torch==2.14.1+cu126", "pytorch", "==2.14.1+cu126"),
        ("PyTorch >= 2.6, < 2.15", "pytorch", ">=2.6,<2.15"),
        ("tensorflow~=2.16.1", "tensorflow", "~=2.16.1"),
        ("jax==0.10.*", "jax", "==0.10.*"),
    ],
)
def test_frameworks_with_versions(text: str, framework: str, specifier: str) -> None:
    assert asked(text).frameworks == (Wanted(framework=framework, specifier=specifier),)


def test_the_same_thing_twice_is_once() -> None:
    assert asked("tf", "tensorflow").frameworks == (Wanted(framework="tensorflow"),)


def test_compute_capabilities_are_written_one_way() -> None:
    assert asked(cuda_compute_capabilities="8.6, sm_89,9.0+PTX,compute_120,8.6").compute_capabilities == (
        "8.6",
        "8.9",
        "9.0+PTX",
        "12.0+PTX",
    )


@pytest.mark.parametrize(
    "cpu", ["native", "generic", "x86-64-v1", "x86-64-v4", "zen4", "avx2,fma", "-mavx2,-mfma", "neoverse_v1"]
)
def test_cpu_targets(cpu: str) -> None:
    assert asked(cpu=cpu).cpu == cpu


def test_a_python_is_its_minor() -> None:
    assert asked(python="3.12.4").python == "3.12"


def test_further_indexes_folders_and_packages() -> None:
    request = asked(indexes=["https://wheels.example/simple"], find_links=["/srv/wheels"], requirements=["pandas >= 2"])
    assert request.indexes == ("https://wheels.example/simple",)
    assert request.find_links == ("/srv/wheels",)
    assert request.requirements == ("pandas>=2",)


REFUSALS: list[tuple[dict[str, Any], str, str, str]] = [
    # what is asked, what, why, hint: a part of each
    (
        {"f": "tensorflwo"},
        "unknown framework 'tensorflwo'",
        "jax, keras, numpy, pytorch and tensorflow",
        "mean tensorflow?",
    ),
    ({"f": "==2.21"}, "'==2.21' names no framework", "a framework is a name", "--framework tensorflow==2.21"),
    (
        {"f": "tensorflow==2.22"},
        "the catalog has no tensorflow 2.22",
        "it has 2.3 to 2.21",
        "did you mean tensorflow 2.21? --force plans 2.22 like 2.21.0",
    ),
    ({"f": "tensorflow==2.16.7"}, "no tensorflow 2.16.7", "of 2.16 it has 2.16.1 and 2.16.2", "mean tensorflow 2.16?"),
    (
        {"f": "tensorflow>=3"},
        "the catalog has no tensorflow >=3",
        "it has 2.21, 2.20, 2.16 and 2.3",
        "tensorflow==2.21.0",
    ),
    ({"f": "tensorflow=2.21"}, "'=2.21' is not a version specifier", "such as ==2.21", "--framework tensorflow==2.21"),
    ({"f": "torch==2.14.1+cu999"}, "pytorch 2.14.1+cu999 has no build 'cu999'", "cpu, cu126 and cu130", ""),
    ({"device": "gpu"}, "'gpu' is not a value of --device", "auto, cpu or cuda", ""),
    ({"origin": "wheels"}, "'wheels' is not a value of --origin", "auto, wheel or source", "did you mean wheel?"),
    ({"cpu": "x86-64-v7"}, "unknown level 'x86-64-v7'", "x86-64-v1 to x86-64-v4", "--cpu x86-64-v3"),
    ({"cpu": "zen44"}, "--cpu does not know 'zen44'", "a microarchitecture (zen4)", "did you mean zen4?"),
    ({"cpu": "avx2,fmma"}, "--cpu does not know 'fmma'", "CPU flags (avx2,fma)", "did you mean fma?"),
    ({"cuda_compute_capabilities": "8.6,9"}, "'9' is not a compute capability", "sm_86", "8.6,sm_89,9.0+PTX"),
    ({"python": "2.7"}, "'2.7' is not a Python version", "as in 3.12", "--python 3.12"),
    ({"python": "three"}, "'three' is not a Python version", "", ""),
    ({"name": "my env"}, "'my env' cannot be an environment's name", "it becomes a folder", "--name default"),
    ({"name": "../x"}, "'../x' cannot be an environment's name", "letters, digits, dots", ""),
    ({"name": ""}, "'' cannot be an environment's name", "", ""),
    ({"name": ".hidden"}, "cannot be an environment's name", "begins with no dot", ""),
    (
        {"driver": "new"},
        "'new' is not a value of --driver",
        "keep, newest, prod or lts, a branch",
        "did you mean newest?",
    ),
    ({"requirements": ["-r x.txt"]}, "'-r x.txt' is not a package requirement", "", "--with"),
    (
        {"indexes": ["https://me:secret@host/simple"]},
        "--index with a user name or password",
        "plans are saved",
        "netrc",
    ),
    ({"find_links": [""]}, "--find-links needs an address", "it got ''", ""),
    ({"indexes": ["http://[::1/simple"]}, "--index 'http://[::1/simple' is not an address", "Invalid IPv6", ""),
    (
        {"device": "cpu", "cuda_compute_capabilities": "8.6"},
        "--device cpu and --cuda-compute-capabilities contradict each other",
        "a CPU stack has none",
        "leave one",
    ),
    (
        {"device": "cpu", "driver": "newest"},
        "--device cpu and --driver newest contradict",
        "neither needs nor",
        "leave",
    ),
    (
        {"origin": "wheel", "cpu": "x86-64-v3"},
        "--origin wheel and --cpu x86-64-v3 contradict each other",
        "a wheel is compiled already",
        "--origin source --cpu x86-64-v3",
    ),
    (
        {"f": "numpy", "origin": "source"},
        "--origin source asks for what does not exist",
        "no recipe for building numpy from source",
        "leave it out",
    ),
    ({"f": "jax", "cpu": "zen4"}, "--cpu zen4 asks for what does not exist", "building jax from source", ""),
    ({"f": "numpy", "device": "cuda"}, "--device cuda asks for what does not exist", "no CUDA build of numpy", "leave"),
]


@pytest.mark.parametrize(("given", "what", "why", "hint"), REFUSALS, ids=[row[1][:40] for row in REFUSALS])
def test_what_a_refusal_says(given: dict[str, Any], what: str, why: str, hint: str) -> None:
    given = dict(given)
    frameworks = (given.pop("f"),) if "f" in given else ()
    error = refusal(*frameworks, **given)
    assert what in error.what
    assert why in error.why
    assert hint in error.hint
    assert error.exit_code == 2


words = st.text(max_size=12) | st.sampled_from(["tensorflow==2.21", "native", "cpu", "8.6", "3.12", "keep", "a.b"])


@settings(max_examples=400, deadline=None)
@given(
    frameworks=st.lists(words, max_size=2),
    device=words,
    origin=words,
    cpu=words,
    capabilities=st.none() | words,
    python=st.none() | words,
    name=words,
    driver=words,
    indexes=st.lists(words, max_size=1),
    requirements=st.lists(words, max_size=1),
    force=st.booleans(),
)
def test_whatever_is_typed_is_understood_or_refused(
    frameworks: list[str], capabilities: str | None, **more: Any
) -> None:
    for one in ({"device": "cpu"}, {}):
        try:
            request = asked(*frameworks, **{**more, "origin": "auto", **one}, cuda_compute_capabilities=capabilities)
        except UsageError as error:
            assert error.what
        else:
            assert request.frameworks


@settings(max_examples=400, deadline=None)
@given(text=words, force=st.booleans())
def test_any_framework_text_alone(text: str, force: bool) -> None:
    for wanted in (text, f"tensorflow{text}", f"torch=={text}"):
        try:
            asked(wanted, force=force)
        except UsageError as error:
            assert error.what


def test_one_framework_in_two_versions() -> None:
    error = refusal("tensorflow==2.21", "tf==2.20")
    assert error.what == "tensorflow was asked for twice, differently"
    assert error.why == "--framework tensorflow==2.21 and --framework tensorflow==2.20 cannot share one environment"


def test_a_password_is_not_repeated() -> None:
    error = refusal(indexes=["https://me:secret@host/simple"])
    assert "secret" not in error.what + error.why + error.hint


def test_force_takes_a_release_that_the_catalog_lacks() -> None:
    assert asked("tensorflow==2.22.0", force=True).frameworks[0].specifier == "==2.22.0"
