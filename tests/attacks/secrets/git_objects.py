"""What is packed in git repositories, unpacked: compressed, no search would see it."""

from __future__ import annotations

import os
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

QUIET = {"GIT_CONFIG_NOSYSTEM": "1", "GIT_CONFIG_GLOBAL": "/dev/null"}


def git(repository: Path, *arguments: str, stdin: bytes = b"") -> bytes:
    """Run git in a bare repository; raises CalledProcessError."""
    command = ("git", f"--git-dir={repository}", "-c", "safe.directory=*", *arguments)
    environment = {"PATH": os.environ["PATH"], **QUIET}
    done = subprocess.run(command, input=stdin, env=environment, capture_output=True, check=True)
    return done.stdout


def repositories(root: Path) -> Iterator[Path]:
    """Bare ones, anywhere below."""
    yield from (head.parent for head in root.rglob("HEAD") if (head.parent / "objects").is_dir())


def objects(repository: Path) -> bytes:
    """Every commit, tree, tag and blob, reachable or not, with its own header."""
    return git(repository, "cat-file", "--batch", "--batch-all-objects", "--unordered")


def unbundled(data: bytes, root: Path) -> list[tuple[str, bytes]]:
    """The objects of a bundle, which builds on those of the mirrors below `root`."""
    if not data.startswith(b"# v"):
        return []
    with tempfile.TemporaryDirectory() as scratch:
        repository = Path(scratch) / "unbundled.git"
        git(repository, "init", "--quiet", "--bare", "--template=")
        mirrors = root / "runner" / "mirrors"
        known = "".join(f"{path.absolute()}\n" for path in mirrors.glob("*.git/objects"))
        (repository / "objects" / "info").mkdir(exist_ok=True)
        (repository / "objects" / "info" / "alternates").write_text(known)
        (repository / "change").write_bytes(data)
        git(repository, "bundle", "unbundle", str(repository / "change"))
        (repository / "objects" / "info" / "alternates").unlink()
        return [("its objects", objects(repository))]
