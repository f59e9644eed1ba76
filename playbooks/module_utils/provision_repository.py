"""Package repositories on a host: the key that signs one, the files that configure it, and taking them away again."""

from __future__ import annotations

import re
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ansible.module_utils.provision_apt_sources import (
    files_of,
    more_components,
    same_address,
    stanza,
    switched_off,
    switched_on,
)
from ansible.module_utils.provision_failure import Failure, os_failure
from ansible.module_utils.provision_files import write_atomically
from ansible.module_utils.provision_openpgp import armoured, key_of, keys_of

MIRRORED = (
    "https://developer.download.nvidia.com/compute/cuda/repos",
    "https://nvidia.github.io/libnvidia-container/stable",
)
"""What a lab's mirror stands in for."""
KEY_BYTES = 1 << 20
KEY_TIMEOUT_S = 60
OLD_KEY = "7FA2AF80"
"""End of the fingerprint of the key that signed NVIDIA's repositories until April 2022 (and then leaked): apt-key del
7fa2af80, as developer.download.nvidia.com's notice of the change asks."""
HEADER = "# Written by provision: {id}\n"
COMPONENTS = "etc/apt/sources.list.d/provision-components.sources"
ROOT = Path("/")


def mirrored(
    repository: Mapping[str, Any], mirror: str = "", key_url: str = "", fingerprint: str = ""
) -> dict[str, Any]:
    """``repository`` at a lab's mirror of NVIDIA's address; ``key_url`` and ``fingerprint`` are the mirror's key.

    A repository that is not of NVIDIA's address stays as it is.
    """
    if not mirror:
        return dict(repository)
    base = next((one for one in MIRRORED if str(repository["url"]).startswith(f"{one}/")), "")
    if not base:
        return dict(repository)

    def there(address: str) -> str:
        for one in (base, base.rpartition("/")[0]):  # the container toolkit's key lies above its packages
            if address.startswith(f"{one}/"):
                return mirror.rstrip("/") + address[len(one) :]
        return address

    return {
        **repository,
        "url": there(repository["url"]),
        "key_url": key_url or there(repository["key_url"]),
        "fingerprint": fingerprint or repository["fingerprint"],
    }


# --- the key -------------------------------------------------------------------------------------------------------


def fetched_key(repository: Mapping[str, Any], root: Path = ROOT) -> bytes:
    """The key with the repository's fingerprint, binary: the one that is configured, else fetched. Raises Failure."""
    path = keyring(repository, root)
    try:
        return key_of(path.read_bytes(), repository["fingerprint"])
    except (OSError, Failure):
        return key_of(_fetched(repository["key_url"]), repository["fingerprint"])


def _fetched(url: str) -> bytes:
    doing = "could not fetch the repository's key"
    if not re.match(r"(https?|file)://", url):
        raise Failure("no_key", doing, f"{url!r} is no address that begins with https://, http:// or file://")
    try:
        with urllib.request.urlopen(url, timeout=KEY_TIMEOUT_S) as answer:  # noqa: S310  # schemes are those above
            data = answer.read(KEY_BYTES + 1)
    except urllib.error.HTTPError as error:
        hint = "see that the address is right and that this host may read it"
        raise Failure("no_key", doing, f"{url}: {error.code} {error.reason}", hint) from None
    except (OSError, ValueError) as error:
        hint = "see that this host reaches the address, or name a mirror of it"
        raise Failure("offline", doing, f"{url}: {getattr(error, 'reason', error)}", hint) from None
    if len(data) > KEY_BYTES:
        raise Failure("no_key", doing, f"{url} gives more than {KEY_BYTES} bytes, which no key has")
    return data


def keyring(repository: Mapping[str, Any], root: Path = ROOT) -> Path:
    if repository["manager"] == "dnf":
        return root / f"etc/pki/rpm-gpg/RPM-GPG-KEY-{repository['id']}"
    return root / f"usr/share/keyrings/{repository['id']}.gpg"


# --- files ---------------------------------------------------------------------------------------------------------


def sources_text(repository: Mapping[str, Any], signed_by: str) -> str:
    """apt's deb822 file."""
    fields = (("Signed-By", signed_by),)
    words = tuple(repository.get("components") or ())
    return HEADER.format(id=repository["id"]) + stanza(repository["url"], repository.get("suite") or "/", words, fields)


def repo_text(repository: Mapping[str, Any], key: str) -> str:
    """dnf's file. The container toolkit's packages carry no signature of their own: there the metadata is checked."""
    metadata = "libnvidia-container" in f"{repository['id']} {repository['url']}"
    return HEADER.format(id=repository["id"]) + (
        f"[{repository['id']}]\nname={repository['id']}\nbaseurl={repository['url']}\nenabled=1\n"
        f"gpgcheck={int(not metadata)}\nrepo_gpgcheck={int(metadata)}\ngpgkey=file://{key}\n"
    )


def file_of(repository: Mapping[str, Any], root: Path = ROOT) -> Path:
    """The file that switches the repository on."""
    if repository["manager"] == "dnf":
        return root / f"etc/yum.repos.d/{repository['id']}.repo"
    return root / f"etc/apt/sources.list.d/{repository['id']}.sources"


def configure(
    repository: Mapping[str, Any],
    mirror: str = "",
    key_url: str = "",
    fingerprint: str = "",
    root: Path | str = ROOT,
    dry: bool = False,
) -> list[str]:
    """Write the repository's key and file; what else has its address is switched off. Returns the paths that changed.

    With ``dry`` nothing is written; the key is fetched and compared all the same. Raises Failure.
    """  # fmt: skip
    top = Path(root)
    one = mirrored(repository, mirror, key_url, fingerprint)
    key = fetched_key(one, top)
    path, key_file = file_of(one, top), keyring(one, top)
    shown = "/" + str(key_file.relative_to(top))
    if one["manager"] == "dnf":
        writing = {key_file: armoured(key).encode(), path: repo_text(one, shown).encode()}
    else:
        writing = {key_file: key, path: sources_text(one, shown).encode()}
        writing.update(without_key(top))
    writing.update(_others_off(one, top))
    return _written({path: text for path, text in writing.items() if _bytes(path) != text}, dry, one["id"])


def remove(repository: Mapping[str, Any], root: Path | str = ROOT, dry: bool = False) -> list[str]:
    """Take the repository's files away, and switch on again what ``configure`` switched off for it."""
    top = Path(root)
    gone = [path for path in (file_of(repository, top), keyring(repository, top)) if _bytes(path) is not None]
    back = {}
    for path in _other_files(repository, top):
        text = path.read_text("utf-8", "replace")
        if switched_on(text, repository["id"]) != text:
            back[path] = switched_on(text, repository["id"]).encode()
    try:
        for path in () if dry else gone:
            path.unlink()
    except OSError as error:
        raise os_failure(error, f"take repository {repository['id']} away") from error
    return [*map(str, gone), *_written(back, dry, repository["id"])]


def enable_components(components: Sequence[str], root: Path | str = ROOT, dry: bool = False) -> bool:
    """Switch parts of the distribution's archive on ("contrib", "non-free"); True where some were off."""
    top = Path(root)
    texts = {path.name: path.read_text(errors="replace") for path in files_of(top)}
    more = more_components(texts, codename(top), tuple(components))
    if not more:
        return False
    own = _bytes(top / COMPONENTS)
    text = own.decode() + "\n" + more if own else HEADER.format(id="components") + more
    return bool(_written({top / COMPONENTS: text.encode()}, dry, "components"))


def disable_components(root: Path | str = ROOT, dry: bool = False) -> bool:
    path = Path(root) / COMPONENTS
    if not path.is_file():
        return False
    if not dry:
        path.unlink()
    return True


def codename(root: Path = ROOT) -> str:
    """ "bookworm"."""
    try:
        text = (root / "etc/os-release").read_text("utf-8", "replace")
    except OSError:
        return ""
    match = re.search(r'^VERSION_CODENAME="?([a-z-]+)"?$', text, re.M)
    return match.group(1) if match else ""


def _others_off(repository: Mapping[str, Any], top: Path) -> dict[Path, bytes]:
    """Files of somebody else's that configure the same address, without it: two of them do not go together."""
    found = {}
    for path in _other_files(repository, top):
        text = path.read_text("utf-8", "replace")
        if repository["manager"] == "dnf":
            new = _repo_off(text, repository["url"], repository["id"])
        else:
            new = switched_off(text, path.name, repository["url"], repository["id"])
        if new != text:
            found[path] = new.encode()
    return found


def _other_files(repository: Mapping[str, Any], top: Path) -> list[Path]:
    if repository["manager"] == "dnf":
        folder = top / "etc/yum.repos.d"
        paths = sorted(folder.glob("*.repo")) if folder.is_dir() else []
    else:
        paths = files_of(top)
    return [path for path in paths if path != file_of(repository, top)]


def _repo_off(text: str, url: str, by: str) -> str:
    """A .repo file with the sections of this id or address commented out."""
    sections = re.split(r"(?m)^(?=\[)", text)
    kept = []
    for section in sections:
        address = re.search(r"(?m)^baseurl\s*=\s*(\S+)", section)
        ours = section.startswith(f"[{by}]") or (address is not None and same_address(address.group(1), url))
        if ours and section.startswith("["):
            section = "".join(f"# off by provision ({by}): {line}" for line in section.splitlines(keepends=True))
        kept.append(section)
    return "".join(kept)


def without_key(top: Path, ending: str = OLD_KEY) -> dict[Path, bytes]:
    """apt's own keyrings that trust the key, without it; one that held nothing else becomes empty."""
    folder = top / "etc/apt/trusted.gpg.d"
    found = {}
    for path in [top / "etc/apt/trusted.gpg", *(sorted(folder.glob("*.gpg")) if folder.is_dir() else [])]:
        data = _bytes(path)
        if not data:
            continue
        try:
            keys = keys_of(data)
        except Failure:
            continue  # a keybox, or keys of another version: not ours to mend
        kept = b"".join(packets for print_, packets in keys.items() if not print_.endswith(ending))
        if kept != data:
            found[path] = kept
    return found


def _bytes(path: Path) -> bytes | None:
    try:
        return path.read_bytes()
    except OSError:
        return None


def _written(texts: Mapping[Path, bytes], dry: bool, name: str) -> list[str]:
    try:
        for path, text in () if dry else texts.items():
            if not text:  # an empty keyring is none
                path.unlink()
                continue
            path.parent.mkdir(parents=True, exist_ok=True)
            write_atomically(path, text.decode("utf-8", "surrogateescape"))
    except OSError as error:
        raise os_failure(error, f"configure repository {name}") from error
    return [str(path) for path in texts]
