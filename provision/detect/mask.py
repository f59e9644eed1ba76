"""Readings fit to be shown: what tells one machine or person from another is replaced, the facts stay the same."""

from __future__ import annotations

import re

from provision.model.readings import Readings

NEVER_DUMPED = ("environments", "data_home")
"""Readings about one user's files, left out of every dump."""

_HEX = "[0-9a-fA-F]"
# "GPU-8f5b…", "MIG-…": numbered in order of appearance, so that the same device stays the same device
_UUID = re.compile(rf"\b(GPU|MIG)-({_HEX}{{8}}(?:-{_HEX}{{4}}){{3}}-{_HEX}{{12}})\b")
_BARE_UUID = re.compile(rf"(?<![\w-]){_HEX}{{8}}-{_HEX}{{4}}-{_HEX}{{4}}-{_HEX}{{4}}-{_HEX}{{12}}\b")

# "    Serial Number      : 1322521030245", "Chassis Serial Number", "GPU PDI", "Host ID", "Serial : 10000000abcdef"
_KEYED = re.compile(
    r"^([ \t]*(?:(?:\w+ )?Serial(?: Number)?|GPU PDI|Host ID|GPU Fabric GUID)[ \t]*:[ \t]*)(\S[^\n]*?)[ \t]*$",
    re.MULTILINE,
)
_TAGGED = re.compile(r"<((?:\w+_)?serial(?:_number)?|pdi|host_id|gpu_fabric_guid)>([^<\n]*)</")
_CSV_FIELDS = ("serial", "pdi", "platform.chassis_serial_number", "platform.host_id", "platform.gpu_fabric_guid")

_HOME = re.compile(r"(/(?:home|Users|export/home)/)([^/\s:'\"|]+)")
_MAC = re.compile(rf"(?<![\w:])(?:{_HEX}{{2}}:){{5}}{_HEX}{{2}}(?![\w:])")
# Not a VBIOS ("92.00.45.00.03"), an inforom ("G506.0200.00.04") or a kernel ("6.6.87.2-microsoft-standard")
_IPV4 = re.compile(r"(?<![\w.])(?:(?:25[0-5]|2[0-4]\d|1?\d?\d)\.){3}(?:25[0-5]|2[0-4]\d|1?\d?\d)(?![\w.-])")
_EMAIL = re.compile(r"\b[\w.+-]{1,64}@(?=[\w-]{1,64}\.[\w.-]{2,64}\b)[\w.-]+")

# "Linux version 6.1.0 (root@workstation-07) (gcc …": who built the kernel is a person where it was built at home
_BUILDER = re.compile(r"\([\w.+-]{1,64}@[\w.-]{1,255}\)")

# Who may fetch from a private mirror, and where it is: its path still tells what it mirrors
_CREDENTIALS = re.compile(r"://[^\s/@]{1,400}@")
_MIRROR = re.compile(r"(https?://)([\w.-]{1,255})(:\d{1,5})?(?=/)")
_PUBLIC = ("debian.org", "ubuntu.com", "nvidia.com", "nvidia.github.io", "launchpadcontent.net", "docker.com")
# Ubuntu names the key that it makes for DKMS after the machine
_SIGNER = re.compile(r"\S{1,255}(?= Secure Boot Module Signature key)")
_BOOT_IDS = ("boot_id", "provision_nvidia_record")

# Shorter names are too likely to be part of something else
_LEAST_HOSTNAME = 3


def masked(readings: Readings) -> Readings:
    """The same readings without hostnames, serials, UUIDs, home paths, MAC and IP addresses. Masking twice is once."""
    numbers: dict[str, int] = {}
    host = _hostname(readings.files.get("uname_a", ""))
    files = {}
    for name in sorted(readings.files):
        if name not in NEVER_DUMPED:
            files[name] = _masked(name, readings.files[name], numbers, host)
    return Readings(files)


def _masked(name: str, text: str, numbers: dict[str, int], host: str | None) -> str:
    text = _UUID.sub(lambda match: f"{match[1]}-{_numbered(match[0], numbers)}", text)
    if name in _BOOT_IDS:  # the record's boot is this one or another
        text = _BARE_UUID.sub(lambda match: _numbered(match[0], numbers), text)
    text = _BARE_UUID.sub("00000000-0000-0000-0000-000000000000", text) if "UUID" in text else text
    text = _KEYED.sub(lambda match: match[1] + _zeros(match[2]), text)
    text = _TAGGED.sub(lambda match: f"<{match[1]}>{_zeros(match[2])}</", text)
    text = _HOME.sub(r"\1user", text)
    text = _MAC.sub("00:00:00:00:00:00", text)
    text = _IPV4.sub("0.0.0.0", text)  # noqa: S104
    if name.endswith(".csv"):
        text = _csv(text)
    if name in ("modinfo_nvidia", "mok_state", "dmesg_nvidia"):
        text = _SIGNER.sub("host", text)
    if name == "apt_policy":
        text = _MIRROR.sub(_public, _CREDENTIALS.sub("://", text))
    if name == "uname_a" and host:
        text = text.replace(f" {host} ", " host ", 1)
    if name in ("dmesg_nvidia", "dkms_make_log", "user_environment") and host:
        text = re.sub(rf"(?<![\w.-]){re.escape(host)}(?![\w.-])", "host", text)
    if name == "proc_version":
        text = _BUILDER.sub("(user@host)", text)
    return _EMAIL.sub("user@", text) if name == "dmesg_nvidia" else text


def _public(match: re.Match[str]) -> str:
    known = any(match[2] == name or match[2].endswith(f".{name}") for name in _PUBLIC)
    return match[0] if known or match[2] == "mirror" else f"{match[1]}mirror"


def _numbered(uuid: str, numbers: dict[str, int]) -> str:
    """Zeros that end in the device's number: 00000001-0000-0000-0000-000000000001, as the dumps of CONTRIBUTING.md."""
    number = numbers.setdefault(uuid, len(numbers)) % 10**8
    return f"{number:08d}-0000-0000-0000-{number:012d}"


def _zeros(value: str) -> str:
    """As long as it was; "N/A" and "[N/A]" are no secret."""
    return value if value.strip("[]") in ("N/A", "None", "") else "0" * len(value)


def _hostname(uname: str) -> str | None:
    # "Linux workstation-07 6.8.0-60-generic #63~22.04.1-Ubuntu …"
    match = re.match(r"\s*\S+ (\S+) \d", uname)
    return match[1] if match and match[1] != "host" and len(match[1]) >= _LEAST_HOSTNAME else None


def _csv(text: str) -> str:
    lines = text.split("\n")
    header = [word.split("[")[0].strip() for word in lines[0].split(",")]
    secret = [at for at, field in enumerate(header) if field in _CSV_FIELDS]
    names = [at for at, field in enumerate(header) if field == "hostname"]
    for number, line in enumerate(lines[1:], start=1):
        cells = line.split(",")
        if len(cells) != len(header):
            continue
        for at in secret:
            blank = cells[at][: len(cells[at]) - len(cells[at].lstrip())]
            cells[at] = blank + _zeros(cells[at].strip())
        for at in names:
            cells[at] = " host"
        lines[number] = ",".join(cells)
    return "\n".join(lines)
