"""Repositories as files: keys and their fingerprints, apt's and dnf's configuration, and what steps aside for it."""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import playbook_target  # noqa: F401  # makes module_utils importable
import pytest
from ansible.module_utils import provision_openpgp as openpgp
from ansible.module_utils import provision_repository as repository
from ansible.module_utils.provision_apt_sources import more_components, switched_off, switched_on
from ansible.module_utils.provision_failure import Failure

# made with gpg 2.2 for these tests; gpg --list-keys says the fingerprints
ONE = "8B0C9DE7DE2FF8ADCE25BCAC4105DE727749470E"
TWO = "48CF8482148D945C9C3F80A782786D522E2D9968"
ARMOURED_ONE = b"""-----BEGIN PGP PUBLIC KEY BLOCK-----

mDMEawOpIxYJKwYBBAHaRw8BAQdAmC9kYLbyqbl9/G2qwe+zmP0NW2C3Qkwe4w7B
0b0mHnC0G29uZSA8b25lQHByb3Zpc2lvbi5pbnZhbGlkPoiQBBMWCAA4FiEEiwyd
594v+K3OJbysQQXecndJRw4FAmsDqSMCGwMFCwkIBwIGFQoJCAsCBBYCAwECHgEC
F4AACgkQQQXecndJRw6T4gD7BWtsKwaj1F/XdvDt96JD/8nXs2VpsVMrnHAp96qH
PTgA+gMo7o0Q/uxxWAO01iaI5Nv2eYRZrxicjOrZ8XuAZWMB
=R4gG
-----END PGP PUBLIC KEY BLOCK-----
"""
ARMOURED_TWO = b"""-----BEGIN PGP PUBLIC KEY BLOCK-----
Version: GnuPG v2

mDMEawOpIxYJKwYBBAHaRw8BAQdAVM+XsFCFz6ajRizs7wtD2FNN54cF9MYqgwh7
mroTDwW0G3R3byA8dHdvQHByb3Zpc2lvbi5pbnZhbGlkPoiQBBMWCAA4FiEESM+E
ghSNlFycP4CngnhtUi4tmWgFAmsDqSMCGwMFCwkIBwIGFQoJCAsCBBYCAwECHgEC
F4AACgkQgnhtUi4tmWjRrAEA99jmVJXK0wtU8mAgEaW3EaNZwOjWbm8UXlyPUkF0
gH0BAMcLcIoNoy6ViEeFSMFARFLhERcS3Yv8nUnsKewfS7wI
=anzN
-----END PGP PUBLIC KEY BLOCK-----
"""
CUDA = "https://developer.download.nvidia.com/compute/cuda/repos"
TOOLKIT = "https://nvidia.github.io/libnvidia-container"


def row(tmp_path: Path, manager: str = "apt", **more: Any) -> dict[str, Any]:
    key = tmp_path / "key.pub"
    key.write_bytes(ARMOURED_ONE)
    return {
        "id": "cuda-rhel9-x86_64" if manager == "dnf" else "cuda-debian12-x86_64",
        "manager": manager,
        "url": f"{CUDA}/{'rhel9' if manager == 'dnf' else 'debian12'}/x86_64",
        "key_url": key.as_uri(),
        "fingerprint": ONE,
        **more,
    }


# --- keys ----------------------------------------------------------------------------------------------------------


def test_fingerprints_are_those_of_gpg() -> None:
    both = openpgp.dearmoured(ARMOURED_ONE) + openpgp.dearmoured(ARMOURED_TWO)
    assert list(openpgp.keys_of(both)) == [ONE, TWO]
    assert openpgp.key_of(both, TWO) == openpgp.dearmoured(ARMOURED_TWO)
    assert openpgp.key_of(ARMOURED_ONE, "8b0c 9de7 de2f f8ad ce25  bcac 4105 de72 7749 470e") != b""


def test_armour_is_what_gpg_writes() -> None:
    assert openpgp.armoured(openpgp.dearmoured(ARMOURED_ONE)) == ARMOURED_ONE.decode()


def test_another_key_is_refused_with_both_fingerprints() -> None:
    with pytest.raises(Failure) as stop:
        openpgp.key_of(ARMOURED_TWO, ONE)
    assert stop.value.kind == "wrong_key"
    assert stop.value.what == "the repository's key is not the one that was expected"
    assert stop.value.why == f"expected fingerprint {ONE}\nfetched key has {TWO}"
    assert "do not trust it" in stop.value.hint


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"<html>Please log in</html>", "there is no PGP PUBLIC KEY BLOCK in it"),
        (b"", "there is no PGP PUBLIC KEY BLOCK in it"),
        (ARMOURED_ONE.replace(b"=R4gG", b"=R4gH"), "its checksum is wrong: it was cut or changed on the way"),
        (ARMOURED_ONE.replace(b"mDME", b"mDM!"), "its base64 is broken"),
        (openpgp.dearmoured(ARMOURED_ONE)[:40], "it ends in the middle of a packet"),
        (openpgp.dearmoured(ARMOURED_ONE)[53:], "it begins with a packet that is no public key"),
    ],
)
def test_what_is_no_key_is_told(data: bytes, why: str) -> None:
    with pytest.raises(Failure) as stop:
        openpgp.key_of(data, ONE)
    assert (stop.value.kind, stop.value.why) == ("no_key", why)


def test_a_key_of_version_6_is_refused_plainly() -> None:
    data = bytearray(openpgp.dearmoured(ARMOURED_ONE))
    data[2] = 6
    with pytest.raises(Failure, match="an OpenPGP key of version 6, which is not supported"):
        openpgp.key_of(bytes(data), ONE)


def test_new_packet_headers_are_read_like_old_ones() -> None:
    old = openpgp.dearmoured(ARMOURED_ONE)
    assert old[0] == 0x98  # tag 6, one octet of length
    new = bytes([0xC6, old[1]]) + old[2:]
    longer = bytes([0xC6, 0xFF, 0, 0, 0, old[1]]) + old[2:]
    assert list(openpgp.keys_of(new)) == list(openpgp.keys_of(longer)) == [ONE]


# --- apt -----------------------------------------------------------------------------------------------------------


def test_a_key_and_a_deb822_file_are_written_once(tmp_path: Path) -> None:
    root, one = tmp_path / "root", row(tmp_path)
    assert repository.configure(one, root=root, dry=True) != []
    assert not root.exists()
    assert [Path(path).name for path in repository.configure(one, root=root)] == [
        "cuda-debian12-x86_64.gpg",
        "cuda-debian12-x86_64.sources",
    ]
    keyring = root / "usr/share/keyrings/cuda-debian12-x86_64.gpg"
    assert keyring.read_bytes() == openpgp.dearmoured(ARMOURED_ONE)
    assert keyring.stat().st_mode & 0o777 == 0o644
    assert (root / "etc/apt/sources.list.d/cuda-debian12-x86_64.sources").read_text() == (
        f"# Written by provision: cuda-debian12-x86_64\nTypes: deb\nURIs: {CUDA}/debian12/x86_64\nSuites: /\n"
        "Signed-By: /usr/share/keyrings/cuda-debian12-x86_64.gpg\n"
    )
    (tmp_path / "key.pub").unlink()  # a second run fetches nothing
    assert repository.configure(one, root=root) == []
    assert len(repository.remove(one, root=root)) == 2
    assert [path for path in root.rglob("*") if path.is_file()] == []
    assert repository.remove(one, root=root) == []


def test_nothing_is_written_for_another_key(tmp_path: Path) -> None:
    root = tmp_path / "root"
    with pytest.raises(Failure, match="not the one that was expected"):
        repository.configure(row(tmp_path, fingerprint=TWO), root=root)
    assert not root.exists()


def test_an_old_key_is_taken_out_of_apts_own_keyrings(tmp_path: Path) -> None:
    root = tmp_path / "root"
    folder = root / "etc/apt/trusted.gpg.d"
    folder.mkdir(parents=True)
    both = openpgp.dearmoured(ARMOURED_ONE) + openpgp.dearmoured(ARMOURED_TWO)
    (folder / "both.gpg").write_bytes(both)
    (folder / "old.gpg").write_bytes(openpgp.dearmoured(ARMOURED_TWO))
    (folder / "other.gpg").write_bytes(openpgp.dearmoured(ARMOURED_ONE))
    (folder / "keybox.gpg").write_bytes(b"\x00\x00\x00 KBXf")
    assert repository.without_key(root, ending=TWO[-8:]) == {
        folder / "both.gpg": openpgp.dearmoured(ARMOURED_ONE),
        folder / "old.gpg": b"",
    }
    assert repository.without_key(root) == {}


ONE_LINE = f"""\
deb http://deb.debian.org/debian bookworm main
# a lab's own words
deb [arch=amd64 signed-by=/usr/share/keyrings/cuda-archive-keyring.gpg] {CUDA}/debian12/x86_64/ /
deb [signed-by=/usr/share/keyrings/nvidia-container-toolkit-keyring.gpg] {TOOLKIT}/stable/deb/$(ARCH) /
"""
DEB822 = f"""\
# cuda
Types: deb
URIs: {CUDA}/debian12/x86_64
Suites: /
Signed-By: /usr/share/keyrings/cuda-archive-keyring.gpg

Types: deb
URIs: http://deb.debian.org/debian
Suites: bookworm bookworm-updates
Components: main
Signed-By:
 -----BEGIN PGP PUBLIC KEY BLOCK-----
 .
 abc
"""


@pytest.mark.parametrize(("text", "name"), [(ONE_LINE, "cuda.list"), (DEB822, "cuda.sources")])
def test_entries_for_the_same_address_step_aside_and_come_back(text: str, name: str) -> None:
    off = switched_off(text, name, f"{CUDA}/debian12/x86_64", "cuda-debian12-x86_64")
    active = [line for line in off.splitlines() if not line.startswith("#")]
    assert not any(CUDA in line for line in active)
    assert any("deb.debian.org" in line for line in active)
    assert switched_off(off, name, f"{CUDA}/debian12/x86_64", "cuda-debian12-x86_64") == off
    assert switched_on(off, "cuda-debian12-x86_64") == text
    assert switched_on(off, "another") == off


def test_apt_fills_the_architecture_in_an_address() -> None:
    off = switched_off(ONE_LINE, "x.list", f"{TOOLKIT}/stable/deb/amd64", "libnvidia-container")
    assert off.splitlines()[3].startswith("# off by provision (libnvidia-container): deb [signed-by=")


def test_components_are_added_with_everything_else_as_it_is() -> None:
    texts = {
        "sources.list": "deb [trusted=yes arch=amd64] http://m/debian bookworm main\n"
        "deb http://docker/ bookworm stable\n"
        "deb https://ppa.launchpadcontent.net/x/ppa/ubuntu bookworm main\n",
        "debian.sources": DEB822,
    }
    more = more_components(texts, "bookworm", ("contrib", "non-free"))
    assert more.startswith(
        "Types: deb\nURIs: http://m/debian\nSuites: bookworm\nComponents: contrib non-free\nTrusted: yes\n"
        "Architectures: amd64\n"
    )
    assert "Suites: bookworm-updates\nComponents: contrib non-free\nSigned-By: \n -----BEGIN PGP" in more
    assert "docker" not in more
    assert "ppa" not in more
    assert more_components({"a.list": "deb http://m/d bookworm main contrib\n"}, "bookworm", ("contrib",)) == ""
    assert more_components({"a.list": "deb http://m/d bookworm main\n"}, "trixie", ("contrib",)) == ""


# --- dnf -----------------------------------------------------------------------------------------------------------


def test_a_repo_file_checks_every_package(tmp_path: Path) -> None:
    root, one = tmp_path / "root", row(tmp_path, "dnf")
    folder = root / "etc/yum.repos.d"
    folder.mkdir(parents=True)
    theirs = f"[cuda-rhel9-x86_64]\nname=cuda\nbaseurl={CUDA}/rhel9/x86_64\ngpgcheck=0\n\n[lab]\nbaseurl=http://lab/\n"
    (folder / "cuda-rhel9.repo").write_text(theirs)
    repository.configure(one, root=root)
    assert (folder / "cuda-rhel9-x86_64.repo").read_text() == (
        "# Written by provision: cuda-rhel9-x86_64\n[cuda-rhel9-x86_64]\nname=cuda-rhel9-x86_64\n"
        f"baseurl={CUDA}/rhel9/x86_64\nenabled=1\ngpgcheck=1\nrepo_gpgcheck=0\n"
        "gpgkey=file:///etc/pki/rpm-gpg/RPM-GPG-KEY-cuda-rhel9-x86_64\n"
    )
    assert (root / "etc/pki/rpm-gpg/RPM-GPG-KEY-cuda-rhel9-x86_64").read_bytes() == ARMOURED_ONE
    active = re.findall(r"(?m)^\[.*", (folder / "cuda-rhel9.repo").read_text())
    assert active == ["[lab]"]
    assert repository.configure(one, root=root) == []
    repository.remove(one, root=root)
    assert (folder / "cuda-rhel9.repo").read_text() == theirs


def test_the_container_toolkits_metadata_is_checked_instead() -> None:
    one = {"id": "libnvidia-container", "url": f"{TOOLKIT}/stable/rpm/x86_64"}
    assert "\ngpgcheck=0\nrepo_gpgcheck=1\n" in repository.repo_text(one, "/k")


# --- mirrors -------------------------------------------------------------------------------------------------------

LAB: Mapping[str, Any] = {"id": "x", "fingerprint": ONE}


@pytest.mark.parametrize(
    ("url", "key", "mirror", "there", "key_there"),
    [
        (f"{CUDA}/rhel9/x86_64", f"{CUDA}/rhel9/x86_64/D42D0685.pub", "http://lab/cuda/",
         "http://lab/cuda/rhel9/x86_64", "http://lab/cuda/rhel9/x86_64/D42D0685.pub"),
        (f"{TOOLKIT}/stable/deb/amd64", f"{TOOLKIT}/gpgkey", "http://lab/ctk/stable",
         "http://lab/ctk/stable/deb/amd64", "http://lab/ctk/stable/gpgkey"),
        ("https://elsewhere/x", "https://elsewhere/k", "http://lab/cuda", "https://elsewhere/x", "https://elsewhere/k"),
        (f"{CUDA}/rhel9/x86_64", f"{CUDA}/k", "", f"{CUDA}/rhel9/x86_64", f"{CUDA}/k"),
    ],
)  # fmt: skip
def test_a_mirror_stands_in_for_nvidias_address(url: str, key: str, mirror: str, there: str, key_there: str) -> None:
    found = repository.mirrored({**LAB, "url": url, "key_url": key}, mirror)
    assert (found["url"], found["key_url"], found["fingerprint"]) == (there, key_there, ONE)


def test_a_mirror_may_sign_with_its_own_key() -> None:
    one = {**LAB, "url": f"{CUDA}/rhel9/x86_64", "key_url": f"{CUDA}/k"}
    found = repository.mirrored(one, "http://lab", "http://lab/key", TWO)
    assert (found["key_url"], found["fingerprint"]) == ("http://lab/key", TWO)


@pytest.mark.parametrize(
    ("url", "kind", "why"),
    [
        ("file:///nowhere/key.pub", "offline", "file:///nowhere/key.pub: "),
        ("ftp://lab/key.pub", "no_key", "is no address that begins with https://"),
        ("http://127.0.0.1:9/key.pub", "offline", "Connection refused"),
    ],
)
def test_a_key_that_cannot_be_fetched_is_told(tmp_path: Path, url: str, kind: str, why: str) -> None:
    with pytest.raises(Failure, match="could not fetch the repository's key") as stop:
        repository.configure(row(tmp_path, key_url=url), root=tmp_path / "root")
    assert stop.value.kind == kind
    assert why in stop.value.why


def test_base64_of_the_armour_is_of_standard_width() -> None:
    lines = openpgp.armoured(bytes(range(200))).splitlines()[2:-2]
    assert base64.b64decode("".join(lines)) == bytes(range(200))
    assert {len(line) for line in lines[:-1]} == {64}
