"""Small real repositories, made with the real git."""

from __future__ import annotations

import os
import subprocess
from dataclasses import dataclass
from pathlib import Path

ENVIRONMENT = {
    "PATH": os.environ["PATH"],
    "GIT_CONFIG_NOSYSTEM": "1",
    "GIT_CONFIG_GLOBAL": "/dev/null",
    "GIT_AUTHOR_NAME": "Someone",
    "GIT_AUTHOR_EMAIL": "someone@example.com",
    "GIT_COMMITTER_NAME": "Someone",
    "GIT_COMMITTER_EMAIL": "someone@example.com",
}


def git(directory: Path, *arguments: str, stdin: bytes | None = None) -> str:
    command = ["git", "-C", str(directory), *arguments]
    done = subprocess.run(
        command, env=ENVIRONMENT, input=stdin, capture_output=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout.decode(errors="surrogateescape").strip()


@dataclass(frozen=True)
class Repository:
    """A work tree to commit in and the bare repository behind it."""

    path: Path
    bare: Path
    base: str

    @classmethod
    def create(cls, path: Path) -> Repository:
        path.mkdir(parents=True)
        git(path, "init", "--quiet", "--initial-branch=main")
        (path / "kept.txt").write_text("kept\n")
        (path / "changed.txt").write_text("one\ntwo\nthree\n")
        (path / "deleted.txt").write_text("deleted\n")
        (path / "windows.txt").write_bytes(b"a\r\nb\r\n")
        (path / "tool.sh").write_text("#!/bin/sh\n")
        (path / "link").symlink_to("kept.txt")
        (path / "folder").mkdir()
        (path / "folder" / "inner.txt").write_text("inner\n")
        (path / ".gitignore").write_text("*.log\nbuild/\n")
        (path / ".gitattributes").write_text("* text=auto\n*.txt eol=lf\n")
        git(path, "-c", "core.autocrlf=false", "add", "--all")
        git(path, "commit", "--quiet", "--message=first")
        bare = path.parent / f"{path.name}.git"
        git(path, "clone", "--quiet", "--bare", str(path), str(bare))
        return cls(path, bare, git(path, "rev-parse", "HEAD"))

    def commit(self, name: str, text: str) -> str:
        (self.path / name).write_text(text)
        git(self.path, "add", "--all")
        git(self.path, "commit", "--quiet", f"--message=change {name}")
        git(self.path, "push", "--quiet", str(self.bare), "HEAD:refs/heads/main")
        return git(self.path, "rev-parse", "HEAD")
