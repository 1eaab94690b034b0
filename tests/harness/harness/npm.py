"""Files of packages on npm, fetched when a test needs them and checked against a pinned digest."""

from __future__ import annotations

import base64
import hashlib
import io
import os
import shutil
import ssl
import subprocess
import tarfile
from dataclasses import dataclass
from pathlib import Path

import httpx

PUBLIC = "https://registry.npmjs.org"
SIZE_LIMIT = 64 * 2**20


@dataclass(frozen=True)
class Package:
    """One version; `integrity` is npm's `sha512-…` of its archive."""

    name: str
    version: str
    integrity: str

    def read(self, member: str) -> bytes:
        """A file of it. Raises ValueError when the archive is not the pinned one."""
        with tarfile.open(fileobj=io.BytesIO(self._archive()), mode="r:gz") as archive:
            file = archive.extractfile(f"package/{member}")
            assert file is not None, member
            return file.read()

    def _archive(self) -> bytes:
        kept = _cache() / f"{self.name.rpartition('/')[2]}-{self.version}.tgz"
        if kept.exists():
            data = kept.read_bytes()
            if self._fits(data):
                return data
        url = f"{registry()}/{self.name}/-/{kept.name}"
        system = ssl.create_default_context()  # httpx would trust its own list alone
        with httpx.Client(follow_redirects=True, timeout=60, verify=system) as http:
            data = http.get(url).raise_for_status().content[:SIZE_LIMIT]
        if not self._fits(data):
            raise ValueError(f"{self.name} {self.version} is not what was pinned")
        kept.parent.mkdir(parents=True, exist_ok=True)
        half = kept.with_suffix(f".{os.getpid()}")
        half.write_bytes(data)
        half.replace(kept)
        return data

    def _fits(self, data: bytes) -> bool:
        digest = base64.b64encode(hashlib.sha512(data).digest()).decode()
        return self.integrity == f"sha512-{digest}"


def registry() -> str:
    """The one that this machine's npm uses; the public one where there is none."""
    for name in ("npm_config_registry", "NPM_CONFIG_REGISTRY"):
        if found := os.environ.get(name):
            return found.rstrip("/")
    npm = shutil.which("npm")
    if npm is None:
        return PUBLIC
    said = subprocess.run(
        (npm, "config", "get", "registry"), capture_output=True, text=True, timeout=30, check=False
    )
    found = said.stdout.strip().rstrip("/")
    return found if found.startswith("http") else PUBLIC


def _cache() -> Path:
    """Outside the checkout."""
    home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(home) / "patchwright-tests"
