# /// script
# requires-python = ">=3.9"
# dependencies = []
# ///
"""Which functions of a library are run only on CPUs that have their instructions: isa_audit.py's evidence.

A function counts as run-time-dispatched by the first of these that holds:

- guard: it asks the CPU itself (CPUID or XGETBV is among its instructions);
- library: it is in a library that is known to choose its kernels itself (OpenBLAS, MKL, oneDNN, BLIS, libgfortran for
  its matrix product, …);
- name: a name of it, or of the source file that .symtab gives for it, names the instructions or a CPU that has them
  (xnn_f32_gemm_…_avx512f, sgemm_kernel_HASWELL, LONG_add_X86_V3, dot.avx2, FusedSGDKernel.cpp.AVX512.cpp), or is one
  of a family that is dispatched as a whole (mkl_…, __svml_…, Sleef_…). A name counts only up to what it promises:
  AVX-512 in a function called …_avx2 is not covered by it;
- ifunc: a resolver of the type IFUNC returns its address;
- neighbours: it has a local symbol, and the nearest global functions on both sides of it are
  dispatched: it is from their object files;
- callers: it is called or pointed at only by functions that are dispatched.

That is evidence, not proof: nobody follows the branches. What has a symbol and none of this is the library's own code,
which runs on every CPU. What has no symbol and none of this is unattributed.
"""

from __future__ import annotations

import re
from bisect import bisect_left, bisect_right
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field

RULE = (
    "dispatched: guard (CPUID in the function), library (known to choose itself), name (of the function or its source "
    "file, up to what it promises), ifunc, neighbours (in the object file), callers (all dispatched); own: any other "
    "function with a symbol; unattributed: the rest"
)

SELF_DISPATCHING = re.compile(
    r"lib(?:scipy_)?openblas|libgfortran|libmkl_|libdnnl|libmkldnn|libiomp5|libblis|libsleef|libsvml|libipp|libcrypto|libvpx|libdav1d"
)
"""Shared libraries that hold kernels for many CPUs and choose among them when they are loaded or called."""

TIERS = (
    (
        3,
        r"(?:avx_?512|avx10|avx_?3|avx256|amx|skylakex|skx|knl|knm|icelake|icl|cascadelake|cooperlake|sapphire|spr(?![a-z])"
        r"|graniterapids|zen[4-9]|x86_v4|x86_64_v4|zmm_)",
    ),
    (
        2,
        r"(?:avx|fma|f16c|xop|haswell|broadwell|skylake|zen(?![a-z])|znver|bulldozer|piledriver|steamroller"
        r"|excavator|sandybridge|ivybridge|x86_v3|x86_64_v3|ymm_|bmi|mulx)",
    ),
    (
        1,
        r"(?:s?sse|mmx|x86_v2|x86_64_v2|nehalem|westmere|penryn|core2|dunnington|prescott|atom(?![a-z])"
        r"|barcelona|opteron|bobcat|popcnt|clmul|pclmul|aesni|crc32)",
    ),
)
PATTERNS = tuple((tier, re.compile(pattern, re.IGNORECASE)) for tier, pattern in TIERS)
WHOLE = re.compile(
    r"^_{0,2}(?:mkl[_a-z]|svml_|Sleef_)|^_ZNK?6fbgemm\d|\.dispatch\.(?:c|cpp|h)"
    r"|^_{0,2}(?:bn_|ecp_nistz256_|beeu_|poly_Rq_mul|ChaCha20_|chacha20_|vpaes_|aes_hw_|aesgcmsiv_|aes\d+gcmsiv_|aesni_)"
    r"|^_{0,2}(?:sha\d+_block_data_order|shaext_|gcm_|rsaz_|poly1305_|HUF_decompress)|highwayhash\d+[A-Za-z]+ILj4E"
)
"""Families that are dispatched as a whole: Intel's MKL and SVML, SLEEF, FBGEMM (PyTorch asks fbgemmSupportedCPU first),
the files that NumPy compiles once for each set of features, the assembler of BoringSSL and OpenSSL, Zstandard's Huffman
decoders, and HighwayHash's code for its target 4, AVX2."""


def tier_of_flag(flag: str) -> int:
    """3 for what EVEX and AMX brought, 2 for VEX, 1 for what is older."""
    if flag.startswith(("avx512", "amx")):
        return 3
    old = ("sse", "pni", "ssse3", "aes", "pclmulqdq", "sha_ni", "gfni", "popcnt", "cx16", "adx")
    return 1 if flag.startswith(old) else 2


def tier_of_name(name: str) -> int:
    """What a function or source file called so may hold; 0 for a name that says nothing."""
    if WHOLE.search(name):
        return 3
    return next((tier for tier, pattern in PATTERNS if _found(pattern, name)), 0)


def _found(pattern: re.Pattern[str], name: str) -> bool:
    return any(_begins_word(name, match.start()) for match in pattern.finditer(name))


def _begins_word(name: str, at: int) -> bool:
    if at == 0 or not name[at - 1].isalpha():
        return True
    new_word = name[at : at + 2].istitle() or name[at - 1].islower()  # DenseMMAvx2, hasAVX2; not DAVX2
    return name[at].isupper() and new_word


@dataclass
class Evidence:
    """What is known of one library's functions, by address."""

    library: str
    names: Mapping[int, Collection[str]]
    """With the source file's name, where .symtab gives it."""
    local: Collection[int]
    globals: list[int]
    """The global functions, in order."""
    guarded: Collection[int]
    targets: Collection[int]
    """What IFUNC resolvers return."""
    _told: dict[int, tuple[int, str]] = field(default_factory=dict)

    def of(self, function: int) -> tuple[int, str]:
        """Up to which tier the function is dispatched, and by what; 0 and nothing where it is not."""
        if function not in self._told:
            self._told[function] = self._look(function)
        return self._told[function]

    def _look(self, function: int) -> tuple[int, str]:
        if function in self.guarded:
            return 3, "guard"
        if SELF_DISPATCHING.match(self.library):
            return 3, "library"
        tier = max(map(tier_of_name, self.names.get(function, ())), default=0)
        if tier == 3:
            return tier, "name"
        if function in self.targets:
            return 3, "ifunc"
        # MKL's xblock_fma_row_3 is there once for each CPU: its own name promises less than those around it
        around = self._neighbours(function) if function in self.local else 0
        if around > tier:
            return around, "neighbours"
        return (tier, "name") if tier else (0, "")

    def _neighbours(self, function: int) -> int:
        after = bisect_right(self.globals, function)
        before = bisect_left(self.globals, function) - 1
        if before < 0 or after >= len(self.globals):
            return 0
        return min(max(map(tier_of_name, self.names.get(self.globals[at], ())), default=0) for at in (before, after))

    def learn(self, function: int, tier: int, how: str) -> None:
        self._told[function] = (tier, how)


def by_callers(
    evidence: Evidence, asked: Mapping[int, int], callers: Mapping[int, Collection[int]], stored: Collection[int]
) -> None:
    """Learn which of ``asked`` (function -> the tier that it needs) only dispatched functions lead to.

    ``stored``: functions whose addresses lie in data: who takes them from there is not known.
    """
    open_ = {function for function in asked if callers.get(function) and function not in stored}
    # what any caller that is not dispatched leads to falls out, and then what that one leads to
    while True:
        fallen = {
            function
            for function in open_
            if any(
                caller not in open_ and evidence.of(caller)[0] < asked[function]
                for caller in callers[function]
                if caller != function
            )
        }
        if not fallen:
            break
        open_ -= fallen
    for function in _reached(open_, callers):
        evidence.learn(function, asked[function], "callers")


def _reached(open_: set[int], callers: Mapping[int, Collection[int]]) -> Iterable[int]:
    """Those that a dispatched function outside leads to: functions that only call each other are nobody's."""
    found: set[int] = set()
    while True:
        more = {
            function
            for function in open_ - found
            if any(caller in found or (caller not in open_ and caller != function) for caller in callers[function])
        }
        if not more:
            return found
        found |= more
