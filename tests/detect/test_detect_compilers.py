"""Compilers, from what the probe says of them."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from provision.detect.compilers import compilers
from provision.detect.host import host_facts
from provision.detect.mask import masked
from provision.model.build import Compiler
from provision.model.chips import Chips
from provision.model.readings import Readings
from provision.render.facts import facts_text

TEXT = """\
/usr/bin/gcc-11 11.4.0
/usr/lib/llvm-16/bin/clang Debian clang version 16.0.6 (15~deb12u1)
/usr/bin/gcc-12 12.2.0
/usr/bin/clang-18 clang version 18.1.8 (Fedora 18.1.8-1.fc40)
/usr/lib/llvm-14/bin/clang Ubuntu clang version 14.0.0-1ubuntu1.1
"""


def found(text: str) -> tuple[Compiler, ...]:
    return compilers(Readings({"compilers": text}))


def test_each_family_newest_first() -> None:
    assert [(str(each), each.path) for each in found(TEXT)] == [
        ("GCC 12.2.0", "/usr/bin/gcc-12"),
        ("GCC 11.4.0", "/usr/bin/gcc-11"),
        ("Clang 18.1.8", "/usr/bin/clang-18"),
        ("Clang 16.0.6", "/usr/lib/llvm-16/bin/clang"),
        ("Clang 14.0.0", "/usr/lib/llvm-14/bin/clang"),
    ]


def test_what_says_no_version_is_none() -> None:
    assert (
        found("/usr/bin/gcc-9 \n/opt/gcc gcc: command not found\nrelative/gcc 12.2.0\n\n/usr/bin/gcc 12.2.0 x\n") == ()
    )
    assert compilers(Readings({})) == ()


@given(st.text(max_size=300))
def test_any_text_gives_compilers_and_no_error(text: str) -> None:
    assert all(each.path.startswith("/") and each.version for each in found(text))


def test_facts_and_their_text_have_them(chip_table: Chips) -> None:
    facts = host_facts(Readings({"compilers": TEXT}), chip_table, host="box")
    assert facts.system.compilers == found(TEXT)
    assert "compilers GCC 12.2.0 (/usr/bin/gcc-12), GCC 11.4.0 (/usr/bin/gcc-11), Clang 18.1.8" in facts_text(facts)
    nothing = host_facts(Readings({}), chip_table, host="box")
    assert "compilers" not in facts_text(nothing)


def test_a_dump_keeps_no_users_name() -> None:
    text = masked(Readings({"compilers": "/home/alice/gcc/bin/gcc 12.2.0\n"})).files["compilers"]
    assert "alice" not in text
