"""What holds for every host, every request and every order of the catalog."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from worlds.hosts import AVX, CARDS, V1, V2, V3, V4, card, host
from worlds.tables import CATALOG

from provision.catalog.load import catalog
from provision.errors import ProvisionError
from provision.model.catalog import Catalog
from provision.model.data import from_data, to_data
from provision.model.facts import Facts, Gpu, Mig, Os
from provision.model.nvidia import DriverRecord, HostNvidia, Package, PackageCandidate
from provision.model.plan import Plan
from provision.model.request import Request, Wanted
from provision.model.versions import Dotted
from provision.resolve import plan_for, with_overrides
from provision.resolve.branches import drives
from provision.resolve.candidates import Candidate, candidates
from provision.resolve.copts import allowed, copts, expected, fleet_flags, implied, target
from provision.resolve.overrides import completed
from provision.resolve.packages import table_for, world_of
from provision.resolve.rules import failing
from provision.resolve.solve import solve, wanted_of
from provision.resolve.targets import box

DRIVERS = [row.newest_seen for row in CATALOG.branches if row.newest_seen] + ["525.60.12", "570.124.06", "610.57.04"]
FRAMEWORKS = ["tensorflow", "pytorch", "jax", "keras", "numpy"]
STATES = ["working", "absent", "nouveau", "not_loaded", "mismatch", "no_library", "no_devices", "failed", "unknown"]

cards = st.lists(st.sampled_from(sorted(CARDS)), max_size=3)
flags = st.sampled_from([(), V1, V2, AVX, V3, V4])
hosts = st.builds(
    lambda names, **more: host(*names, **more),
    cards,
    flags=flags,
    arch=st.sampled_from(["x86_64", "aarch64", "ppc64le", None]),
    driver=st.none() | st.sampled_from(DRIVERS),
    state=st.none() | st.sampled_from(STATES),
    glibc=st.sampled_from(["2.17", "2.27", "2.28", "2.36", None]),
    pythons=st.lists(st.sampled_from(["3.8.10", "3.9.2", "3.11.2", "3.12.3", "3.14.0"]), unique=True, max_size=3).map(
        tuple
    ),
    os=st.sampled_from(["debian", "ubuntu", "alpine", "macos"]),
    wsl=st.booleans(),
    container=st.booleans(),
    hypervisor=st.booleans(),
)
requests = st.builds(
    Request,
    frameworks=st.lists(
        st.sampled_from([*FRAMEWORKS, "tensorflow==2.16", "pytorch<2.15"]),
        min_size=1,
        max_size=3,
        unique_by=lambda text: text[:5],
    ).map(lambda names: tuple(wanted(name) for name in names)),
    device=st.sampled_from(["auto", "cpu", "cuda"]),
    origin=st.sampled_from(["auto", "wheel", "source"]),
    cpu=st.sampled_from(["native", "generic", "x86-64-v3", "avx2,fma"]),
    compute_capabilities=st.sampled_from([(), (), (), ("8.9",), ("9.0+PTX", "6.1")]),
    python=st.sampled_from([None, None, "3.9", "3.12"]),
    driver=st.sampled_from(["keep", "keep", "newest", "prod", "lts", "570", "595.84"]),
    force=st.booleans(),
)


def wanted(text: str) -> Wanted:
    name = text.rstrip("=<>.0123456789")
    return Wanted(framework=name, specifier=text[len(name) :])


@settings(max_examples=300, deadline=None)
@given(facts=hosts, request=requests)
def test_a_chosen_stack_draws_no_objection(facts: Facts, request: Request) -> None:
    facts = completed(facts)
    try:
        solution = solve(facts, request, CATALOG)
    except ProvisionError:
        return
    for judged in solution.chosen:
        assert failing(judged.candidate, solution.driver.facts, request, CATALOG) == ()
        assert solution.python in judged.pythons
    if request.device == "cuda" and {"tensorflow", "pytorch", "jax"} & {each.framework for each in request.frameworks}:
        assert any(judged.candidate.build.device == "cuda" for judged in solution.chosen)


@settings(max_examples=150, deadline=None)
@given(facts=hosts, request=requests, data=st.data())
def test_the_catalogs_order_does_not_matter(facts: Facts, request: Request, data: st.DataObject) -> None:
    shuffled = replace(
        CATALOG,
        releases=tuple(data.draw(st.permutations(CATALOG.releases))),
        branches=tuple(data.draw(st.permutations(CATALOG.branches))),
        cuda=tuple(data.draw(st.permutations(CATALOG.cuda))),
    )
    mixed = replace(
        shuffled, releases=tuple(replace(row, builds=tuple(reversed(row.builds))) for row in shuffled.releases)
    )
    assert outcome(facts, request, CATALOG) == outcome(facts, request, mixed)


def outcome(facts: Facts, request: Request, catalog: Catalog) -> Any:
    try:
        made = plan_for(facts, request, catalog)
    except ProvisionError as error:
        return error.what
    return made.stack, made.steps, made.fingerprint


@settings(max_examples=200, deadline=None)
@given(facts=hosts, request=requests, first=st.sampled_from(DRIVERS), second=st.sampled_from(DRIVERS))
def test_a_newer_driver_never_loses_a_candidate(facts: Facts, request: Request, first: str, second: str) -> None:
    older, newer = sorted((first, second), key=Dotted)
    if not all(drives(newer, target, CATALOG) for target in box(facts)):
        return  # a driver too new for a card is not newer, it is wrong
    assert fitting(facts, request, older) <= fitting(facts, request, newer)


def fitting(facts: Facts, request: Request, driver: str) -> set[str]:
    known = with_overrides(facts, driver_version=driver, compute_capability=None)
    return {str(each) for each in every(known, request) if not failing(each, known, request, CATALOG)}


def every(facts: Facts, request: Request) -> list[Candidate]:
    return [each for name in wanted_of(request) for each in candidates(name, facts, request, CATALOG)]


names = st.sampled_from(
    [
        "nvidia-driver", "nvidia-driver-cuda", "nvidia-kernel-dkms", "nvidia-driver-580", "nvidia-driver-580-open",
        "nvidia-dkms-580", "nvidia-open", "cuda-drivers-580", "libcuda1", "nvidia-smi", "akmod-nvidia",
        "linux-modules-nvidia-580-6.8.0-60-generic", "linux-modules-nvidia-595-open-6.8.0-60-generic",
        "nvidia-driver-595-open", "nvidia-tesla-470-driver", "kmod-nvidia-open-dkms",
    ]
)  # fmt: skip
releases = st.sampled_from(
    ["535.261.03-1", "580.95.05-0ubuntu0.24.04.1", "595.84-1", "6.8.0-60.63", "3:580.95.05-1.el9"]
)
places = st.sampled_from(["archive noble/restricted", "https://x/compute/cuda/repos/debian12/x86_64", "cuda-rhel9", ""])
records = st.builds(
    DriverRecord,
    state=st.sampled_from(["changing", "installed", "confirmed"]),
    branch=st.just("580"),
    version=st.just("580.178.04"),
    module=st.sampled_from(["open", "proprietary"]),
    packages=st.just((Package(name="nvidia-driver-cuda", version="580.178.04-1"),)),
    rebooted=st.none() | st.booleans(),
)
everything = st.builds(
    HostNvidia,
    packages=st.lists(st.builds(Package, name=names, version=releases), max_size=4).map(tuple),
    candidates=st.none()
    | st.lists(st.builds(PackageCandidate, name=names, version=releases, repository=places), max_size=6).map(tuple),
    components=st.none() | st.sampled_from([("main",), ("main", "restricted"), ("contrib", "main", "non-free")]),
    record=st.none() | records,
)
systems = st.sampled_from(
    [
        ("debian", "11", "5.10.0-30-amd64"), ("debian", "12", "6.1.0-18-amd64"),
        ("debian", "13", "6.12.48+deb13-amd64"), ("arch", "", "6.18.1-arch1"),
        ("ubuntu", "22.04", "6.8.0-60-generic"), ("ubuntu", "24.04", "6.8.0-60-generic"),
        ("ubuntu", "26.04", "7.0.0-14-generic"), ("rocky", "9.6", "5.14.0-570.el9.x86_64"),
        ("rhel", "10.0", "6.12.0-55.el10.x86_64"), ("fedora", "43", "6.17.4-300.fc43.x86_64"),
    ]
)  # fmt: skip
asked_drivers = st.sampled_from(["keep", "newest", "lts", "535", "580", "470"])
modules = st.sampled_from(["auto", "open", "proprietary"])


def installing(
    names: list[str], system: tuple[str, str, str], driver: str, module: Any, nvidia: HostNvidia, more: dict[str, Any]
) -> tuple[Facts, Plan] | None:
    """A plan for CUDA with the true catalog; None where there is none."""
    os, release, kernel = system
    facts = host(*names, os=os, release=release, kernel=kernel, nvidia=nvidia, **more)
    request = Request(frameworks=(wanted("pytorch"),), device="cuda", driver=driver, driver_module=module)
    try:
        return facts, plan_for(facts, request, catalog())
    except ProvisionError as error:
        assert error.what
        assert error.exit_code in (2, 3)
        return None


@settings(max_examples=300, deadline=None)
@given(
    names=cards.filter(bool),
    system=systems,
    driver=asked_drivers,
    module=modules,
    nvidia=everything,
    state=st.sampled_from(["working", "absent", "nouveau", "mismatch"]),
    secure_boot=st.sampled_from([None, True, False]),
)
def test_what_is_installed_is_of_one_world_and_one_branch(
    names: list[str], system: tuple[str, str, str], driver: str, module: Any, nvidia: HostNvidia, state: str,
    secure_boot: bool | None,
) -> None:  # fmt: skip
    version = "535.113.01" if state == "working" else None
    more = {"driver": version, "state": state, "secure_boot": secure_boot}
    found = installing(names, system, driver, module, nvidia, more)
    setup = found[1].nvidia if found else None
    if found is None or setup is None or setup.driver is None or setup.driver.action == "confirm":
        return
    facts, made = found
    chosen = setup.driver
    origins = {each.repository for each in chosen.packages}
    assert len(origins) == 1
    configured = {each.id for each in setup.repositories}
    assert origins <= configured | {"distribution"}
    assert configured <= origins  # nothing is configured that nothing comes from
    table = table_for("nvidia_driver", facts, catalog())
    assert table is not None
    here = world_of(table, facts)
    assert here in (None, "distribution" if origins == {"distribution"} else "NVIDIA")
    assert all(each.version in ("", f"{chosen.branch}.") for each in chosen.packages)
    assert not any("{" in text for text in (*(each.name for each in chosen.packages), *chosen.headers, chosen.lock))
    assert bool(chosen.headers) == (chosen.build == "dkms")
    assert setup.persistenced
    row = next(each for each in catalog().branches if each.branch == chosen.branch)
    assert all(drives(f"{row.branch}.1", target, catalog()) for target in box(facts))
    assert (chosen.branch, chosen.module) == (made.stack[0].driver.branch, made.stack[0].driver.module)  # type: ignore[union-attr]
    old, new = ({CARDS[name][1] for name in names} & group for group in (BEFORE_TURING, {"Blackwell"}))
    assert not (old and chosen.module == "open")
    assert not (new and chosen.module == "proprietary")


BEFORE_TURING = {"Fermi", "Kepler", "Maxwell", "Pascal", "Volta"}


@settings(max_examples=150, deadline=None)
@given(
    names=cards.filter(bool), system=systems, nvidia=everything, driver=st.sampled_from(["535.113.01", "580.178.04"])
)
def test_a_driver_that_works_and_was_confirmed_is_left_alone(
    names: list[str], system: tuple[str, str, str], nvidia: HostNvidia, driver: str
) -> None:
    found = installing(names, system, "keep", "auto", nvidia, {"driver": driver})
    if found is None or found[1].stack[0].driver is None or found[1].stack[0].driver.action != "none":
        return
    state = nvidia.record.state if nvidia.record else None
    ids = [step.id for step in found[1].steps]
    assert ("nvidia_driver" in ids) == (state == "installed")
    assert ("persistenced" in ids) == (state == "installed")
    assert all(step.available for step in found[1].steps if step.id in ("nvidia_driver", "persistenced"))
    setup = found[1].nvidia
    assert (setup is not None and setup.driver is not None) == (state == "installed")
    if setup is not None and setup.driver is not None:
        assert setup.driver.action == "confirm"


words = st.none() | st.text(max_size=12) | st.sampled_from(["3.11", "x86_64", "sm_90", "9.0", "2.36", "580.95.05"])
strange_gpus = st.builds(
    Gpu,
    name=words,
    pci_address=words,
    pci_id=words,
    chip=words,
    architecture=words,
    compute_capability=words,
    memory_mib=st.none() | st.integers(),
    mig=st.none() | st.builds(Mig, enabled=st.booleans(), devices=st.integers()),
    source=st.sampled_from(["nvml", "nvidia-smi", "pci"]),
)


@settings(max_examples=300, deadline=None)
@given(
    facts=hosts,
    request=requests,
    gpus=st.lists(strange_gpus | st.sampled_from(sorted(CARDS)).map(card), max_size=3).map(tuple),
    arch=words,
    glibc=words,
    version=words,
    level=words,
    system=words,
    pythons=st.lists(st.text(max_size=8), max_size=3).map(tuple),
    strange_flags=st.lists(st.text(max_size=8), max_size=4).map(tuple),
)
def test_any_facts_give_a_plan_or_an_explanation(
    facts: Facts,
    request: Request,
    gpus: tuple[Gpu, ...],
    arch: str | None,
    glibc: str | None,
    version: str | None,
    level: str | None,
    system: str | None,
    pythons: tuple[str, ...],
    strange_flags: tuple[str, ...],
) -> None:
    strange = replace(
        facts,
        gpus=gpus,
        cpu=replace(facts.cpu, arch=arch, level=level, flags=strange_flags),
        driver=replace(facts.driver, version=version),
        system=replace(facts.system, glibc=glibc, pythons=pythons, os=Os(id=system, version_id=None)),
    )
    try:
        made = plan_for(strange, request, CATALOG)
    except ProvisionError as error:
        assert error.what
        assert error.exit_code in (2, 3)
        return
    assert from_data(Plan, to_data(made)) == made
    last = [step.id for step in made.steps if step.id != "comparison"][-2:]
    assert last == ["environment", "verification"]
    assert ("comparison" in {step.id for step in made.steps}) == (made.stock is not None)
    assert all(reason.text for reason in made.reasons)


every_flag = sorted({row.flag for row in catalog().compiler_flags if row.arch == "x86_64"})
flag_sets = st.lists(st.sampled_from(every_flag), unique=True).map(tuple)
compilers = st.sampled_from(["GCC 9.4.0", "GCC 12.2.0", "Clang 16.0.6", "Clang 19.1.7", None])
cpu_targets = st.sampled_from(["native", "generic", "x86-64-v2", "x86-64-v3", "x86-64-v4", "zen4", "haswell", "fleet"])


@settings(max_examples=200, deadline=None)
@given(has=flag_sets, text=cpu_targets, compiler=compilers)
def test_options_use_no_flag_that_the_target_lacks(has: tuple[str, ...], text: str, compiler: str | None) -> None:
    wanted = target(text, has, catalog(), has)
    found = copts(wanted, "x86_64", compiler, catalog())
    rows = {row.option: row for row in catalog().compiler_flags if row.arch == "x86_64"}
    for each in found:
        assert {each.flag, *implied(rows[each.option], catalog())} <= (wanted.flags or frozenset())
        assert each.reason
    allow = set(allowed(found, "x86_64", catalog()))
    assert set(expected(found)) <= allow
    assert {each.flag for each in found} <= allow
    assert allow <= (wanted.flags or frozenset()) | {
        "cmov",
        "cx8",
        "fpu",
        "fxsr",
        "mmx",
        "sse",
        "sse2",
        "syscall",
        "sse4a",
    }


@settings(max_examples=100, deadline=None)
@given(sets=st.lists(flag_sets.filter(bool), min_size=1, max_size=5), data=st.data())
def test_a_fleets_flags_are_those_of_each_host(sets: list[tuple[str, ...]], data: st.DataObject) -> None:
    fleet = [named(flags, number) for number, flags in enumerate(sets)]
    found = fleet_flags(fleet, catalog())
    assert found == fleet_flags(data.draw(st.permutations(fleet)), catalog())
    assert all(set(found.flags) <= set(each.cpu.flags) for each in fleet)
    for flag, without in found.lacking.items():
        assert {each.host for each in fleet if flag not in each.cpu.flags} == set(without)
        assert flag not in found.flags


def named(flags: tuple[str, ...], number: int) -> Facts:
    return replace(host(flags=flags), host=f"box{number}")
