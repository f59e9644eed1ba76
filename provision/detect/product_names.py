"""Product names that belong to one compute capability only: the last way, for readings with a name and no PCI id.

A Jetson has no PCI id at all, and a pasted `nvidia-smi` table shows the name alone. Names that stand on chips of
different capability are left out on purpose: GeForce GT 730 is GF108, GK107 or GK208, GT 1030 is GP108 or GK107,
GTX 750 Ti is GM107 or GK106, "RTX 3050 A Laptop GPU" is an Ada chip.

Source: developer.nvidia.com/cuda-gpus and /cuda-legacy-gpus; a test holds each rule against every name in pci.ids.
"""

from __future__ import annotations

_NVIDIA = r"(?:NVIDIA )?"

# (regular expression on the name, architecture, compute capability); the first that fits wins
PRODUCTS: tuple[tuple[str, str, str], ...] = tuple(
    (f"{_NVIDIA}{name}", architecture, capability)
    for name, architecture, capability in (
        (r"GeForce GTX (?:950|960|970|980)(?: Ti)?$", "Maxwell", "5.2"),
        (r"GeForce GTX 10[5-8]0\b", "Pascal", "6.1"),
        (r"GeForce GTX 16[56]0\b", "Turing", "7.5"),
        (r"GeForce RTX 20[6-8]0\b", "Turing", "7.5"),
        (r"GeForce RTX 3050(?: Ti)?$", "Ampere", "8.6"),
        (r"GeForce RTX 30[6-9]0\b", "Ampere", "8.6"),
        (r"GeForce RTX 40[5-9]0\b", "Ada Lovelace", "8.9"),
        (r"GeForce RTX 50[5-9]0\b", "Blackwell", "12.0"),
        (r"TITAN RTX\b", "Turing", "7.5"),
        (r"TITAN V\b", "Volta", "7.0"),
        (r"RTX PRO \d{4}\b.*\bBlackwell\b", "Blackwell", "12.0"),
        (r"RTX \d{4} Ada\b", "Ada Lovelace", "8.9"),
        (r"RTX A[2-6]000\b", "Ampere", "8.6"),
        (r"Quadro RTX [3-8]000\b", "Turing", "7.5"),
        (r"Tesla K80$", "Kepler", "3.7"),
        (r"Tesla K[24]0", "Kepler", "3.5"),
        (r"Tesla M[46]0?$", "Maxwell", "5.2"),
        (r"Tesla P100\b", "Pascal", "6.0"),
        (r"Tesla P40?$", "Pascal", "6.1"),
        (r"Tesla V100\b", "Volta", "7.0"),
        (r"(?:Tesla )?T4$", "Turing", "7.5"),
        (r"A100\b", "Ampere", "8.0"),
        (r"A30$", "Ampere", "8.0"),
        (r"A(?:2|10|10G|16|40)$", "Ampere", "8.6"),
        (r"L(?:4|20|40|40S)$", "Ada Lovelace", "8.9"),
        (r"(?:GH200|H20|H100|H200|H800)\b", "Hopper", "9.0"),
        (r"(?:GB200|B100|B200)\b", "Blackwell", "10.0"),
        (r"(?:GB300|B300)\b", "Blackwell Ultra", "10.3"),
        (r"GB10$", "Blackwell", "12.1"),
        (r"(?:Jetson )?(?:AGX )?Thor\b", "Blackwell", "11.0"),
        (r"(?:Jetson )?(?:AGX )?Orin\b", "Ampere", "8.7"),
        (r"(?:Jetson )?(?:AGX )?Xavier\b", "Volta", "7.2"),
    )
)
