"""A container as a machine: what runs in it, what is put into it."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from docker.models.containers import Container


@dataclass(frozen=True, slots=True, kw_only=True)
class Output:
    status: int
    stdout: str
    stderr: str

    @property
    def text(self) -> str:
        return self.stdout + self.stderr

    def check(self) -> str:
        """stdout of what succeeded."""
        assert self.status == 0, f"exit {self.status}: {self.text}"
        return self.stdout


@dataclass(slots=True, kw_only=True)
class Box:
    container: Container = field(repr=False)

    def exec(self, argv: Sequence[str], user: str = "root", environment: Mapping[str, str] | None = None) -> Output:
        """Run ``argv`` there, past SSH."""
        home = {"HOME": "/root" if user == "root" else f"/home/{user}"}
        result = self.container.exec_run(list(argv), user=user, environment={**home, **(environment or {})}, demux=True)
        parts: tuple[bytes | None, bytes | None] = result.output  # type: ignore[assignment]  # demux makes it a pair
        stdout, stderr = ((part or b"").decode(errors="replace") for part in parts)
        assert result.exit_code is not None, "it was waited for"
        return Output(status=result.exit_code, stdout=stdout, stderr=stderr)

    def sh(self, script: str, user: str = "root") -> str:
        """stdout of a shell script run there, past SSH; it must succeed."""
        return self.exec(["sh", "-ec", script], user=user).check()

    def write(self, path: str, content: bytes, mode: int = 0o644, owner: int = 0) -> None:
        """Put a file there. Folders on the way are made."""
        self.container.put_archive("/", archive({path: (content, mode, owner)}))

    def copy(self, source: Path, target: str, leave_out: Sequence[str] = (), owner: int = 0) -> None:
        """Copy a folder there, less files and folders of the names in ``leave_out``."""

        def owned(entry: tarfile.TarInfo) -> tarfile.TarInfo | None:
            entry.uid = entry.gid = owner
            return None if Path(entry.name).name in leave_out else entry

        out = io.BytesIO()
        with tarfile.open(fileobj=out, mode="w") as tar:
            tar.add(source, arcname=target.strip("/"), filter=owned)
        self.container.put_archive("/", out.getvalue())

    def processes(self) -> list[str]:
        """Command lines of everything that runs there, sshd's own and this question left out."""
        lines = self.exec(["ps", "-eo", "args", "--no-headers"]).check().splitlines()
        return [line.strip() for line in lines if "sshd" not in line and not line.startswith("ps ")]


def archive(files: Mapping[str, tuple[bytes, int, int]]) -> bytes:
    """A tar of {path: (content, mode, owner)}, rooted at "/"."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        for path, (content, mode, owner) in files.items():
            entry = tarfile.TarInfo(path.lstrip("/"))
            entry.size, entry.mode, entry.uid, entry.gid = len(content), mode, owner, owner
            tar.addfile(entry, io.BytesIO(content))
    return out.getvalue()
