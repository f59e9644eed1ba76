"""The table of instructions against the GNU assembler: which of them it refuses without which flag."""

from __future__ import annotations

import itertools
import re
import shutil
import subprocess
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import pytest

pytestmark = [
    pytest.mark.skipif(not shutil.which("as") or not shutil.which("objdump"), reason="needs binutils"),
    pytest.mark.skipif(
        "x86-64" not in subprocess.run(["as", "--version"], capture_output=True, text=True).stdout
        and "x86_64" not in subprocess.run(["as", "--version"], capture_output=True, text=True).stdout,
        reason="needs an assembler for x86-64",
    ),
]

GAS = {
    "pni": "sse3", "sse4_1": "sse4.1", "sse4_2": "sse4.2", "abm": "lzcnt", "bmi1": "bmi", "pclmulqdq": "pclmul",
    "sha_ni": "sha",
}  # fmt: skip
"""What the assembler calls a flag, where Linux calls it something else."""
TWINS = {"aes": ["vaes"], "pclmulqdq": ["vpclmulqdq"]}
"""Flags whose instructions on 16 bytes the assembler takes for another one too."""
NOT_COUNTED = re.compile(
    r"[lm]fence|.*kl|encodekey.*|loadiwkey|tzcnt|fisttp.*|[lf]?xsave.*|fxrstor.*|prefetch.*|clflush"
    r"|cvtt?p[sd]2pi|cvtpi2p[sd]|ldmxcsr|stmxcsr"
)
"""Not told apart on purpose: fences, key locker, TZCNT (older CPUs run it as BSF), and what works on MMX registers."""

VECTORS = (
    "%xmm1,%xmm2", "%xmm1,%xmm2,%xmm3", "%xmm1,%xmm2,%xmm3,%xmm4", "$1,%xmm1", "$1,%xmm1,%xmm2", "$1,%xmm1,%xmm2,%xmm3",
    "(%rax),%xmm1", "(%rax),%xmm1,%xmm2", "%xmm1,(%rax)", "%xmm1,%xmm2,(%rax)", "$1,(%rax),%xmm1", "$1,%xmm1,(%rax)",
    "$1,(%rax),%xmm1,%xmm2", "$1,%xmm1,%eax", "$1,%xmm1,%rax", "$1,%eax,%xmm1", "$1,%eax,%xmm1,%xmm2",
    "$1,%rax,%xmm1,%xmm2", "%xmm1,%eax", "%xmm1,%rax", "%eax,%xmm1", "%rax,%xmm1", "%eax,%xmm1,%xmm2",
    "%xmm1,(%rax,%xmm2,4),%xmm3", "%xmm1,%k1", "%k1,%xmm1", "%xmm1,%xmm2,%k1", "$1,%xmm1,%xmm2,%k1", "$1,%xmm1,%k1",
    "(%rax,%xmm2,4),%xmm3{%k1}", "%xmm3,(%rax,%xmm2,4){%k1}", "(%rax,%xmm2,4){%k1}", "%xmm1,%xmm2{%k1}",
    "%xmm1,%xmm2,%xmm3{%k1}{z}", "$1,%xmm1,%xmm2,%xmm3{%k1}", "(%rax){1to4},%xmm1,%xmm2", "(%rax){1to2},%xmm1,%xmm2",
    "(%rax){1to8},%xmm1,%xmm2", "(%rax){1to16},%xmm1,%xmm2", "%xmm1,(%rax){%k1}", "%xmm17,%xmm18",
    "%xmm17,%xmm18,%xmm19", "(%rax),%xmm17", "%xmm17,(%rax)", "$1,%xmm17,%xmm18", "$1,%xmm17,%xmm18,%xmm19",
    "%eax,%xmm17", "%xmm17,%eax", "%rax,%xmm17", "%xmm17,%rax", "$1,%xmm17,%eax", "$1,%eax,%xmm17,%xmm18",
    "%eax,%xmm17,%xmm18", "$1,%xmm17,(%rax)", "$1,(%rax),%xmm17,%xmm18", "$1,$2,%xmm1", "$1,$2,%xmm1,%xmm2",
    "$1,%xmm1,%xmm2,%xmm3,%xmm4", "$1,(%rax),%k1", "{sae},%xmm1,%xmm2", "{rn-sae},%xmm1,%xmm2,%xmm3",
    "{sae},%xmm1,%xmm2,%xmm3", "$1,{sae},%xmm1,%xmm2", "{sae},%xmm1,%eax", "{rn-sae},%xmm1,%xmm2", "(%rax),%xmm4,%xmm1",
)  # fmt: skip
OTHERS = (
    "", "(%rax)", "%eax,%ecx", "%rax,%rcx", "%eax,%ecx,%edx", "%rax,%rcx,%rdx", "(%rax),%ecx", "(%rax),%rcx",
    "(%rax),%ecx,%edx", "%eax,(%rcx)", "$1,%eax,%ecx", "$1,%rax,%rcx", "$1,(%rax),%ecx", "%k1,%k2", "%k1,%k2,%k3",
    "$1,%k1,%k2", "%k1,%eax", "%eax,%k1", "%k1,%rax", "%rax,%k1", "%k1,(%rax)", "(%rax),%k1", "%tmm1",
    "%tmm1,%tmm2,%tmm3", "(%rax,%rbx,1),%tmm1", "%tmm1,(%rax,%rbx,1)", "%mm1,%mm2", "$1,%mm1,%mm2", "(%rax),%mm1",
    "$1,%mm1", "$1,%mm1,%eax", "$1,%eax,%mm1", "%mm1,(%rax)",
)  # fmt: skip


def widened(operands: str) -> Iterable[str]:
    """With each of the registers in each width: %xmm1,%ymm2 and so on."""
    parts = operands.split("xmm")
    for widths in itertools.product("xyz", repeat=len(parts) - 1):
        if len(set(widths)) <= 2:
            yield parts[0] + "".join(f"{width}mm{part}" for width, part in zip(widths, parts[1:], strict=True))


def refused(lines: Sequence[str], arch: Sequence[str] = ()) -> set[int]:
    """The numbers (from 0) of the lines that the assembler does not take."""
    head = [f".arch .no{one}" for one in arch]
    done = subprocess.run(
        ["as", "--64", "-Z", "-o", "/dev/null", "-"],
        input="\n".join([*head, *lines, ""]),
        capture_output=True,
        text=True,
    )
    found = {
        int(number) - 1 - len(head) for number in re.findall(r"^\{standard input\}:(\d+): Error", done.stderr, re.M)
    }
    if any(number < 0 for number in found):
        pytest.skip(f"this assembler has no {', '.join(arch)}")
    return found


def codes(lines: Sequence[str], folder: Path, arch: Sequence[str] = ()) -> list[tuple[bytes, str]]:
    """The bytes of each line, and what objdump makes of them."""
    head = [f".arch .no{one}" for one in arch]
    source = "\n".join([*head, *(f"s{number}:\n{line}" for number, line in enumerate(lines)), ""])
    subprocess.run(
        ["as", "--64", "-o", folder / "lines.o", "-"], input=source, text=True, check=True, capture_output=True
    )
    command = ["objdump", "-d", "-z", "--insn-width=16", str(folder / "lines.o")]
    text = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    found: list[tuple[bytes, str]] = [(b"", "")] * len(lines)
    here = -1
    for line in text.splitlines():
        label = re.match(r"[0-9a-f]+ <s(\d+)>:", line)
        here = int(label[1]) if label else here
        code = re.match(r" *[0-9a-f]+:\t((?:[0-9a-f]{2} )+) *\t(.*)", line)
        if code and not found[here][0]:
            found[here] = (bytes.fromhex(code[1]), code[2])
    return found


@dataclass(frozen=True)
class Corpus:
    lines: list[str]
    codes: list[bytes]
    claims: list[tuple[str, ...]]
    """What the table says of each."""


@pytest.fixture(scope="module")
def tables() -> Iterable[ModuleType]:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(Path(__file__).resolve().parents[2] / "checks"))
        import isa_files
        import isa_tables

        isa_tables.files = isa_files  # type: ignore[attr-defined]
        yield isa_tables


@pytest.fixture(scope="module")
def corpus(tables: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    """Each mnemonic that this assembler knows, with all the operands that it takes with it."""
    program = Path(shutil.which("as") or "").resolve().read_bytes()
    stored = {word.decode() for word in re.findall(rb"(?<=\0)([a-z][a-z0-9]{1,24})(?=\0)", program)}
    mnemonics = sorted(stored | {word[1:] for word in stored if word[0] == "v"})  # the tail of vaddps serves as addps
    operands = sorted({one for text in VECTORS for one in widened(text)} | set(OTHERS))
    asked = [f"{word} {text}" for word in mnemonics for text in operands]
    kept = []
    for begin in range(0, len(asked), 100_000):
        part = asked[begin : begin + 100_000]
        bad = refused(part)
        kept += [line for number, line in enumerate(part) if number not in bad]
    found = codes(kept, tmp_path_factory.mktemp("corpus"))
    return Corpus(kept, [code for code, _ in found], [claim(tables, code, text) for code, text in found])


def claim(tables: ModuleType, code: bytes, text: str) -> tuple[str, ...]:
    words = tables.files.WORDS
    while text.partition(" ")[0].encode() in words or text[:1] == "{":
        text = text.partition(" ")[2]
    mnemonic, _, operands = text.partition(" ")
    if not mnemonic or not tables.files.told_apart(mnemonic):
        return ()
    encoding, length = tables.encoding_of(code)
    found: tuple[str, ...] = tables.flags_of(encoding, mnemonic, operands.strip(), length)
    return found


def test_the_assembler_knows_enough_to_be_asked(corpus: Corpus) -> None:
    mnemonics = {line.split()[0] for line in corpus.lines}
    assert len(corpus.lines) > 8000
    assert {"addps", "vpermq", "vfmadd231ps", "vpdpbusd", "kmovw", "lzcnt", "pdep", "crc32", "aesenc"} <= mnemonics


FLAGS = (
    "sse sse2 pni ssse3 sse4_1 sse4_2 sse4a popcnt abm movbe adx aes pclmulqdq sha_ni gfni avx f16c fma avx2 bmi1 bmi2 "
    "fma4 xop tbm vaes vpclmulqdq avx_vnni avx_ifma avx_vnni_int8 avx_ne_convert avx512f avx512cd avx512bw avx512dq "
    "avx512vl avx512er avx512pf avx512ifma avx512vbmi avx512_vbmi2 avx512_vnni avx512_bitalg avx512_vpopcntdq "
    "avx512_bf16 avx512_fp16 avx512_vp2intersect avx512_4vnniw avx512_4fmaps amx_tile amx_int8 amx_bf16 amx_fp16"
)


@pytest.mark.parametrize("flag", FLAGS.split())
def test_what_needs_a_flag_is_what_the_assembler_refuses_without_it(
    corpus: Corpus, tables: ModuleType, tmp_path: Path, flag: str
) -> None:
    without = [GAS.get(one, one) for one in (flag, *TWINS.get(flag, ()))]
    bad = refused(corpus.lines, without)
    unknown = {
        corpus.lines[number]: corpus.claims[number]
        for number in sorted(bad)
        if flag not in tables.closure(corpus.claims[number])
        and "%mm" not in corpus.lines[number]
        and not NOT_COUNTED.fullmatch(corpus.lines[number].split()[0])
    }
    assert not unknown
    taken = [number for number, flags in enumerate(corpus.claims) if flag in flags and number not in bad]
    # it may know another encoding, which needs another flag: FMA's instructions are there in EVEX too
    others = codes([corpus.lines[number] for number in taken], tmp_path, without)
    same = [
        corpus.lines[number] for number, (code, _) in zip(taken, others, strict=True) if code == corpus.codes[number]
    ]
    assert not same


def test_all_flags_are_asked_about(tables: ModuleType) -> None:
    unknown_to_binutils_240 = {"amx_complex"}
    assert set(FLAGS.split()) | unknown_to_binutils_240 | {"cx16"} == tables.KNOWN


def test_what_a_flag_implies_is_known_and_ends(tables: ModuleType) -> None:
    assert tables.closure(["avx512bw"]) >= {"avx512f", "avx2", "fma", "avx", "sse4_2", "popcnt", "sse2"}
    assert {one for row in tables.IMPLIES.values() for one in row.split()} <= tables.KNOWN


@pytest.mark.parametrize(
    ("code", "encoding", "length"),
    [
        ("62 f1 7c 48 58 c1", "evex", 2),
        ("62 f1 7c 28 58 c1", "evex", 1),
        ("62 f1 7c 18 58 c1", "evex", 2),  # {rn-sae}: the length's bits hold the rounding
        ("67 62 f1 7c 08 58 00", "evex", 0),
        ("c5 f4 58 c1", "vex", 1),
        ("c4 e2 75 b8 c2", "vex", 1),
        ("8f e8 78 c2 c1 01", "xop", 0),
        ("8f 00 90", "legacy", 0),  # POP (%rax)
        ("66 0f 58 c1", "legacy", 0),
        ("c3", "legacy", 0),
    ],
)
def test_an_encoding(tables: ModuleType, code: str, encoding: str, length: int) -> None:
    assert tables.encoding_of(bytes.fromhex(code)) == (encoding, length)


GCC_OPTIONS: dict[str, tuple[str, str]] = {
    "avx2": ("-mavx2", "void f(int*a){for(int i=0;i<64;i++)a[i]=a[i]*3+1;}"),
    "avx": ("-mavx", "void f(float*a){for(int i=0;i<64;i++)a[i]=a[i]*3+1;}"),
    "fma": ("-mfma", "double f(double a,double b,double c){return __builtin_fma(a,b,c);}"),
    "f16c": ("-mf16c", "#include <immintrin.h>\nfloat f(short a){return _cvtsh_ss(a);}"),
    "sse4_1": ("-msse4.1", "double f(double a){return __builtin_floor(a);}"),
    "ssse3": ("-mssse3", "#include <tmmintrin.h>\n__m128i f(__m128i a){return _mm_abs_epi8(a);}"),
    "popcnt": ("-mpopcnt", "int f(unsigned long a){return __builtin_popcountl(a);}"),
    "abm": ("-mlzcnt", "int f(unsigned long a){return __builtin_clzl(a);}"),
    "bmi1": ("-mbmi", "long f(long a,long b){return ~a&b;}"),
    "bmi2": ("-mbmi2", "long f(long a,int b){return a<<b;}"),
    "movbe": ("-mmovbe", "long f(long*a){return __builtin_bswap64(*a);}"),
    "avx512f": ("-mavx512f -mprefer-vector-width=512", "void f(float*a){for(int i=0;i<64;i++)a[i]=a[i]*3+1;}"),
    "avx512vl": ("-mavx512vl", "#include <immintrin.h>\n__m256i f(__m256i a){return _mm256_abs_epi64(a);}"),
    "avx512bw": ("-mavx512bw", "#include <immintrin.h>\n__m512i f(__m512i a){return _mm512_add_epi8(a,a);}"),
    "avx512dq": ("-mavx512dq", "#include <immintrin.h>\n__m512i f(__m512i a){return _mm512_mullo_epi64(a,a);}"),
    "avx512_vnni": ("-mavx512vnni", "#include <immintrin.h>\n__m512i f(__m512i a){return _mm512_dpbusd_epi32(a,a,a);}"),
}


@pytest.mark.skipif(not shutil.which("gcc"), reason="needs GCC")
@pytest.mark.parametrize("flag", GCC_OPTIONS)
def test_gcc_makes_a_flags_instructions_with_its_option_alone(
    flag: str, tmp_path: Path, counted: Callable[..., dict[str, int]], tables: ModuleType
) -> None:
    option, source = GCC_OPTIONS[flag]
    found = counted(source, *option.split())
    assert found.get(flag, 0) > 0
    # and nothing that the option does not bring along
    assert set(found) <= tables.closure([flag, "sse2"])
    if "immintrin" not in source and "tmmintrin" not in source:
        assert flag not in counted(source)


@pytest.fixture
def counted(tables: ModuleType, tmp_path: Path) -> Callable[..., dict[str, int]]:
    def count(source: str, *options: str) -> dict[str, int]:
        (tmp_path / "one.c").write_text(source + "\n")
        library = tmp_path / "one.so"
        command = ["gcc", "-O3", "-ffast-math", "-nostdlib", "-shared", "-fPIC", *options, "-o", str(library)]
        subprocess.run([*command, str(tmp_path / "one.c")], check=True)
        read = tables.files.read(library)
        total: dict[str, int] = {}
        for piece in tables.files.pieces(read, []):
            total.update(tables.files.survey(piece, "objdump", tmp_path)["counts"])
        return total

    return count
