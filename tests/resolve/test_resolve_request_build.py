"""Options of source builds: what they mean, and every way in which they contradict the rest of a request."""

from __future__ import annotations

from typing import Any

import pytest

from provision.catalog.load import catalog
from provision.errors import UsageError
from provision.model.build import Source
from provision.model.request import Request, Wanted
from provision.resolve.request import parse_request

TREE = Source(kind="tree", location="/src/tensorflow", sha256="0" * 64, version="2.15.1", bazel="6.1.0")


def request(*frameworks: str, **asked: Any) -> Request:
    return parse_request(frameworks=frameworks or ("tensorflow",), catalog=catalog(), **asked)


def test_a_tree_says_which_release_it_is() -> None:
    made = request(source=TREE)
    assert made.frameworks == (Wanted(framework="tensorflow", specifier="==2.15.1"),)
    assert (made.origin, made.source, made.keep) == ("source", TREE, "faster")
    assert request("tensorflow==2.15", source=TREE).frameworks[0].specifier == "==2.15.1"
    assert request("tensorflow>=2.14", "keras", source=TREE).frameworks[0].specifier == "==2.15.1"


def test_a_tag_says_it_too() -> None:
    source = Source(kind="git", location="https://example.org/tensorflow.git", ref="v2.12.1")
    assert request(source=source).frameworks[0].specifier == "==2.12.1"
    branch = Source(kind="git", location="https://example.org/tensorflow.git", ref="main")
    assert request("tensorflow==2.12", source=branch).frameworks[0].specifier == "==2.12"


def test_what_was_asked_of_a_build_is_kept() -> None:
    made = request(origin="source", compiler="clang-16", keep="build", cpu="fleet", cpu_flags=("fma", "avx2", "fma"))
    assert (made.compiler, made.keep, made.cpu, made.cpu_flags) == ("clang-16", "build", "fleet", ("avx2", "fma"))
    made = request("numpy", origin="source", blas="mkl", accept_mkl_license=True)
    assert (made.blas, made.accept_mkl_license) == ("mkl", True)


REFUSALS: list[tuple[dict[str, Any], str, str, str]] = [
    (
        {"f": "tensorflow==2.12", "source": TREE},
        "/src/tensorflow is tensorflow 2.15.1",
        "--framework tensorflow==2.12 asks for another release",
        "--framework tensorflow==2.15.1",
    ),
    (
        {"source": Source(kind="tree", location="/src/tf", version="2.99.0-dev")},
        "/src/tf is tensorflow 2.99.0-dev, which the catalog does not have",
        "it has 1.15 to 2.21",
        "--force builds it like 2.21.0",
    ),
    (
        {"source": Source(kind="git", location="https://example.org/tf.git", ref="main")},
        "which tensorflow https://example.org/tf.git@main is cannot be told",
        "its name is no version",
        "say it: --framework tensorflow==2.21.0",
    ),
    (
        {"source": TREE, "origin": "wheel"},
        "--origin wheel and --source contradict each other",
        "a wheel is compiled already",
        "--origin source",
    ),
    ({"f": "numpy", "source": TREE}, "--source is where one framework comes from", "no recipe that builds numpy", ""),
    ({"f": "jax", "source": TREE}, "--source is where one framework comes from", "no recipe that builds jax", ""),
    ({"origin": "wheel", "compiler": "gcc"}, "--origin wheel and --compiler contradict each other", "", "leave one"),
    ({"origin": "wheel", "keep": "build"}, "--origin wheel and --keep contradict each other", "", "leave one"),
    ({"origin": "wheel", "cpu": "fleet"}, "--origin wheel and --cpu fleet contradict each other", "", "leave one"),
    ({"compiler": "icc"}, "'icc' is not a value of --compiler", "gcc, clang", "provision detect"),
    ({"keep": "best"}, "'best' is not a value of --keep", "faster, build or wheel", "--keep faster"),
    ({"f": "numpy", "origin": "source", "blas": "atlas"}, "'atlas' is not a value of --blas", "openblas or mkl", ""),
    (
        {"origin": "source", "blas": "openblas"},
        "--blas is for NumPy from source",
        "bring their own",
        "--framework numpy",
    ),
    ({"f": "numpy", "blas": "openblas"}, "--blas is for NumPy from source", "a wheel has its BLAS inside", "--origin"),
    (
        {"f": "numpy", "origin": "source", "blas": "mkl"},
        "--blas mkl needs the licence of MKL accepted",
        "Intel Simplified Software License",
        "--accept-mkl-license",
    ),
]


@pytest.mark.parametrize(("given", "what", "why", "hint"), REFUSALS, ids=[row[1][:50] for row in REFUSALS])
def test_what_a_refusal_says(given: dict[str, Any], what: str, why: str, hint: str) -> None:
    given = dict(given)
    framework = given.pop("f", "tensorflow")
    with pytest.raises(UsageError) as caught:
        request(framework, **given)
    assert what in caught.value.what
    assert why in caught.value.why
    assert hint in caught.value.hint


def test_two_frameworks_cannot_come_from_one_source() -> None:
    with pytest.raises(UsageError) as caught:
        request("tensorflow", "pytorch", source=TREE)
    assert caught.value.why == "tensorflow and pytorch were asked for"


def test_an_unknown_tree_by_force() -> None:
    source = Source(kind="tree", location="/src/tf", version="2.99.0-dev")
    assert request(source=source, force=True).frameworks[0].specifier == "==2.99.0"


@pytest.mark.parametrize(
    ("asked", "ref", "made"),
    [
        ("pytorch", None, "==2.9.0"),
        ("pytorch==2.9.1", None, "==2.9.1"),
        ("pytorch==2.9", None, "==2.9.0"),
        ("pytorch", "v2.9.1", "==2.9.1"),
    ],
)
def test_a_pytorch_tree_knows_its_series_only(asked: str, ref: str | None, made: str) -> None:
    source = Source(kind="git" if ref else "tree", location="/src/torch", version="2.9.0a0", ref=ref)
    assert request(asked, source=source).frameworks[0].specifier == made


def test_a_pytorch_tree_of_another_series_or_tag() -> None:
    tree = Source(kind="tree", location="/src/torch", version="2.9.0a0")
    with pytest.raises(UsageError) as caught:
        request("pytorch==2.10.0", source=tree)
    assert caught.value.why == "--framework pytorch==2.10.0 asks for another release"
    tag = Source(kind="git", location="/src/torch", version="2.9.0a0", ref="v2.9.1")
    with pytest.raises(UsageError) as caught:
        request("pytorch==2.9.0", source=tag)
    assert caught.value.hint.startswith("--framework pytorch==2.9.1")
