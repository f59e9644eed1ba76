"""Options of source builds: what they become, and what is said before any host is asked."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType

import pytest
from typer.testing import CliRunner

from provision.catalog.load import catalog
from provision.cli.app import app
from provision.cli.carry_out import Settings, carried_out_now, execution_options
from provision.cli.options import source_from
from provision.cli.planning import Looked, Planned, fleet_text, for_fleet, lacks, looked_at, plans_for
from provision.errors import HostError, ProvisionError, UsageError
from provision.model.host import Host
from provision.model.plan import Plan
from provision.model.request import Request, Wanted
from provision.run.build_settings import BuildSettings
from provision.run.dump import read_dump

DUMPS = Path(__file__).resolve().parents[1] / "hosts"
OLD, NEW = "made-debian11-broadwell-p4-gtx1060-lost-470", "made-rocky9-sapphirerapids-2xh100-mig-open580"


def seen(name: str, dump: str = NEW) -> Looked:
    return looked_at(Host(name=name, connection="local"), read_dump(DUMPS / dump))


def said(*words: str) -> ProvisionError:
    done = CliRunner().invoke(app, list(words))
    assert isinstance(done.exception, ProvisionError), done.output
    return done.exception


@pytest.mark.parametrize(
    ("words", "what"),
    [
        (["--jobs", "0"], "--jobs 0 is not a number of jobs"),
        (["--remote-cache", "cache"], "--remote-cache 'cache' has no scheme that it can be reached by"),
        (["--bazel", "bin/bazel"], "--bazel 'bin/bazel' is not a path on the hosts"),
        (["--source", "/nonexistent/tree"], "there is no source /nonexistent/tree"),
        (["--source", "x", "-f", "jax"], "--source is for tensorflow, pytorch, numpy, and jax was asked for"),
    ],
)
def test_wrong_values_are_said_before_a_host_is_asked(words, what):
    error = said("up", "me@127.0.0.1:1", "--yes", *words)
    assert (error.what, error.exit_code) == (what, 2)


@pytest.mark.parametrize("value", [("--until", "never"), ("--pairs", "0"), ("--keep", "both"), ("--blas", "atlas")])
def test_values_that_typer_knows(value):
    assert CliRunner().invoke(app, ["up", *value]).exit_code == 2


def test_a_saved_plan_takes_the_settings_of_builds_too(tmp_path):
    (tmp_path / "plan.json").write_text(json.dumps([]))
    assert said("apply", str(tmp_path / "plan.json"), "--jobs", "2").what == f"{tmp_path}/plan.json holds no plan"


def test_the_settings_reach_the_executor():
    options = execution_options(Settings(build=BuildSettings(jobs=4, until="configure"), pairs=5))
    assert (options.build.jobs, options.build.until, options.pairs) == (4, "configure", 5)


def test_a_source_is_of_one_of_the_frameworks_asked_for(tmp_path):
    (tmp_path / "torch").mkdir()
    (tmp_path / "setup.py").touch()
    (tmp_path / "version.txt").write_text("2.9.0")
    assert source_from(str(tmp_path), ("tf==2.15.1", "numpy", "torch"), catalog()).version == "2.9.0"
    with pytest.raises(UsageError) as stop:
        source_from(str(tmp_path), ("numpy", "tensorflow"), catalog())
    assert stop.value.what == f"{tmp_path} is not a source tree of TensorFlow"


def test_keep_is_told_only_where_it_was_asked_for():
    error = said("plan", "--from", str(DUMPS / NEW), "--origin", "wheel", "--keep", "faster")
    assert error.what == "--origin wheel and --keep contradict each other"
    assert CliRunner().invoke(app, ["plan", "--from", str(DUMPS / NEW), "--origin", "wheel"]).exit_code == 0


def test_until_where_nothing_is_built():
    plan = Plan(host="box", request=Request(), stack=(), reasons=(), rejected=(), steps=())
    planned = Planned(looked=Looked(host=Host(name="box", connection="local")), plan=plan)
    assert carried_out_now(planned) == planned
    refused = carried_out_now(planned, "configure")
    assert refused.plan is None
    assert isinstance(refused.failure, UsageError)
    assert refused.failure.what == "--until configure is for source builds, and nothing is built on box"


# --- fleets -----------------------------------------------------------------------------------------------------


def test_a_fleet_is_built_for_what_all_of_them_have(capsys):
    request = Request(cpu="fleet", origin="source")
    old, new = seen("old", OLD), seen("new")
    assert for_fleet([old, new], replace(request, cpu="native"), catalog()).cpu_flags == ()
    flags = for_fleet([old, new], request, catalog()).cpu_flags
    assert "avx2" in flags
    assert "avx512f" not in flags
    assert "left out: old lacks " in capsys.readouterr().err
    assert "avx512f" in for_fleet([new, seen("new2")], request, catalog()).cpu_flags


def test_hosts_of_a_fleet_build_the_same_and_say_what_it_costs():
    old, new = seen("old"), seen("new")
    facts = old.facts
    assert facts is not None
    flags = tuple(flag for flag in facts.cpu.flags if not flag.startswith(("avx512", "amx")))
    old = replace(old, facts=replace(facts, cpu=replace(facts.cpu, flags=flags)))
    request = Request(frameworks=(Wanted(framework="numpy", specifier="==2.3.5"),), cpu="fleet", origin="source")
    plans = [each.plan for each in plans_for([old, new], request)]
    assert plans[0].fingerprint == plans[1].fingerprint
    assert plans[0].builds == plans[1].builds
    assert "-mavx512f" not in plans[1].stack[0].copts
    for plan in plans:
        (reason,) = [each.text for each in plan.reasons if each.rule == "copts.fleet"]
        assert reason.startswith("numpy is compiled for what every host of the fleet has; left out, since old lacks ")
        assert "avx512f" in reason


def test_a_host_that_cannot_be_read_would_make_the_fleet_a_lie():
    gone = Looked(host=Host(name="gone", connection="ssh"), failure=HostError(what="gone refused us", why="port 22"))
    with pytest.raises(HostError) as stop:
        for_fleet([seen("new"), gone], Request(cpu="fleet"), catalog())
    assert stop.value.what == "--cpu fleet needs every host, and gone cannot be read"
    assert stop.value.why == "gone refused us: port 22"
    assert stop.value.exit_code == 4


def test_one_host_is_no_fleet():
    with pytest.raises(UsageError) as stop:
        for_fleet([seen("new")], Request(cpu="fleet"), catalog())
    assert stop.value.what == "--cpu fleet is about several hosts"


def test_who_costs_the_fleet_which_flags():
    lacking = MappingProxyType({"avx512f": tuple("abcdef"), "avx512dq": tuple("abcdef"), "adx": ("a",)})
    assert fleet_text(7, ("avx", "avx2"), lacks(lacking)) == (
        "fleet of 7 hosts: 2 CPU flags that compilers use are on all of them\n"
        "  left out: a, b, c, d and 2 more lack avx512f, avx512dq\n"
        "  left out: a lacks adx"
    )
