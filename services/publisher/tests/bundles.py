"""Changes as the runner hands them over, and as nobody should: bundles made with the real git."""

from __future__ import annotations

import hashlib
import os
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

ENVIRONMENT = {
    "PATH": os.environ["PATH"],
    "HOME": "/nonexistent",
    "GIT_CONFIG_NOSYSTEM": "1",
    "GIT_CONFIG_GLOBAL": "/dev/null",
}
WHO = "Agent <agent@example.org> 1700000000 +0000"


def git(directory: Path, *arguments: str, stdin: bytes = b"") -> str:
    done = subprocess.run(
        ["git", "-C", str(directory), *arguments],
        env=ENVIRONMENT,
        input=stdin,
        capture_output=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout.decode(errors="surrogateescape").strip()


@dataclass(frozen=True)
class Bundle:
    """`commit` is what the event would name."""

    data: bytes
    commit: str

    @property
    def digest(self) -> str:
        return hashlib.sha256(self.data).hexdigest()


class Workshop:
    """A clone to make changes in; `base` is the remote's head when it was cloned."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.base = git(path, "rev-parse", "refs/heads/main")

    @classmethod
    def clone(cls, path: Path, url: str, token: str) -> Workshop:
        address = url.replace("http://", f"http://x-access-token:{token}@")
        git(path.parent, "clone", "--quiet", "--bare", address, str(path))
        return cls(path)

    def commit(
        self,
        files: Mapping[str | bytes, bytes | str | None],
        *,
        parents: tuple[str, ...] | None = None,
        modes: Mapping[str, str] | None = None,
    ) -> str:
        """Commit on `parents` (the base); content None deletes, of mode 160000 it is a sha."""
        first, *others = parents if parents is not None else (self.base,)
        lines = [b"commit refs/heads/work", b"committer " + WHO.encode(), b"data 6", b"change"]
        lines += [b"from " + first.encode()] if first else []
        lines += [b"merge " + other.encode() for other in others]
        for path, content in files.items():
            name = path if isinstance(path, bytes) else path.encode()
            lines += _entry(name, content, (modes or {}).get(str(path), "100644"))
        if not first:
            git(self.path, "update-ref", "-d", "refs/heads/work")
        stream = b"\n".join([*lines, b"done\n"])
        git(self.path, "fast-import", "--quiet", "--force", "--done", stdin=stream)
        return git(self.path, "rev-parse", "refs/heads/work")

    def bundle(self, commit: str, *, without: str | None = None, version: int = 2) -> Bundle:
        """Everything that leads to `commit` but `without` (the base; empty: nothing) left out."""
        git(self.path, "update-ref", "refs/bundled/change", commit)
        beyond = self.base if without is None else without
        wanted = "refs/bundled/change"
        range_ = [f"{beyond}..{wanted}"] if beyond else [wanted]
        file = self.path / "out.bundle"
        git(self.path, "bundle", "create", "-q", f"--version={version}", str(file), *range_)
        return Bundle(file.read_bytes(), commit)

    def change(self, files: Mapping[str | bytes, bytes | str | None], **more: object) -> Bundle:
        """A change as it should be: one commit on the base."""
        return self.bundle(self.commit(files, **more))  # type: ignore[arg-type]


def _entry(name: bytes, content: bytes | str | None, mode: str) -> list[bytes]:
    quoted = b'"' + name.replace(b"\\", b"\\\\").replace(b'"', b'\\"').replace(b"\n", b"\\n") + b'"'
    if content is None:
        return [b"D " + quoted]
    if mode == "160000":
        return [b"M 160000 " + str(content).encode() + b" " + quoted]
    data = content.encode() if isinstance(content, str) else content
    return [b"M %s inline %s" % (mode.encode(), quoted), b"data %d" % len(data), data]
