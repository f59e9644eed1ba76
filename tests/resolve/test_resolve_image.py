"""Image plans: the resolver's own choice for a base image, a CPU and the GPUs that were asked for."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from worlds.hosts import V3, V4
from worlds.images import BORN, ask, base, plan, plans, reason, refused

from provision.catalog.images import distributions
from provision.catalog.load import catalog
from provision.errors import NoStackFits, ProvisionError, UsageError
from provision.model.image import Copied
from provision.render.plan import WIDTH, plan_text
from provision.resolve.copts import BASELINE
from provision.resolve.image import environment_key, image_facts, supported_base, with_instead
from provision.resolve.needed import needed_flags

GOLDEN = Path(__file__).parents[1] / "golden" / "image_plan"

SECOND = ("cx16", "lahf_lm", "pni", "popcnt", "sse4_1", "sse4_2", "ssse3")
THIRD = tuple(sorted((*SECOND, "abm", "avx", "avx2", "bmi1", "bmi2", "f16c", "fma", "movbe", "xsave")))


# --- the CPU ------------------------------------------------------------------------------------------------------


def test_a_level_is_what_the_image_asks_for_and_no_reason_to_build_from_source() -> None:
    made = plan("tensorflow", cpus=("x86-64-v3",))
    assert (made.cpu, made.level, made.flags) == ("x86-64-v3", "x86-64-v3", THIRD)
    assert (made.plan.stack[0].origin, made.plan.stack[0].requirements) == ("wheel", ("tensorflow-cpu==2.21.0",))
    assert made.plan.request.cpu == "x86-64-v3"


def test_generic_asks_for_what_the_wheel_needs_and_no_more() -> None:
    made = plan("tensorflow")
    assert made.plan.stack[0].origin == "wheel"
    assert made.flags == tuple(sorted((*SECOND, "avx")))
    assert made.level == "x86-64-v2"


def test_generic_pytorch_runs_on_any_x86_64_cpu_with_a_numpy_that_does() -> None:
    made = plan("pytorch")
    assert (made.flags, made.level) == ((), "x86-64-v1")
    assert "numpy<2.4" in made.plan.stack[0].requirements
    assert "numpy<2.4" not in plan("pytorch", cpus=("x86-64-v2",)).plan.stack[0].requirements


def test_generic_from_source_is_the_baseline() -> None:
    made = plan("tensorflow", origin="source")
    assert (made.flags, made.plan.stack[0].copts) == ((), ())
    assert set(made.plan.builds[0].allow) <= set(BASELINE["x86_64"])
    settings = plan("numpy==2.4", origin="source").plan.builds[0].config_settings
    assert "setup-args=-Dcpu-baseline=min" in settings, "and NumPy picks newer instructions at run time"


def test_generic_asks_for_nothing_where_the_wheel_that_needed_it_does_not_fit() -> None:
    made = plan("tensorflow==2.21", on=base(glibc="2.5"))
    assert (made.plan.stack[0].origin, made.flags, made.level) == ("source", (), "x86-64-v1")


def test_a_flag_that_was_asked_for_by_name_is_not_left_out_of_a_build() -> None:
    error = refused("pytorch", origin="source", cpus=("avx512_fp16",), compiler="gcc-11")
    assert isinstance(error, NoStackFits)
    assert any("GCC 11.3.0 is too old for avx512_fp16" in each.what for each in error.details)


def test_a_level_from_source_is_compiled_for_it() -> None:
    made = plan("tensorflow", origin="source", cpus=("x86-64-v3",))
    assert {"-mavx2", "-mfma", "-mbmi2"} <= set(made.plan.stack[0].copts)
    assert "-mavx512f" not in made.plan.stack[0].copts
    assert made.flags == THIRD
    assert made.plan.builds[0].runs_here
    assert made.plan.builds[0].cpu == "x86-64-v3"
    assert made.plan.stock is None, "nothing is measured in an image"


def test_where_no_wheel_runs_on_the_level_it_is_built_from_source() -> None:
    made = plan("tensorflow", cpus=("x86-64-v2",))
    assert (made.plan.stack[0].origin, made.flags) == ("source", SECOND)
    assert reason(made.plan, "origin") == (
        "tensorflow is built from source, because no wheel runs on an x86-64-v2 CPU: an x86-64-v2 CPU lacks avx"
    )
    assert made.plan.builds[0].cpu == "x86-64-v2"
    same = plan("tensorflow", cpus=("x86-64-v2",), origin="source")
    assert same.plan.fingerprint == made.plan.fingerprint, "asked for or found out, it is one wheel"


def test_wheels_alone_for_a_level_that_none_runs_on_is_refused_in_the_words_of_an_image() -> None:
    error = refused("tensorflow", cpus=("x86-64-v2",), origin="wheel")
    assert isinstance(error, NoStackFits)
    assert error.what == "no CPU wheel of tensorflow in the catalog fits an x86-64-v2 CPU on debian:bookworm"
    lacking = next(each for each in error.details if "lacks avx" in each.what)
    assert lacking.why == (
        "the wheel was compiled with avx and stops with an illegal instruction without; --cpu x86-64-v2 asks for less"
    )


@pytest.mark.parametrize(
    ("cpu", "level", "has", "lacks"),
    [
        ("avx2,fma", "x86-64-v2", {"avx", "avx2", "fma", "popcnt"}, {"bmi2", "avx512f"}),
        ("zen4", "x86-64-v4", {"avx512f", "avx512_bf16", "abm", "pni"}, {"wbnoinvd", "clzero", "sse2"}),
        ("haswell", "x86-64-v3", {"avx2", "fma", "bmi2"}, {"avx512f"}),
        ("x86-64-v1", "x86-64-v1", set(), {"cmov", "sse2", "pni"}),
        ("x86-64-v4", "x86-64-v4", {"avx512vl"}, {"sse", "cmov"}),
    ],
)
def test_what_an_image_asks_for(cpu: str, level: str, has: set[str], lacks: set[str]) -> None:
    made = plan("pytorch", cpus=(cpu,))
    assert made.level == level
    assert has <= set(made.flags)
    assert not lacks & set(made.flags)
    assert list(made.flags) == sorted(made.flags)


def test_nothing_is_asked_for_that_every_cpu_has_and_everything_that_was_compiled_in() -> None:
    for cpu in ("generic", "x86-64-v1", "x86-64-v2", "x86-64-v3", "x86-64-v4", "avx", "avx2", "skylake"):
        for origin in ("auto", "source"):
            made = plan("tensorflow", cpus=(cpu,), origin=origin)
            assert not set(made.flags) & set(BASELINE["x86_64"])
            compiled = {flag for flags in needed_flags(made.plan, catalog()).values() for flag in flags}
            assert compiled - set(BASELINE["x86_64"]) <= set(made.flags), (cpu, origin)


def test_native_is_refused_with_the_level_of_this_machine() -> None:
    error = refused("tensorflow", cpus=("x86-64-v3", "native"))
    assert isinstance(error, UsageError)
    assert error.what == "--cpu native is not for images"
    assert error.why.endswith("this machine is x86-64-v4")
    assert error.hint.startswith("--cpu x86-64-v4 for machines like it")
    unknown = refused("tensorflow", cpus=("native",), on=base(flags=()))
    assert unknown.hint == "--cpu generic, or a level: x86-64-v3"


@pytest.mark.parametrize(
    ("cpus", "what"),
    [
        (("x86-64-v9",), "unknown level 'x86-64-v9'"),
        (("avx9",), "--cpu does not know 'avx9'"),
        (("fleet",), "--cpu fleet is about the hosts of an inventory"),
        (("neoverse_v1",), "--cpu neoverse_v1 is no x86-64 CPU"),
        (("power9le",), "--cpu power9le is no x86-64 CPU"),
        (("asimd",), "--cpu asimd is no x86-64 CPU"),
        ((), "no CPU was named"),
        (("x86-64-v3", "x86-64-v3"), "two images would be tagged me/tf:v3"),
    ],
)
def test_a_cpu_that_cannot_be(cpus: tuple[str, ...], what: str) -> None:
    error = refused("tensorflow", cpus=cpus)
    assert error.what == what
    assert error.hint
    assert error.exit_code == 2


# --- several tags -------------------------------------------------------------------------------------------------


def test_levels_share_an_environment_and_differ_in_what_they_ask_for() -> None:
    third, fourth, generic = plans("tensorflow", cpus=("x86-64-v3", "x86-64-v4", "generic"))
    assert [each.tag for each in (third, fourth, generic)] == ["me/tf:v3", "me/tf:v4", "me/tf:generic"]
    assert len({environment_key(each) for each in (third, fourth, generic)}) == 1
    assert len({each.plan.fingerprint for each in (third, fourth, generic)}) == 1
    assert len({each.flags for each in (third, fourth, generic)}) == 3


def test_a_lesser_cpu_is_told_the_most_demanding_of_the_others_first() -> None:
    third, fourth, generic = plans("tensorflow", cpus=("x86-64-v3", "x86-64-v4", "generic"))
    assert [tag for tag, _ in fourth.instead] == ["me/tf:v3", "me/tf:generic"]
    assert third.instead == (("me/tf:generic", generic.flags),)
    assert generic.instead == ()


def test_an_image_for_the_same_device_is_told_of_first() -> None:
    cpu, other = (replace(each, tag=each.cpu) for each in plans("pytorch", cpus=("x86-64-v3", "x86-64-v2")))
    cuda = replace(plan("pytorch", cpus=("x86-64-v4",), device="cuda"), tag="cuda4")
    small = replace(plan("pytorch", cpus=("x86-64-v2",), device="cuda"), tag="cuda2")
    found = {each.tag: each for each in with_instead([cpu, other, cuda, small])}
    assert [tag for tag, _ in found["cuda4"].instead] == ["cuda2", "x86-64-v3", "x86-64-v2"]


def test_without_a_tag_there_is_none_to_take_instead() -> None:
    found = plans("pytorch", cpus=("x86-64-v3", "x86-64-v2"), tag=None)
    assert [(each.tag, each.instead) for each in found] == [("", ()), ("", ())]
    assert found[0].plan.host == "debian:bookworm"


@pytest.mark.parametrize(
    "other",
    [
        {"minimal": True},
        {"epoch": 5},
        {"on": base("ubuntu", "24.04", "ubuntu:24.04", glibc="2.39")},
        {"requirements": ["pandas"]},
        {"python": "3.12"},
        {"device": "cuda"},
    ],
)
def test_what_makes_another_environment(other: dict[str, object]) -> None:
    assert environment_key(plan("pytorch")) != environment_key(plan("pytorch", **other))  # type: ignore[arg-type]


def test_what_comes_in_last_makes_none() -> None:
    copied = (Copied(source="/home/me/app", target="/work/app"),)
    assert environment_key(plan("pytorch")) == environment_key(
        plan("pytorch", copied=copied, labels={"a": "b"}, tag="other")
    )


# --- the base -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("on", "kind", "what", "why"),
    [
        (base(arch="aarch64"), NoStackFits, "debian:bookworm is a base for aarch64", "this base is debian 12"),
        (
            base("alpine", "3.21", "alpine:3.21", glibc=None),
            NoStackFits,
            "no wheel runs on alpine:3.21",
            "this base (alpine 3.21) has musl in its place",
        ),
        (
            base("wolfi", None, "wolfi", glibc=None),
            NoStackFits,
            "no wheel runs on wolfi",
            "this base (wolfi) has none that was found",
        ),
        (
            base("debian", "11", "debian:bullseye"),
            UsageError,
            "debian:bullseye is no base that images are made from",
            "it is debian 11; the catalog has debian:bookworm, debian:trixie, ubuntu:jammy",
        ),
        (base("rocky", "9", "rockylinux:9"), UsageError, "rockylinux:9 is no base", "it is rocky 9; the catalog has"),
    ],
)
def test_a_base_that_cannot_be(on: object, kind: type[ProvisionError], what: str, why: str) -> None:
    error = refused("tensorflow", on=on)
    assert type(error) is kind
    assert error.what.startswith(what)
    assert why in error.why
    assert error.hint


def test_a_base_is_its_distributions_row() -> None:
    assert supported_base(base("ubuntu", "24.04").facts, distributions()).codename == "noble"


def test_the_machine_that_is_made_up_is_the_bases_system_and_the_cpu_that_was_asked_for() -> None:
    on = base()
    row = supported_base(on.facts, distributions())
    facts = image_facts(on, row, "x86-64-v3", ask("pytorch").request, catalog())
    assert set(V3) <= set(facts.cpu.flags)
    assert not (set(V4) - set(V3)) & set(facts.cpu.flags)
    assert (facts.cpu.level, facts.cpu.arch, facts.system.glibc) == ("x86-64-v3", "x86_64", "2.36")
    assert (facts.gpus, facts.system.pythons) == ((), ("3.11",))
    assert "/usr/bin/gcc-12" in [each.path for each in facts.system.compilers]


def test_the_python_is_the_distributions_unless_no_wheel_is_for_it() -> None:
    assert reason(plan("tensorflow").plan, "python") == "Python 3.11, which debian 12 has"
    newest = plan("tensorflow", on=base("ubuntu", "26.04", "ubuntu:26.04", glibc="2.43"))
    assert newest.plan.stack[0].python == "3.13"
    assert reason(newest.plan, "python").startswith("Python 3.13, brought by uv: ubuntu 26.04 has 3.14")
    assert reason(plan("tensorflow", python="3.12").plan, "python") == "Python 3.12, because --python asks for it"


# --- what the plan says -------------------------------------------------------------------------------------------


def test_the_steps_are_an_images_and_all_can_be_carried_out() -> None:
    for made in (plan("tensorflow"), plan("tensorflow", cpus=("x86-64-v2",)), plan("pytorch", device="cuda")):
        assert [(each.id, each.available) for each in made.plan.steps] == [
            ("image_build", True),
            ("image_verify", True),
            ("image_tag", True),
        ]
        assert made.plan.steps[2].title == "Tag it me/tf"


SPOKEN: dict[str, dict[str, Any]] = {
    "tensorflow": {},
    "tensorflow==2.21": {"cpus": ("x86-64-v2",)},
    "pytorch": {"device": "cuda", "driver_version": "535.183.01"},
    "keras": {"cpus": ("zen4",)},
    "numpy": {"origin": "source", "cpus": ("avx2,fma",)},
    "jax": {"cpus": ("x86-64-v4",)},
}


@pytest.mark.parametrize("framework", sorted(SPOKEN))
def test_no_word_is_about_a_host_that_is_not_there(framework: str) -> None:
    text = " ".join(plan_text(plan(framework, **SPOKEN[framework]).plan).split())
    for words in ("this host", "this CPU", "runs here", "GPU here", "this machine", "--driver newest", "envs/"):
        assert words not in text


def test_the_epoch_is_the_bases_age_unless_it_is_given() -> None:
    assert plan("pytorch").epoch == BORN
    assert plan("pytorch", epoch=0).epoch == 0
    assert plan("pytorch", epoch=0).labels["org.opencontainers.image.created"] == "1970-01-01T00:00:00Z"


def test_a_label_of_ours_cannot_be_set() -> None:
    error = refused("pytorch", labels={"io.provision.verdict": "passed"})
    assert error.what == "the label io.provision.verdict cannot be set"
    made = plan("pytorch", labels={"org.opencontainers.image.source": "https://example.org/me"})
    assert made.labels["org.opencontainers.image.source"] == "https://example.org/me"


def test_what_a_host_would_be_asked_is_not_asked_of_an_image() -> None:
    """--driver and --name are about hosts."""
    made = plan("pytorch", device="cuda", driver="newest", name="mine")
    assert (made.plan.request.name, made.plan.request.driver) == ("image", "keep")


GOLDENS = {
    "wheel": lambda: plan("tensorflow", cpus=("x86-64-v3",)),
    "cuda": lambda: plan("pytorch", cuda_compute_capabilities="8.6,9.0", cpus=("x86-64-v3",)),
    "source": lambda: plan("tensorflow", cpus=("x86-64-v2",)),
}


@pytest.mark.parametrize("name", sorted(GOLDENS))
def test_an_image_plan_as_text(name: str, golden: Callable[[Path, str], None]) -> None:
    text = plan_text(GOLDENS[name]().plan)
    assert max(map(len, text.splitlines())) <= WIDTH
    golden(GOLDEN / f"{name}.txt", text)
