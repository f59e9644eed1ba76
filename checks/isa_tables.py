# /// script
# requires-python = ">=3.9"
# dependencies = []
# ///
"""Which CPU flags one x86-64 instruction needs: isa_audit.py's table.

Written from the instruction reference of Intel's Software Developer's Manual (volume 2: "CPUID feature flag" of each
instruction, table 2-36 for EVEX) and AMD's manual (volumes 3 and 4, for XOP, FMA4, TBM, SSE4A), and held against the
GNU assembler: tests/checks/test_check_isa_tables.py assembles every mnemonic that the installed one knows, and asks
it, flag by flag, which of them it refuses without the flag.

Flags carry the names of Linux (/proc/cpuinfo). Told apart are those that a compiler uses for computing; the x86-64
minimum (x87, MMX, FXSR, CMOV) and instructions for the system, for random numbers, transactions, caches and fences
are not counted. TZCNT is not evidence of BMI1: it is REP BSF, which compilers emit for every x86-64, since older CPUs
run it as BSF.
"""

from __future__ import annotations

import re
from functools import cache

LEGACY, VEX, EVEX, XOP = "legacy", "vex", "evex", "xop"

IMPLIES = {
    "sse2": "sse", "pni": "sse2", "ssse3": "pni", "sse4_1": "ssse3", "sse4_2": "sse4_1 popcnt", "sse4a": "pni",
    "aes": "sse2", "pclmulqdq": "sse2", "sha_ni": "sse2", "gfni": "sse2", "avx": "sse4_2", "f16c": "avx", "fma": "avx",
    "avx2": "avx", "avx_vnni": "avx2", "avx_ifma": "avx2", "avx_vnni_int8": "avx2", "avx_ne_convert": "avx2",
    "vaes": "avx2 aes", "vpclmulqdq": "avx2 pclmulqdq", "fma4": "avx sse4a", "xop": "fma4", "avx512f": "avx2 fma f16c",
    "avx512bw": "avx512f", "avx512dq": "avx512f", "avx512vl": "avx512f", "avx512cd": "avx512f", "avx512er": "avx512f",
    "avx512pf": "avx512f", "avx512ifma": "avx512f", "avx512vbmi": "avx512bw", "avx512_vbmi2": "avx512bw",
    "avx512_vnni": "avx512f", "avx512_bitalg": "avx512bw", "avx512_vpopcntdq": "avx512f", "avx512_bf16": "avx512bw",
    "avx512_fp16": "avx512bw avx512dq avx512vl", "avx512_vp2intersect": "avx512f", "avx512_4vnniw": "avx512f",
    "avx512_4fmaps": "avx512f", "amx_int8": "amx_tile", "amx_bf16": "amx_tile", "amx_fp16": "amx_tile",
    "amx_complex": "amx_tile",
}  # fmt: skip
"""What a compiler's option for the flag brings along; every CPU that has the first has the second too."""

SUPERSEDED = {
    **dict.fromkeys(("sse", "sse2", "pni", "ssse3", "sse4_1"), ("sse4_2", "avx", "avx2", "avx512f")),
    "sse4_2": ("avx",), "avx": ("avx2", "avx512f"), "avx2": ("avx512f",), "fma": ("avx512f",), "f16c": ("avx512f",),
    "avx_vnni": ("avx512_vnni",),
}  # fmt: skip
"""Flags whose instructions take another's place: a compiler told -mavx writes no SSE encoding at all."""

MINIMUM = frozenset({"sse", "sse2"})
"""Every x86-64 CPU has them."""


def closure(flags: object) -> frozenset[str]:
    """``flags`` and what they imply."""
    found: set[str] = set()
    waiting = list(flags)  # type: ignore[call-overload]
    while waiting:
        flag = waiting.pop()
        if flag not in found:
            found.add(flag)
            waiting += IMPLIES.get(flag, "").split()
    return frozenset(found)


def _words(flag: str, text: str) -> dict[str, str]:
    return dict.fromkeys(text.split(), flag)


PLAIN = {
    **_words("pni", "addsubpd addsubps haddpd haddps hsubpd hsubps lddqu movddup movshdup movsldup"),
    **_words(
        "ssse3",
        "pabsb pabsd pabsw palignr phaddd phaddsw phaddw phsubd phsubsw phsubw pmaddubsw pmulhrsw pshufb psignb psignd "
        "psignw",
    ),
    **_words(
        "sse4_1",
        "blendpd blendps blendvpd blendvps dppd dpps extractps insertps movntdqa mpsadbw packusdw pblendvb pblendw "
        "pcmpeqq pextrb pextrd pextrq phminposuw pinsrb pinsrd pinsrq pmaxsb pmaxsd pmaxud pmaxuw pminsb pminsd pminud "
        "pminuw pmovsxbd pmovsxbq pmovsxbw pmovsxdq pmovsxwd pmovsxwq pmovzxbd pmovzxbq pmovzxbw pmovzxdq pmovzxwd "
        "pmovzxwq pmuldq pmulld ptest roundpd roundps roundsd roundss",
    ),
    **_words("sse4_2", "pcmpgtq pcmpestri pcmpestrm pcmpistri pcmpistrm crc32 crc32b crc32w crc32l crc32q"),
    **_words("sse4_2", "pcmpestril pcmpestrmq pcmpestriq pcmpestrml"),
    **_words("sse4a", "extrq insertq movntsd movntss"),
    **_words("popcnt", "popcnt popcntw popcntl popcntq"),
    **_words("abm", "lzcnt lzcntw lzcntl lzcntq"),
    **_words("movbe", "movbe movbew movbel movbeq"),
    **_words("adx", "adcx adcxl adcxq adox adoxl adoxq"),
    **_words("cx16", "cmpxchg16b"),
    **_words("aes", "aesdec aesdeclast aesenc aesenclast aesimc aeskeygenassist"),
    **_words("pclmulqdq", "pclmulqdq pclmullqlqdq pclmulhqlqdq pclmullqhqdq pclmulhqhqdq"),
    **_words("sha_ni", "sha1msg1 sha1msg2 sha1nexte sha1rnds4 sha256msg1 sha256msg2 sha256rnds2"),
    **_words("gfni", "gf2p8affineinvqb gf2p8affineqb gf2p8mulb"),
}
"""Instructions in the encoding of SSE and older, but for SSE and SSE2 themselves."""

_COMPARES = "eq lt le unord neq nlt nle ord"
SSE = frozenset(
    _words(
        "sse",
        "addps addss andnps andps cmpps cmpss comiss cvtsi2ss cvtsi2ssl cvtsi2ssq cvtss2si cvttss2si divps divss "
        "maxps maxss minps minss movaps movhlps movhps movlhps movlps movmskps movntps movss movups mulps mulss orps "
        "rcpps rcpss rsqrtps rsqrtss shufps sqrtps sqrtss subps subss ucomiss unpckhps unpcklps xorps",
    )
) | {f"cmp{word}{kind}" for word in _COMPARES.split() for kind in ("ps", "ss")}
SSE2 = frozenset(
    _words(
        "sse2",
        "addpd addsd andnpd andpd cmppd cmpsd comisd cvtdq2pd cvtdq2ps cvtpd2dq cvtpd2ps cvtps2dq cvtps2pd cvtsd2si "
        "cvtsd2ss cvtsi2sd cvtsi2sdl cvtsi2sdq cvtss2sd cvttpd2dq cvttps2dq cvttsd2si divpd divsd maskmovdqu maxpd "
        "maxsd minpd minsd movapd movdqa movdqu movhpd movlpd movmskpd movntdq movnti movntil movntiq movntpd movsd "
        "movupd mulpd mulsd orpd pshufd pshufhw pshuflw pslldq psrldq punpckhqdq punpcklqdq shufpd sqrtpd sqrtsd "
        "subpd subsd ucomisd unpckhpd unpcklpd xorpd",
    )
) | {f"cmp{word}{kind}" for word in _COMPARES.split() for kind in ("pd", "sd")}
INTEGER = frozenset(
    _words(
        "sse2",
        "packssdw packsswb packuswb paddb paddd paddq paddsb paddsw paddusb paddusw paddw pand pandn pavgb pavgw "
        "pcmpeqb pcmpeqd pcmpeqw pcmpgtb pcmpgtd pcmpgtw pextrw pinsrw pmaddwd pmaxsw pmaxub pminsw pminub pmovmskb "
        "pmulhuw pmulhw pmullw pmuludq por psadbw pslld psllq psllw psrad psraw psrld psrlq psrlw psubb psubd psubq "
        "psubsb psubsw psubusb psubusw psubw punpckhbw punpckhdq punpckhwd punpcklbw punpckldq punpcklwd pxor movd "
        "movq",
    )
)
"""SSE2 on xmm registers, MMX on mm registers."""

VEX_PLAIN = {
    **_words("bmi1", "andn bextr bextrl bextrq blsi blsil blsiq blsmsk blsmskl blsmskq blsr blsrl blsrq"),
    **_words("bmi2", "bzhi mulx pdep pext rorx sarx shlx shrx"),
    **_words("bmi2", "bzhil bzhiq mulxl mulxq pdepl pdepq pextl pextq rorxl rorxq sarxl sarxq shlxl shlxq shrxl shrxq"),
    **_words("f16c", "vcvtph2ps vcvtps2ph"),
    **_words("amx_tile", "ldtilecfg sttilecfg tilerelease tileloadd tileloaddt1 tilestored tilezero"),
    **_words("amx_int8", "tdpbssd tdpbsud tdpbusd tdpbuud"),
    **_words("amx_bf16", "tdpbf16ps"),
    **_words("amx_fp16", "tdpfp16ps"),
    **_words("amx_complex", "tcmmimfp16ps tcmmrlfp16ps"),
    **_words("avx_vnni", "vpdpbusd vpdpbusds vpdpwssd vpdpwssds"),
    **_words("avx_ifma", "vpmadd52huq vpmadd52luq"),
    **_words("avx_vnni_int8", "vpdpbssd vpdpbssds vpdpbsud vpdpbsuds vpdpbuud vpdpbuuds"),
    **_words("avx_ne_convert", "vbcstnebf162ps vbcstnesh2ps vcvtneebf162ps vcvtneeph2ps vcvtneobf162ps vcvtneoph2ps"),
    **_words("avx_ne_convert", "vcvtneps2bf16 vcvtneps2bf16x vcvtneps2bf16y"),
    **_words("gfni", "vgf2p8affineinvqb vgf2p8affineqb vgf2p8mulb"),
    **_words(
        "avx2",
        "vbroadcasti128 vextracti128 vinserti128 vperm2i128 vpermd vpermps vpermpd vpermq vpblendd vpsllvd vpsllvq "
        "vpsrlvd vpsrlvq vpsravd vpmaskmovd vpmaskmovq vpbroadcastb vpbroadcastw vpbroadcastd vpbroadcastq vgatherdpd "
        "vgatherdps vgatherqpd vgatherqps vpgatherdd vpgatherdq vpgatherqd vpgatherqq",
    ),
}
FMA = re.compile(r"vf(?:n?madd|n?msub|maddsub|msubadd)(132|213|231)?[ps][sd]")
AVX_ON_YMM = frozenset({"vptest", "vpermilps", "vpermilpd", "vperm2f128"})
"""AVX, though they are called vp… and work on 32 bytes."""
MASK = re.compile(r"k(?:mov|andn?|x?n?or|not|ortest|test|add|unpck|shift[lr])(bw|wd|dq|[bwdq])")

_CAST = r"(?:vcvtt?pd2u?qq|vcvtt?ps2u?qq|vcvtu?qq2p[ds]|v(?:extract|insert|broadcast)[fi](?:64x2|32x8|32x2))[xyz]?"
EVEX_RULES = tuple(
    (flag, re.compile(pattern))
    for flag, pattern in (
        ("avx512_bf16", r"vcvtne2?ps2bf16[xyz]?|vcvtne2ps2bf16|vdpbf16ps"),
        ("avx512f", r"vcvtph2ps|vcvtps2ph"),
        ("avx512_fp16", r"v(?!p).*(?:ph|sh)[xyzlq]?|v.*(?:ph2|sh2|2ph|2sh).*|vmovw"),
        ("avx512cd", r"vpconflict[dq]|vplzcnt[dq]|vpbroadcastm(?:b2q|w2d)"),
        ("avx512ifma", r"vpmadd52[hl]uq"),
        ("avx512vbmi", r"vperm(?:i2|t2)?b|vpmultishiftqb"),
        ("avx512_vbmi2", r"vp(?:compress|expand)[bw]|vpsh[lr]dv?[wdq]"),
        ("avx512_vnni", r"vpdp(?:bus|wss)ds?"),
        ("avx512_bitalg", r"vpopcnt[bw]|vpshufbitqmb"),
        ("avx512_vpopcntdq", r"vpopcnt[dq]"),
        ("avx512_vp2intersect", r"vp2intersect[dq]"),
        ("avx512er", r"vexp2p[sd]|vrcp28[ps][sd]|vrsqrt28[ps][sd]"),
        ("avx512pf", r"v(?:gather|scatter)pf[01][dq]p[sd]"),
        ("avx512_4vnniw", r"vp4dpwssds?"),
        ("avx512_4fmaps", r"v4fn?madd[ps]s"),
        ("gfni", r"vgf2p8.*"),
        ("vaes", r"vaes.*"),
        ("vpclmulqdq", r"vpclmul.*"),
        (
            "avx512bw",
            r"vp(?:add|sub)u?s?[bw]|vpavg[bw]|vp(?:max|min)[su][bw]|vpmullw|vpmulhu?w|vpmulhrsw|vpmadd(?:wd|ubsw)"
            r"|vpack[su]s(?:wb|dw)|vpunpck[lh](?:bw|wd)|vpcmp(?:eq|gt|lt|le|neq|nlt|nle|ord|unord)?u?[bw]"
            r"|vptestn?m[bw]|vpblendm[bw]|vperm(?:i2|t2)?w|vps(?:ll|rl|ra)v?w|vps[lr]ldq|vpalignr|vpshufb|vpshuf[hl]w"
            r"|vpabs[bw]|vmovdqu(?:8|16)|vpmov[bw]2m|vpmovm2[bw]|vpmovu?s?wb|vpmov[sz]xbw|vpbroadcast[bw]|vpsadbw"
            r"|vdbpsadbw|vpextr[bw]|vpinsr[bw]",
        ),
        (
            "avx512dq",
            rf"{_CAST}|vpmullq|v(?:andn?|x?or)p[sd]|vrange[ps][sd]|vreduce[ps][sd]|vfpclass[ps][sd][xyz]?|vpmov[dq]2m"
            r"|vpmovm2[dq]|vpextr[dq]|vpinsr[dq]",
        ),
    )
)
SCALAR = re.compile(
    r"v(?!p|broadcast).*s[sdh][lq]?|v.*s[sdh]2u?si[lq]?|v4fn?maddss|vmov[dqw]|vp(?:insr|extr)[bwdq]|vinsertps|vextractps"
    r"|vmov[hl]p[sd]|vmov(?:lh|hl)ps"
)
"""EVEX instructions on one element, which work without AVX512VL."""
TBM = re.compile(r"bextr[lq]?|bl[cs](?:fill|ic?|msk|s)[lq]?|t(?:1m|z)skc?[lq]?|t1mskc[lq]?|tzmsk[lq]?")


def _legacy(mnemonic: str, operands: str) -> tuple[str, ...]:
    flag = PLAIN.get(mnemonic)
    if flag is not None:
        return (flag,)
    if mnemonic in INTEGER:
        if mnemonic == "pextrw" and "(" in operands:
            return ("sse4_1",)  # only its form in memory; the one into a register is SSE2's
        return ("sse2",) if "%xmm" in operands else ()
    if mnemonic in SSE:
        return ("sse",)
    return ("sse2",) if mnemonic in SSE2 else ()


def _vex(mnemonic: str, operands: str, length: int) -> tuple[str, ...]:
    flag = VEX_PLAIN.get(mnemonic)
    if flag is not None:
        return (flag, "avx") if flag == "gfni" else (flag,)
    if mnemonic[0] == "k":
        return _mask(mnemonic)
    if mnemonic.startswith(("vaes", "vpclmul")):
        narrow, wide = ("aes", "vaes") if mnemonic[1] == "a" else ("pclmulqdq", "vpclmulqdq")
        return (wide,) if length else (narrow, "avx")
    fused = FMA.fullmatch(mnemonic)
    if fused:
        return ("fma",) if fused[1] else ("fma4",)
    if mnemonic in ("vbroadcastss", "vbroadcastsd"):
        return ("avx",) if "(" in operands or "0x" in operands.split(",")[0] else ("avx2",)
    if mnemonic in ("vpermil2pd", "vpermil2ps"):
        return ("xop",)
    wide_integer = mnemonic.startswith("vp") and mnemonic not in AVX_ON_YMM
    if length and (wide_integer or mnemonic in ("vmovntdqa", "vmpsadbw")):
        return ("avx2",)
    return ("avx",) if mnemonic[0] == "v" else ()


def _mask(mnemonic: str) -> tuple[str, ...]:
    found = MASK.fullmatch(mnemonic)
    if not found:
        return ()
    width = found[1]
    if width in ("bw", "w"):
        return ("avx512dq",) if mnemonic in ("kaddw", "ktestw") else ("avx512f",)
    return ("avx512dq",) if width == "b" else ("avx512bw",)


def _evex(mnemonic: str, length: int) -> tuple[str, ...]:
    flag = next((flag for flag, pattern in EVEX_RULES if pattern.fullmatch(mnemonic)), "avx512f")
    narrow = length < 2 and not SCALAR.fullmatch(mnemonic)
    flags = (flag, "avx512f") if flag in ("gfni", "vaes", "vpclmulqdq") else (flag,)
    return (*flags, "avx512vl") if narrow else flags


@cache
def flags_of(encoding: str, mnemonic: str, operands: str, length: int) -> tuple[str, ...]:
    """What one instruction needs; nothing where every x86-64 CPU runs it, or it is not told apart.

    ``mnemonic``, ``operands``: as objdump writes them (AT&T). ``length``: 0, 1, 2 for vectors of 16, 32, 64 bytes.
    """
    if encoding == EVEX:
        return _evex(mnemonic, length)
    if encoding == VEX:
        return _vex(mnemonic, operands, length)
    if encoding == XOP:
        if mnemonic[0] != "v":
            return ("tbm",) if TBM.fullmatch(mnemonic) else ()  # LWP profiles a program, and is not told apart
        return ("xop",)
    return _legacy(mnemonic, operands)


PREFIXES = frozenset({0x26, 0x2E, 0x36, 0x3E, 0x64, 0x65, 0x66, 0x67, 0xF2, 0xF3, 0xF0})


def encoding_of(code: bytes) -> tuple[str, int]:
    """The encoding of the instruction that ``code`` begins with, and its vector length (0, 1, 2).

    In 64-bit mode 0x62 is always EVEX, 0xC4 and 0xC5 always VEX; 0x8F is XOP where its map is 8 or higher (else POP).
    """
    at = 0
    while at < len(code) and code[at] in PREFIXES:
        at += 1
    code = code[at : at + 6]
    if len(code) < 3:
        return LEGACY, 0
    if code[0] == 0x62 and len(code) == 6:
        rounding = code[3] & 0x10 and code[5] >> 6 == 3  # then the length's bits say how to round
        return EVEX, 2 if rounding else min(2, code[3] >> 5 & 3)
    if code[0] == 0xC5:
        return VEX, code[1] >> 2 & 1
    if code[0] == 0xC4:
        return VEX, code[2] >> 2 & 1
    if code[0] == 0x8F and code[1] & 0x1F >= 8:
        return XOP, code[2] >> 2 & 1
    return LEGACY, 0


KNOWN = frozenset(
    {"sse", "sse2", "avx", "avx512f", "xop", "tbm", "fma", "fma4", *PLAIN.values(), *VEX_PLAIN.values()}
    | {flag for flag, _ in EVEX_RULES}
    | {"avx512vl"}
)
"""Every flag that is told apart."""

VECTOR = frozenset(
    flag for flag in KNOWN if flag not in ("popcnt", "abm", "movbe", "adx", "cx16", "bmi1", "bmi2", "tbm")
)
