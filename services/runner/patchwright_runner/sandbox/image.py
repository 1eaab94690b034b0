"""Builds the image that the docker backend starts: `python -m …sandbox.image <context>`.

`docker build` where the base image is there or can be pulled; else debootstrap from the
mirror that this machine's own apt uses, which needs root and works behind a closed network.
The image carries a digest of its context, so a second build has nothing to do.
"""

# ruff: noqa: T201 - a command for people, who watch its progress

from __future__ import annotations

import argparse
import hashlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

DEFAULT_IMAGE = "patchwright-sandbox:1"
"""The one place where the tag is pinned."""

DIGEST_LABEL = "patchwright.context"
_APT = Path("/etc/apt")
_PROBE_SECONDS = 20
_PULL_SECONDS = 300
_BUILD_SECONDS = 1800
_VARIANT = "minbase"


class ImageError(Exception):
    """The image cannot be built here; the text says what to do."""


@dataclass(frozen=True, slots=True)
class AptSource:
    """The package source that a root file system is made from."""

    uri: str
    suite: str
    components: tuple[str, ...]
    keyring: str | None


def context_digest(context: Path) -> str:
    """What the image is made of; the builder's own steps count as well."""
    digest = hashlib.sha256(_VARIANT.encode())
    for name in ("Dockerfile", "packages.txt"):
        digest.update((context / name).read_bytes())
    return digest.hexdigest()[:16]


def build(context: Path, tag: str = DEFAULT_IMAGE, docker: str = "docker") -> None:
    """Make sure that `tag` exists and was built from this context."""
    digest = context_digest(context)
    if _label(docker, tag) == digest:
        _say(f"{tag} is up to date ({digest})")
        return
    base = _base_image(context)
    if _has_base(docker, base) and _docker_build(docker, context, tag, digest):
        return
    _say(f"no usable {base}: building with debootstrap instead")
    _debootstrap_build(docker, context, tag, digest)


def apt_source(apt: Path = _APT, os_release: Path = Path("/etc/os-release")) -> AptSource:
    """The first source in apt's configuration that carries this system's own release."""
    found = re.search(r'^VERSION_CODENAME="?([\w.-]+)', os_release.read_text(), re.MULTILINE)
    if found is None:
        raise ImageError(f"{os_release} names no VERSION_CODENAME: is this Debian or Ubuntu?")
    for source in _sources(apt):
        if source.suite == found[1] and "main" in source.components:
            return source
    raise ImageError(f"no apt source under {apt} offers {found[1]} main")


def _sources(apt: Path) -> Iterator[AptSource]:
    lists = [apt / "sources.list", *sorted((apt / "sources.list.d").glob("*.list"))]
    for path in lists:
        if path.is_file():
            yield from _one_line_sources(path.read_text())
    for path in sorted((apt / "sources.list.d").glob("*.sources")):
        yield from _deb822_sources(path.read_text())


def _one_line_sources(text: str) -> Iterator[AptSource]:
    """sources.list(5), one-line style: `deb [signed-by=…] uri suite component…`."""
    line = re.compile(
        r"^deb\s+(?:\[(?P<options>[^]]*)\]\s+)?(?P<uri>\S+)\s+(?P<suite>\S+)(?P<rest>.*)$"
    )
    for match in filter(None, map(line.match, text.splitlines())):
        signed = re.search(r"signed-by=(/\S+)", match["options"] or "")
        components = tuple(match["rest"].split("#")[0].split())
        yield AptSource(match["uri"], match["suite"], components, signed[1] if signed else None)


def _deb822_sources(text: str) -> Iterator[AptSource]:
    """sources.list(5), deb822 style: stanzas parted by empty lines."""
    uncommented = "\n".join(row for row in text.splitlines() if not row.startswith("#"))
    for stanza in re.split(r"\n\s*\n", uncommented):
        fields = dict(re.findall(r"^([\w-]+):[ \t]*(.*)$", stanza, re.MULTILINE))
        if "deb" not in fields.get("Types", "").split():
            continue
        signed = fields.get("Signed-By", "")
        for uri in fields.get("URIs", "").split():
            for suite in fields.get("Suites", "").split():
                components = tuple(fields.get("Components", "").split())
                keyring = signed if signed.startswith("/") else None
                yield AptSource(uri, suite, components, keyring)


def _label(docker: str, tag: str) -> str | None:
    form = f'{{{{index .Config.Labels "{DIGEST_LABEL}"}}}}'
    shown = _capture([docker, "image", "inspect", "--format", form, tag])
    return shown.stdout.strip() if shown.returncode == 0 else None


def _base_image(context: Path) -> str:
    found = re.search(r"^FROM (\S+)", (context / "Dockerfile").read_text(), re.MULTILINE)
    if found is None:
        raise ImageError(f"{context}/Dockerfile has no FROM line")
    return found[1]


def _has_base(docker: str, base: str) -> bool:
    answer = _capture([docker, "version", "--format", "{{.Server.Version}}"])
    if answer.returncode != 0:
        raise ImageError(f"no Docker engine answers: {answer.stderr.strip()}")
    if _capture([docker, "image", "inspect", base]).returncode == 0:
        return True
    _say(f"pulling {base}")
    return _succeeds([docker, "pull", "--quiet", base], _PULL_SECONDS)


def _docker_build(docker: str, context: Path, tag: str, digest: str) -> bool:
    _say(f"docker build {tag}")
    label = f"{DIGEST_LABEL}={digest}"
    command = [docker, "build", "--tag", tag, "--label", label, str(context)]
    return _succeeds(command, _BUILD_SECONDS)


def _debootstrap_build(docker: str, context: Path, tag: str, digest: str) -> None:
    if shutil.which("debootstrap") is None:
        raise ImageError("debootstrap is missing: install it, or let Docker pull the base image")
    if os.geteuid() != 0:
        raise ImageError("debootstrap needs root: run this once with sudo")
    with tempfile.TemporaryDirectory(prefix="patchwright-image-") as scratch:
        root = Path(scratch) / "root"
        _bootstrap(root, apt_source(), (context / "packages.txt").read_text().split())
        _finish(root)
        _import(docker, root, tag, digest)


def _bootstrap(root: Path, source: AptSource, packages: Sequence[str]) -> None:
    _say(f"debootstrap {source.suite} with {len(packages)} packages")
    options = [f"--variant={_VARIANT}", f"--include={','.join(packages)}"]
    options.append(f"--components={','.join(source.components)}")
    if source.keyring is not None:
        options.append(f"--keyring={source.keyring}")
    command = ["debootstrap", *options, source.suite, str(root), source.uri]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        for line in process.stdout or ():
            if not line.startswith(("I: Validating", "I: Retrieving")):
                _progress(line)
    if process.returncode != 0:
        raise ImageError(f"debootstrap failed with exit code {process.returncode}")


def _finish(root: Path) -> None:
    """The Dockerfile's last steps; the mirror's address may hold a password, so it goes."""
    shutil.rmtree(root / "var/lib/apt/lists")
    shutil.rmtree(root / "var/cache/apt/archives")
    (root / "etc/apt/sources.list").unlink(missing_ok=True)
    user = ["useradd", "--uid", "10001", "--gid", "10001", "--create-home", "--shell", "/bin/bash"]
    _check(["chroot", str(root), "groupadd", "--gid", "10001", "agent"])
    _check(["chroot", str(root), *user, "agent"])
    (root / "mirror/objects").mkdir(parents=True)
    (root / "workspace").mkdir()
    os.chown(root / "workspace", 10001, 10001)


def _import(docker: str, root: Path, tag: str, digest: str) -> None:
    _say(f"docker import {tag}")
    changes = ["USER 10001:10001", "WORKDIR /workspace", f"LABEL {DIGEST_LABEL}={digest}"]
    flags = [part for change in changes for part in ("--change", change)]
    pack = [
        "tar",
        "--create",
        "--numeric-owner",
        "--one-file-system",
        "--directory",
        str(root),
        ".",
    ]
    with subprocess.Popen(pack, stdout=subprocess.PIPE) as archive:
        command = [docker, "import", *flags, "-", tag]
        imported = subprocess.run(
            command, stdin=archive.stdout, timeout=_BUILD_SECONDS, check=False
        )
    if imported.returncode != 0 or archive.returncode != 0:
        raise ImageError(f"docker import failed with exit code {imported.returncode}")


def _capture(command: Sequence[str]) -> subprocess.CompletedProcess[str]:
    try:
        return subprocess.run(
            command, capture_output=True, text=True, timeout=_PROBE_SECONDS, check=False
        )
    except FileNotFoundError as error:
        raise ImageError(f"{command[0]} is not installed") from error
    except subprocess.TimeoutExpired as error:
        raise ImageError(f"{command[0]} did not answer within {_PROBE_SECONDS} s") from error


def _succeeds(command: Sequence[str], seconds: float) -> bool:
    """Whether the command worked; its output goes to the terminal, a hang counts as failure."""
    try:
        return subprocess.run(command, timeout=seconds, check=False).returncode == 0
    except subprocess.TimeoutExpired:
        _say(f"{command[0]} {command[1]} took over {seconds:.0f} s")
        return False


def _check(command: Sequence[str]) -> None:
    done = subprocess.run(command, timeout=_PROBE_SECONDS, check=False)
    if done.returncode != 0:
        raise ImageError(f"{' '.join(command)} failed with exit code {done.returncode}")


def _say(text: str) -> None:
    print(f"image: {text}", flush=True)


def _progress(line: str) -> None:
    """One line that is overwritten on a terminal, a log elsewhere."""
    print(
        f"\r\033[K  {line.strip()[:100]}" if sys.stdout.isatty() else f"  {line.strip()}",
        flush=True,
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit code 0 when the image is there afterwards."""
    parser = argparse.ArgumentParser(description="Build the sandbox image.")
    parser.add_argument("context", type=Path, help="the folder with Dockerfile and packages.txt")
    parser.add_argument("--tag", default=DEFAULT_IMAGE)
    chosen = parser.parse_args(arguments)
    try:
        build(chosen.context, chosen.tag)
    except ImageError as error:
        print(f"image: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
