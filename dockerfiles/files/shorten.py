"""shorten.py RULES VENV: shorter names for the symbols that one library alone knows. Says what it saved.

RULES is a JSON list of {"shorten": [glob ...], "why": text}, globs below site-packages.

What C++ exports has names of some 200 bytes: in libtensorflow_cc of TensorFlow 2.21 they are 82 of 583 MB, and no other
library asks for most of them. Such a name becomes one of eight characters that has the same hash (as DT_GNU_HASH counts
it), so the hash table, the order of symbols, the relocations and all addresses stay as they are: only .dynsym's places
in .dynstr change, and the pages of the file that .dynstr no longer fills go. What follows them keeps its address: the
segment is cut in two there. The second half takes the place of PT_PHDR or PT_NOTE among the program headers, which
nobody needs of a shared library.

Only names of C++ (_Z...) that no other file of the image has among its symbols: a name that two libraries have is how
they find each other, and how they agree on one copy of a variable. A library that is compiled elsewhere and asks for
another of these names no longer finds it.

Formats: System V gABI, "Symbol Table" and "Program Header"; what glibc asks of segments: elf/dl-load.c,
_dl_map_object_from_fd. A file that is laid out in another way is left as it was.
"""

import json
import os
import struct
import sys
from pathlib import Path

# -I leaves the script's own folder out
sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from slim import MIB, is_elf, site_packages

PAGE = 0x1000
PT_LOAD, PT_NOTE, PT_PHDR = 1, 4, 6
SHT_DYNAMIC, SHT_DYNSYM = 6, 11
DT_NEEDED, DT_HASH, DT_STRTAB, DT_SYMTAB, DT_STRSZ, DT_SONAME, DT_RPATH, DT_RUNPATH = 1, 4, 5, 6, 10, 14, 15, 29
DT_GNU_HASH, DT_VERDEF, DT_VERNEED = 0x6FFFFEF5, 0x6FFFFFFC, 0x6FFFFFFE
NAMED = (DT_NEEDED, DT_SONAME, DT_RPATH, DT_RUNPATH)
LENGTH, FIRST, BASE = 8, 0x21, 33
"""Of new names: characters from "!" to "A", one for each digit to the base 33 that GNU's hash counts in."""
EVERYWHERE = ("/usr/lib", "/usr/bin", "/opt/provision")
"""Where files of the image are."""


class Strange(Exception):
    """The file is laid out in a way that is not known here."""


class Elf:
    """What the loader reads of a shared library for a 64-bit machine of little endian. ``data`` is all of the file."""

    def __init__(self, data):
        self.data = data
        if bytes(data[:6]) != b"\x7fELF\x02\x01":
            raise Strange("no ELF file of 64 bits and little endian")
        self.phoff, self.shoff = struct.unpack_from("<QQ", data, 32)
        phsize, phnum, shsize, shnum = struct.unpack_from("<HHHH", data, 54)
        if phsize != 56 or shsize != 64:
            raise Strange("headers of another size")
        # type, flags, offset, vaddr, paddr, filesz, memsz, align
        self.segments = [list(struct.unpack_from("<IIQQQQQQ", data, self.phoff + at * 56)) for at in range(phnum)]
        # name, type, flags, addr, offset, size, link, info, addralign, entsize
        self.sections = [list(struct.unpack_from("<IIQQQQIIQQ", data, self.shoff + at * 64)) for at in range(shnum)]
        try:
            (self.dynamic,) = (each for each in self.sections if each[1] == SHT_DYNAMIC)
            (self.symbols,) = (each for each in self.sections if each[1] == SHT_DYNSYM)
        except ValueError:
            raise Strange("no dynamic section, or no table of dynamic symbols") from None
        self.strings = self.sections[self.symbols[6]]

    def text(self):
        """All of .dynstr."""
        return bytes(self.data[self.strings[4] : self.strings[4] + self.strings[5]])

    def tags(self):
        """Place in the file, tag and value of each entry of the dynamic section."""
        start, size = self.dynamic[4], self.dynamic[5]
        return [(at, *struct.unpack_from("<QQ", self.data, at)) for at in range(start, start + size, 16)]

    def offset(self, address):
        """Where in the file the byte is that is loaded at an address."""
        for kind, _, offset, vaddr, _, filesz, _, _ in self.segments:
            if kind == PT_LOAD and vaddr <= address < vaddr + filesz:
                return offset + address - vaddr
        raise Strange("an address outside of every segment")

    def symbol_fields(self):
        """Places of the numbers (32 bits) that say where in .dynstr a symbol's name is."""
        return range(self.symbols[4], self.symbols[4] + self.symbols[5], 24)

    def version_fields(self):
        """The same for the files and versions that are needed, and the versions that are defined."""
        found = set()
        for _, tag, address in self.tags():
            at = self.offset(address) if tag in (DT_VERDEF, DT_VERNEED) else 0
            while at:
                if tag == DT_VERNEED:
                    _, count, _, aux, following = struct.unpack_from("<HHIII", self.data, at)
                    found.add(at + 4)
                    field, step = 8, 12
                else:
                    count, _, aux, following = struct.unpack_from("<HIII", self.data, at + 6)
                    field, step = 0, 4
                each = at + aux
                for _ in range(count):
                    found.add(each + field)
                    each += struct.unpack_from("<I", self.data, each + step)[0]
                at = at + following if following else 0
        return sorted(found)

    def hashes(self, address):
        """The hash of each symbol that is defined, by its number: the table holds all bits but the lowest, which the
        bucket tells."""
        at = self.offset(address)
        buckets, first, bloom, _ = struct.unpack_from("<IIII", self.data, at)
        if buckets < 2:
            raise Strange("a hash table of one bucket")
        start = at + 16 + 8 * bloom
        chains = start + 4 * buckets - 4 * first
        found = {}
        for bucket, number in enumerate(struct.unpack_from("<%dI" % buckets, self.data, start)):
            while number:
                (value,) = struct.unpack_from("<I", self.data, chains + 4 * number)
                found[number] = value if value % buckets == bucket else value ^ 1
                number = 0 if value & 1 else number + 1
        return found


def aliases(value):
    """Names of LENGTH characters that have this hash: there are 33 ** 8 such names, 327 for each hash."""
    least = 5381
    for _ in range(LENGTH):
        least = least * BASE + FIRST
    left = (value - least) & 0xFFFFFFFF
    while left < BASE**LENGTH:
        digits, name = left, bytearray(LENGTH)
        for at in range(LENGTH - 1, -1, -1):
            digits, digit = divmod(digits, BASE)
            name[at] = FIRST + digit
        yield bytes(name)
        left += 1 << 32


def shortened(data, others, taken):
    """Give short names to what is defined in ``data`` (a bytearray of the whole file), changed in place, but for the
    names in ``others``, those of all other files. The bytes of the file that nothing needs now: (from, to)."""
    elf = Elf(data)
    tags = elf.tags()
    values = {tag: value for _, tag, value in tags}
    if DT_HASH in values or DT_GNU_HASH not in values or values.get(DT_SYMTAB) != elf.symbols[3]:
        raise Strange("another hash table than GNU's")
    if values.get(DT_STRTAB) != elf.strings[3] or values.get(DT_STRSZ) != elf.strings[5]:
        raise Strange("strings at another place than the section says")
    hashes = elf.hashes(values[DT_GNU_HASH])
    old, start = elf.text(), elf.strings[4]
    new, places = bytearray(b"\0"), {0: 0}

    def placed(place, value=None):
        if place not in places:
            name = old[place : old.index(b"\0", place)]
            if value is not None and name.startswith(b"_Z") and len(name) > LENGTH and name not in others:
                name = next(each for each in aliases(value) if each not in taken and each not in others)
                taken.add(name)
            places[place] = len(new)
            new.extend(name + b"\0")
        return places[place]

    fields = [(at, "<I", None) for at in elf.version_fields()]
    fields += [(at + 8, "<Q", None) for at, tag, _ in tags if tag in NAMED]
    fields += [(at, "<I", hashes.get(number)) for number, at in enumerate(elf.symbol_fields())]
    for at, form, value in fields:
        struct.pack_into(form, data, at, placed(struct.unpack_from(form, data, at)[0], value))
    if len(new) > len(old):
        raise Strange("names that share their ends")
    for at, tag, _ in tags:
        if tag == DT_STRSZ:
            struct.pack_into("<Q", data, at + 8, len(new))
    data[start : start + len(old)] = bytes(new).ljust(len(old), b"\0")
    return hole(elf, start + len(new), start + len(old), len(new))


def hole(elf, begin, end, size):
    """Take the pages between two places out of the file, as its headers tell it."""
    begin, end = -(-begin // PAGE) * PAGE, end // PAGE * PAGE
    gone = end - begin
    holding = [each for each in elf.segments if each[0] == PT_LOAD and each[2] <= begin and end <= each[2] + each[5]]
    spare = [each for each in elf.segments if each[0] in (PT_PHDR, PT_NOTE)]
    aligned = all(each[7] <= PAGE for each in elf.segments if each[0] == PT_LOAD)
    if gone <= 0 or len(holding) != 1 or not spare or not aligned or holding[0][5] != holding[0][6]:
        raise Strange("no room for another segment")
    elf.strings[5] = size
    (whole,) = holding
    kind, flags, offset, vaddr, paddr, filesz, _, align = whole
    rest = offset + filesz - end
    upper = [kind, flags, begin, vaddr + end - offset, paddr + end - offset, rest, rest, align]
    for each in elf.segments:
        if each[2] >= end:
            each[2] -= gone
    whole[5] = whole[6] = begin - offset
    elf.segments.remove(spare[0])
    elf.segments.insert(elf.segments.index(whole) + 1, upper)
    for each in elf.sections:
        if each[4] >= end:
            each[4] -= gone
    for number, each in enumerate(elf.segments):
        struct.pack_into("<IIQQQQQQ", elf.data, elf.phoff + number * 56, *each)
    for number, each in enumerate(elf.sections):
        struct.pack_into("<IIQQQQIIQQ", elf.data, elf.shoff + number * 64, *each)
    if elf.shoff >= end:
        struct.pack_into("<Q", elf.data, 40, elf.shoff - gone)
    return begin, end


def names(path):
    """Of all dynamic symbols of a file, defined or asked for."""
    data = path.read_bytes()
    try:
        elf = Elf(data)
    except (Strange, struct.error):
        return set()
    text = elf.text()
    found = {struct.unpack_from("<I", data, at)[0] for at in elf.symbol_fields()}
    return {text[place : text.index(b"\0", place)] for place in found}


def files(folders):
    return [
        path
        for folder in folders
        for path in sorted(Path(folder).rglob("*"))
        if not path.is_symlink() and path.is_file() and is_elf(path)
    ]


def shorten(path, others, taken):
    """Bytes saved in one file."""
    before = path.stat()
    data = bytearray(path.read_bytes())
    begin, end = shortened(data, others, taken)
    with path.open("wb") as file, memoryview(data) as whole:
        file.write(whole[:begin])
        file.write(whole[end:])
    os.utime(str(path), (before.st_atime, before.st_mtime))
    return end - begin


def main():
    rules, root = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8")), site_packages(Path(sys.argv[2]))
    taken = set()
    for rule in rules:
        for path in sorted({path for pattern in rule["shorten"] for path in root.glob(pattern) if is_elf(path)}):
            others = set().union(*(names(each) for each in files(EVERYWHERE) if each != path))
            try:
                freed = shorten(path, others, taken)
            except (Strange, struct.error, ValueError, StopIteration) as error:
                print("  left as it was: %s (%s)" % (path.relative_to(root), error))
                continue
            print("  %6.1f MiB: %s" % (freed / MIB, rule["why"]))


if __name__ == "__main__":
    main()
