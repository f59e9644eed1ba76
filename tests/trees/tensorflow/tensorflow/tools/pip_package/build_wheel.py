"""Pack files into a wheel. The same files give the same bytes: no time and no order of a file system is in them."""

import argparse
import base64
import hashlib
import zipfile
from pathlib import Path

EARLIEST = (1980, 1, 1, 0, 0, 0)


def metadata(name, version):
    return "\n".join(
        [
            "Metadata-Version: 2.1",
            "Name: " + name,
            "Version: " + version,
            "Summary: A small tree with the shape of TensorFlow's, for tests",
            "Requires-Python: >=3.9",
            "Requires-Dist: numpy",
            "",
        ]
    )


def main():
    parser = argparse.ArgumentParser()
    for option in ("--output", "--name", "--version", "--tag", "--root"):
        parser.add_argument(option, required=True)
    parser.add_argument("files", nargs="+")
    options = parser.parse_args()
    files = {file.removeprefix(options.root + "/"): Path(file).read_bytes() for file in options.files}
    info = "%s-%s.dist-info/" % (options.name.replace("-", "_"), options.version)
    files[info + "METADATA"] = metadata(options.name, options.version).encode()
    wheel = "Wheel-Version: 1.0\nGenerator: build_wheel.py\nRoot-Is-Purelib: false\nTag: %s\n" % options.tag
    files[info + "WHEEL"] = wheel.encode()
    files[info + "top_level.txt"] = b"tensorflow\n"
    record = []
    for path, content in sorted(files.items()):
        digest = base64.urlsafe_b64encode(hashlib.sha256(content).digest()).decode().rstrip("=")
        record.append("%s,sha256=%s,%d\n" % (path, digest, len(content)))
    record.append(info + "RECORD,,\n")
    files[info + "RECORD"] = "".join(record).encode()
    with zipfile.ZipFile(options.output, "w", zipfile.ZIP_DEFLATED) as archive:
        for path, content in sorted(files.items()):
            entry = zipfile.ZipInfo(path, EARLIEST)
            entry.compress_type = zipfile.ZIP_DEFLATED
            entry.external_attr = (0o755 if path.endswith(".so") else 0o644) << 16
            archive.writestr(entry, content)


if __name__ == "__main__":
    main()
