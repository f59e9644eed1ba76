"""What a source build is told: everything that decides it, and the rows of the build tables that hold for it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol, TypeVar, cast

from provision.model.build import Compiler, Copt, Source
from provision.model.catalog import Catalog, CompilerFlag
from provision.model.facts import Facts
from provision.model.recipes import BuildTable, SourceRecipe, When
from provision.model.request import Request
from provision.model.versions import Dotted, numbers
from provision.resolve.candidates import Candidate
from provision.resolve.compilers import Choice, choose
from provision.resolve.copts import CpuTarget, copts, target, too_old_for
from provision.resolve.targets import targets


class Row(Protocol):
    @property
    def when(self) -> When: ...


R = TypeVar("R", bound=Row)


@dataclass(frozen=True, kw_only=True)  # cached_property needs a __dict__
class Told:
    """One source candidate on one host, and what follows from both."""

    candidate: Candidate
    facts: Facts
    request: Request
    catalog: Catalog
    python: str = ""
    """Empty while the Python is not chosen yet."""

    @property
    def recipe(self) -> SourceRecipe:
        return cast("SourceRecipe", self.candidate.release.recipe)  # a source candidate has one

    @property
    def version(self) -> str:
        return self.candidate.release.version

    @property
    def device(self) -> str:
        return self.candidate.build.device

    @property
    def table(self) -> BuildTable:
        return self.catalog.builds.get(self.candidate.framework, BuildTable())

    @cached_property
    def choice(self) -> Choice:
        return choose(self.recipe, self.device, self.facts, self.request, self.catalog)

    @property
    def compiler(self) -> Compiler | None:
        return self.choice.compiler

    @property
    def compiler_text(self) -> str | None:
        """ "GCC 12.2.0"; the release's own where it brings one."""
        return str(self.compiler) if self.compiler else self.recipe.compiler

    @cached_property
    def target(self) -> CpuTarget:
        return target(self.request.cpu, self.facts.cpu.flags, self.catalog, self.request.cpu_flags)

    @cached_property
    def copts(self) -> tuple[Copt, ...]:
        return copts(self.target, self.facts.cpu.arch, self.compiler_text, self.catalog)

    @cached_property
    def left_out(self) -> tuple[CompilerFlag, ...]:
        """Flags of the target that the compiler is too old for."""
        return too_old_for(self.target, self.facts.cpu.arch, self.compiler_text, self.catalog)

    @cached_property
    def missing(self) -> tuple[str, ...]:
        """CPU flags of the options that this host lacks; nothing where its flags are not known."""
        here = frozenset(self.facts.cpu.flags)
        used = {flag for each in self.copts for flag in each.flag.split(",")}
        return tuple(sorted(used - here)) if here else ()

    @property
    def runs_here(self) -> bool:
        return not self.missing

    @property
    def source(self) -> Source:
        """As asked, else the release's own."""
        if self.request.source is not None:
            return self.request.source
        recipe, version = self.recipe, self.version
        if recipe.repository is None:
            name = self.candidate.framework
            return Source(kind="index", location=f"{name}=={version}", version=version)
        ref = recipe.tag.replace("{version}", version)
        return Source(kind="git", location=recipe.repository, ref=ref, version=version, bazel=recipe.bazel)

    @cached_property
    def capabilities(self) -> tuple[str, ...]:
        """Compute capabilities to compile for, "8.6" or "9.0+PTX"; those of the box where none were asked for."""
        if self.device != "cuda":
            return ()
        if self.request.compute_capabilities:
            return self.request.compute_capabilities
        found = {each.capability for each in targets(self.facts, self.request) if each.capability}
        return tuple(str(each) for each in sorted(found))

    @cached_property
    def words(self) -> dict[str, str]:
        """What stands for the braces that the resolver fills."""
        build = self.candidate.build
        return {
            "{compiler}": self.compiler.path if self.compiler else "",
            "{cxx}": companion(self.compiler) if self.compiler else "",
            "{python_minor}": self.python,
            "{version}": self.version,
            "{series}": self.candidate.release.series,
            "{cuda}": build.cuda or "",
            "{cudnn}": build.cudnn or "",
            "{cudnn_major}": (build.cudnn or "").split(".")[0],
            "{capabilities}": ",".join(each.removesuffix("+PTX") for each in self.capabilities),
            "{words}": ",".join(capability_words(self.capabilities)),
            "{arch_list}": ";".join(self.capabilities),
            "{options}": " ".join(each.option for each in self.copts),
        }

    def filled(self, text: str) -> str:
        for word, value in self.words.items():
            text = text.replace(word, value)
        return text

    def rows(self, found: Iterable[R]) -> tuple[R, ...]:
        """Those that hold here, in the table's order."""
        return tuple(row for row in found if self.holds(row.when))

    def holds(self, when: When) -> bool:
        return (
            self._of_release(when)
            and when.device in (None, self.device)
            and self._of_compiler(when)
            and not (when.elsewhere and self.runs_here)
            and (not when.without or self._lacks(when.without))
        )

    def _of_release(self, when: When) -> bool:
        series = numbers(self.candidate.release.series)
        return (when.first is None or series >= numbers(when.first)) and (
            when.last is None or series <= numbers(when.last)
        )

    def _of_compiler(self, when: When) -> bool:
        if when.compiler is None:
            return True
        if self.compiler is None or when.compiler != self.compiler.family:
            return self.compiler is None and when.compiler == "own"
        if not self.compiler.version:
            return not (when.compiler_from or when.compiler_below)
        version = Dotted(self.compiler.version)
        return (when.compiler_from is None or version >= Dotted(when.compiler_from)) and (
            when.compiler_below is None or version < Dotted(when.compiler_below)
        )

    def _lacks(self, flags: tuple[str, ...]) -> bool:
        """Whether the build is for a CPU without one of ``flags``. One that is not known is taken to have them."""
        return self.target.flags is not None and not set(flags) <= self.target.flags


def companion(compiler: Compiler) -> str:
    """The C++ compiler beside it: "/usr/bin/g++-12" of "/usr/bin/gcc-12"."""
    folder, _, name = compiler.path.rpartition("/")
    c, cxx = ("clang", "clang++") if compiler.family == "clang" else ("gcc", "g++")
    return f"{folder}/{cxx.join(name.rsplit(c, 1))}"


def capability_words(capabilities: tuple[str, ...]) -> list[str]:
    """TensorFlow's words: sm_86 is compiled code, compute_90 PTX with it."""
    words = []
    for text in capabilities:
        kind = "compute" if text.endswith("+PTX") else "sm"
        words.append(f"{kind}_{text.removesuffix('+PTX').replace('.', '')}")
    return words
