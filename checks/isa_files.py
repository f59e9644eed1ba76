# /// script
# requires-python = ">=3.9"
# dependencies = []
# ///
"""Shared libraries for isa_audit.py: where their functions lie, and what each function's instructions need.

A library is cut at the boundaries of its functions (from .symtab, .dynsym, and .eh_frame_hdr, which a stripped library
keeps) into pieces of some MiB. Each piece becomes a small ELF file of its own, with a mark at every function, so that
objdump starts anew there and cannot run from data into code half an instruction late. Pieces are disassembled side by
side. Holding all of a large library's names in every objdump would take 0.9 GB each.
"""

from __future__ import annotations

import json
import mmap
import os
import re
import struct
import subprocess
import sys
from array import array
from bisect import bisect_right
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import isa_tables

PIECE = 6 << 20
X86_64, AARCH64 = 62, 183
MACHINES = {3: "i386", 21: "ppc64", 22: "s390x", 40: "arm", X86_64: "x86_64", AARCH64: "aarch64", 243: "riscv64"}
NOTYPE, FUNCTION, FILE, IFUNC = 0, 2, 4, 10
JUMP_SLOT = 7


class NotReadable(Exception):
    """A file that is no ELF library, or a broken one."""


@dataclass(frozen=True)
class Span:
    """An executable section."""

    address: int
    offset: int
    size: int


@dataclass
class Symbols:
    names: dict[int, list[str]]
    globals: set[int] = field(default_factory=set)
    sources: dict[int, set[str]] = field(default_factory=dict)
    """Source files of local functions."""

    def add(self, address: int, name: str) -> None:
        if name and name not in self.names[address]:
            self.names[address].append(name)


def _text(data: mmap.mmap, begin: int) -> str:
    return data[begin : data.find(b"\0", begin)].decode("utf-8", "replace")


@dataclass
class Library:
    path: Path
    machine: str
    spans: list[Span]
    starts: array[int] = field(default_factory=lambda: array("Q"))
    """Where functions begin, in order; also where the code of a named one ends and none is known to begin."""
    named: set[int] = field(default_factory=set)
    resolvers: set[int] = field(default_factory=set)
    """Functions of the type IFUNC: the loader calls them, and they return which variant is to be used."""
    globals: set[int] = field(default_factory=set)
    tables: list[tuple[int, int, int, int]] = field(default_factory=list)
    """Symbol tables: offset, size, and the same of their names."""
    relocations: list[tuple[int, int, int]] = field(default_factory=list)
    """RELA tables: offset, size, and where their symbols are."""
    stubs: list[Span] = field(default_factory=list)

    def function(self, address: int) -> int:
        return self.starts[bisect_right(self.starts, address) - 1]

    def symbols(self, wanted: Iterable[int]) -> Symbols:
        """What the symbol tables say of the functions at ``wanted``."""
        found = Symbols({address: [] for address in wanted})
        with self.path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            for offset, size, names_at, _ in self.tables:
                source = 0
                for name, info, _, section, value, _ in struct.iter_unpack("<IBBHQQ", data[offset : offset + size]):
                    kind = info & 15
                    if kind == FILE:
                        source = name  # local symbols behind it are of this file
                    elif value in found.names and section and kind in (NOTYPE, FUNCTION, IFUNC):
                        found.add(value, _text(data, names_at + name))
                        if info >> 4:
                            found.globals.add(value)
                        elif source:
                            found.sources.setdefault(value, set()).add(_text(data, names_at + source))
        return found

    def indirect(self, wanted: set[int]) -> tuple[set[int], dict[int, int]]:
        """Those of ``wanted`` whose addresses stand in data, and the PLT's stubs that jump to one of them."""
        stored: set[int] = set()
        slots: dict[int, int] = {}
        with self.path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            for offset, size, symbols_at in self.relocations:
                for place, info, addend in struct.iter_unpack("<QQq", data[offset : offset + size]):
                    target = addend
                    if info >> 32:
                        target += struct.unpack_from("<Q", data, symbols_at + 24 * (info >> 32) + 8)[0]
                    if target in wanted:
                        if info & 0xFFFFFFFF == JUMP_SLOT:
                            slots[place] = target
                        else:
                            stored.add(target)
            return stored, {stub: slots[slot] for stub, slot in self._stubs(data) if slot in slots}

    def _stubs(self, data: mmap.mmap) -> Iterator[tuple[int, int]]:
        """The stubs of .plt, .plt.sec and .plt.got, each with the slot of the GOT that it jumps through."""
        for span in self.stubs:
            code = data[span.offset : span.offset + span.size]
            for jump in re.finditer(rb"\xff\x25(.{4})", code, re.DOTALL):
                at = span.address + jump.start()
                slot = at + 6 + struct.unpack("<i", jump[1])[0]
                yield at, slot
                yield at - at % 16, slot  # where ENDBR64 or BND precedes the jump


def read(path: Path) -> Library:
    """Raises NotReadable."""
    try:
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            return _read(path, data)
    except (OSError, ValueError, struct.error, IndexError) as error:
        raise NotReadable(f"{path.name}: {error}") from error


def _read(path: Path, data: mmap.mmap) -> Library:
    if data[:4] != b"\x7fELF":
        raise NotReadable(f"{path.name} is not an ELF file")
    machine = struct.unpack_from("<H", data, 18)[0]
    library = Library(path, MACHINES.get(machine, f"ELF machine {machine}"), [])
    if machine != X86_64 or data[4:6] != b"\x02\x01":
        return library
    (headers_at,) = struct.unpack_from("<Q", data, 40)
    size, count, names = struct.unpack_from("<HHH", data, 58)
    sections = [struct.unpack_from("<IIQQQQIIQQ", data, headers_at + size * index) for index in range(count)]
    table: list[int] = []
    for name, kind, flags, address, offset, length, link, *_ in sections:
        begin = sections[names][4] + name
        text = data[begin : data.find(b"\0", begin)]
        if kind == 1 and flags & 4 and length:  # PROGBITS, executable
            (library.stubs if text.startswith(b".plt") else library.spans).append(Span(address, offset, length))
        elif kind in (2, 11):  # SYMTAB, DYNSYM
            library.tables.append((offset, length, sections[link][4], sections[link][5]))
        elif kind == 4:  # RELA
            library.relocations.append((offset, length, sections[link][4]))
        elif text == b".eh_frame_hdr":
            table = _frames(data, address, offset)
    library.spans.sort(key=lambda span: span.address)
    _functions(library, data, table)
    return library


def _frames(data: mmap.mmap, address: int, offset: int) -> list[int]:
    """Function starts from the binary search table of .eh_frame_hdr (Linux Standard Base, "Exception Frames")."""
    if data[offset : offset + 4] != b"\x01\x1b\x03\x3b":  # the form that linkers write
        return []
    (count,) = struct.unpack_from("<I", data, offset + 8)
    pairs = struct.iter_unpack("<iI", data[offset + 12 : offset + 12 + 8 * count])
    return [address + start for start, _ in pairs]


def _functions(library: Library, data: mmap.mmap, frames: Iterable[int]) -> None:
    sizes: dict[int, int] = {}
    loose: set[int] = set()
    ends = [(span.address, span.address + span.size) for span in library.spans]
    low, high = (ends[0][0], ends[-1][1]) if ends else (0, 0)
    for offset, length, _, _ in library.tables:
        for _, info, _, section, value, size in struct.iter_unpack("<IBBHQQ", data[offset : offset + length]):
            kind = info & 15
            if not section or not low <= value < high:
                continue
            if kind in (FUNCTION, IFUNC):
                if sizes.get(value, -1) < size:
                    sizes[value] = size
                if kind == IFUNC:
                    library.resolvers.add(value)
                if info >> 4:
                    library.globals.add(value)
            elif kind == NOTYPE:
                loose.add(value)
    starts: list[int] = []
    extent = 0
    for value in sorted({*sizes, *loose, *frames, *(begin for begin, _ in ends)}):
        if value in sizes:
            if extent and value - extent >= 16:
                starts.append(extent)  # code behind a named function, as far as is known nobody's
            extent = max(extent, value + sizes[value]) if sizes[value] else 0
        elif value < extent:
            continue  # a label or a part inside a function
        elif value in loose:
            extent = 0
        starts.append(value)
        if value in sizes or value in loose:
            library.named.add(value)
    library.starts = array("Q", sorted({start for start in starts if low <= start < high}))


def pieces(library: Library, wanted: Sequence[str], most: int = PIECE) -> Iterator[dict[str, Any]]:
    """What `survey` is asked about, piece by piece."""
    for span in library.spans:
        marks = [start for start in library.starts if span.address <= start < span.address + span.size]
        begin = 0
        for index in range(len(marks)):
            end = marks[index + 1] if index + 1 < len(marks) else span.address + span.size
            if end - marks[begin] < most and index + 1 < len(marks):
                continue
            yield {
                "path": str(library.path),
                "offset": span.offset + marks[begin] - span.address,
                "address": marks[begin],
                "size": end - marks[begin],
                "starts": marks[begin : index + 1],
                "resolvers": [start for start in marks[begin : index + 1] if start in library.resolvers],
                "wanted": list(wanted),
            }
            begin = index + 1


def small_elf(code: bytes, address: int, starts: Sequence[int]) -> bytes:
    """An ELF file with ``code`` as its .text at ``address`` and a function symbol at each of ``starts``."""
    names = b"\0.text\0.symtab\0.strtab\0f\0"
    symbols = bytes(24) + b"".join(struct.pack("<IBBHQQ", 23, FUNCTION, 0, 1, start, 0) for start in starts)
    at = 64
    text_at, symbols_at, names_at = at, at + len(code), at + len(code) + len(symbols)
    headers = [
        bytes(64),
        struct.pack("<IIQQQQIIQQ", 1, 1, 6, address, text_at, len(code), 0, 0, 16, 0),
        struct.pack("<IIQQQQIIQQ", 7, 2, 0, 0, symbols_at, len(symbols), 3, 1, 8, 24),
        struct.pack("<IIQQQQIIQQ", 15, 3, 0, 0, names_at, len(names), 0, 0, 1, 0),
    ]
    ident = b"\x7fELF\x02\x01\x01" + bytes(9)
    header = ident + struct.pack(
        "<HHIQQQIHHHHHH", 3, X86_64, 1, 0, 0, names_at + len(names), 0, 64, 56, 0, 64, len(headers), 3
    )
    return header + code + symbols + names + b"".join(headers)


LINE = re.compile(rb"^ *([0-9a-f]+):\t(\S+) *(.*)$", re.MULTILINE)
TARGET = re.compile(rb"# ([0-9a-f]+)")
WORDS = frozenset(
    b"rep repz repnz repe repne lock data16 addr32 notrack bnd xacquire xrelease cs ds es ss fs gs rex.W".split()
)
"""Prefixes that objdump writes as a word of their own."""


def told_apart(mnemonic: str) -> bool:
    """Whether an instruction of this name may need a flag."""
    named = (
        isa_tables.PLAIN.keys() | isa_tables.SSE | isa_tables.SSE2 | isa_tables.INTEGER | isa_tables.VEX_PLAIN.keys()
    )
    return mnemonic[0] in "vk" or mnemonic in named or bool(isa_tables.TBM.fullmatch(mnemonic))


class Survey:
    """What the functions of one piece hold."""

    def __init__(self, code: bytes, address: int, starts: Sequence[int], resolvers: set[int], wanted: set[str]) -> None:
        self.code, self.address, self.starts = code, address, starts
        self.resolvers, self.wanted = resolvers, wanted
        self.instructions = 0
        self.counts: Counter[str] = Counter()
        self.functions: dict[int, Counter[str]] = {}
        self.undecoded: set[int] = set()
        self.guarded: set[int] = set()
        self.targets: set[int] = set()
        self._plain: set[bytes] = set()
        self._flags: dict[tuple[str, bytes, int, bool, bool], tuple[str, ...]] = {}

    def hear(self, text: bytes) -> None:
        plain = self._plain
        lines = LINE.findall(text)
        self.instructions += len(lines)
        for address, mnemonic, operands in lines:
            if mnemonic not in plain:
                self._look(int(address, 16), mnemonic, operands)

    def _look(self, address: int, mnemonic: bytes, operands: bytes) -> None:
        if mnemonic in WORDS or mnemonic[:1] == b"{" or mnemonic[:3] == b"rex":
            mnemonic, _, operands = operands.strip().partition(b" ")
            if not mnemonic or mnemonic in self._plain:
                return
        if mnemonic == b"(bad)":
            self.undecoded.add(self._function(address))
        elif mnemonic in (b"cpuid", b"xgetbv"):
            self.guarded.add(self._function(address))
        elif mnemonic == b"lea" and self.resolvers:
            target = TARGET.search(operands)
            if target and self._function(address) in self.resolvers:
                self.targets.add(int(target[1], 16))
        elif not told_apart(mnemonic.decode("ascii", "replace")):
            self._plain.add(mnemonic)
        else:
            self._count(address, mnemonic, operands)

    def _count(self, address: int, mnemonic: bytes, operands: bytes) -> None:
        at = address - self.address
        encoding, length = isa_tables.encoding_of(self.code[at : at + 12])
        key = (encoding, mnemonic, length, b"%xmm" in operands, b"(" in operands or operands[:1] != b"%")
        flags = self._flags.get(key)
        if flags is None:
            flags = isa_tables.flags_of(encoding, mnemonic.decode(), operands.decode("ascii", "replace"), length)
            self._flags[key] = flags
        for flag in flags:
            self.counts[flag] += 1
            if flag in self.wanted:
                self.functions.setdefault(self._function(address), Counter())[flag] += 1

    def _function(self, address: int) -> int:
        return self.starts[bisect_right(self.starts, address) - 1]

    def data(self) -> dict[str, Any]:
        return {
            "instructions": self.instructions,
            "bytes": len(self.code),
            "counts": self.counts,
            "functions": [[start, counts] for start, counts in self.functions.items()],
            "undecoded": sorted(self.undecoded),
            "guarded": sorted(self.guarded),
            "targets": sorted(self.targets),
        }


def disassembled(piece: dict[str, Any], code: bytes, objdump: str, folder: Path) -> Iterator[bytes]:
    """objdump's lines in blocks. Raises OSError; CalledProcessError where objdump fails."""
    small = folder / f"piece-{os.getpid()}.so"
    small.write_bytes(small_elf(code, piece["address"], piece["starts"]))
    command = [objdump, "-d", "-z", "--no-show-raw-insn", str(small)]
    try:
        with subprocess.Popen(command, stdout=subprocess.PIPE, env={**os.environ, "LC_ALL": "C"}) as child:
            assert child.stdout is not None
            rest = b""
            while True:
                block = child.stdout.read(1 << 20)
                whole, _, rest = (rest + block).rpartition(b"\n")
                yield whole
                if not block:
                    yield rest
                    break
    finally:
        small.unlink()
    if child.returncode:
        raise subprocess.CalledProcessError(child.returncode, command)


def survey(piece: dict[str, Any], objdump: str, folder: Path) -> dict[str, Any]:
    """What the functions of a piece hold; with "callees" in it, who leads to those instead."""
    with Path(piece["path"]).open("rb") as file:
        file.seek(piece["offset"])
        code = file.read(piece["size"])
    blocks = disassembled(piece, code, objdump, folder)
    if "callees" in piece:
        return {"leads": _leads(blocks, piece["starts"], frozenset(piece["callees"]))}
    found = Survey(code, piece["address"], piece["starts"], set(piece["resolvers"]), set(piece["wanted"]))
    for block in blocks:
        found.hear(block)
    return found.data()


LEAD = re.compile(rb"^ *([0-9a-f]+):\t(?:call|j[a-z]+|lea) .*?(?:# |(?<= ))([0-9a-f]+)(?: <|$)", re.MULTILINE)


def _leads(blocks: Iterable[bytes], starts: Sequence[int], callees: frozenset[int]) -> list[tuple[int, int]]:
    """(function, callee) for each function that calls one of ``callees``, jumps there or takes its address."""
    found = set()
    for block in blocks:
        for address, target in LEAD.findall(block):
            callee = int(target, 16)
            if callee in callees:
                found.add((starts[bisect_right(starts, int(address, 16)) - 1], callee))
    return sorted(found)


def inside() -> int:
    """The worker: a piece on stdin, what it holds on stdout."""
    job = json.load(sys.stdin)
    json.dump(survey(job["piece"], job["objdump"], Path(job["folder"])), sys.stdout)
    return 0
