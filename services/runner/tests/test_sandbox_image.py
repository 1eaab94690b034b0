"""The image builder: apt's own mirror is found, whatever style its sources have."""

from __future__ import annotations

from pathlib import Path

import pytest

from patchwright_runner.sandbox.image import (
    AptSource,
    ImageError,
    apt_source,
    build,
    context_digest,
)

DEB822 = """\
# a comment
Types: deb deb-src
URIs: http://mirror.invalid/debian
Suites: trixie-updates trixie
Components: main contrib
Signed-By: /usr/share/keyrings/a.gpg

Types: deb
URIs: http://mirror.invalid/other
Suites: trixie
Components: main
"""
ONE_LINE = """\
# deb http://commented.invalid trixie main
deb http://other.invalid/repo nodistro main
deb [arch=amd64 signed-by=/k.gpg] http://mirror.invalid/ubuntu trixie main universe # why
"""


@pytest.fixture
def apt(tmp_path: Path) -> Path:
    (tmp_path / "os-release").write_text('ID=x\nVERSION_CODENAME="trixie"\n')
    (tmp_path / "sources.list.d").mkdir()
    return tmp_path


def test_deb822_source_of_this_release_is_found(apt: Path) -> None:
    (apt / "sources.list.d/debian.sources").write_text(DEB822)
    assert apt_source(apt, apt / "os-release") == AptSource(
        "http://mirror.invalid/debian", "trixie", ("main", "contrib"), "/usr/share/keyrings/a.gpg"
    )


def test_one_line_source_of_this_release_is_found(apt: Path) -> None:
    (apt / "sources.list").write_text(ONE_LINE)
    assert apt_source(apt, apt / "os-release") == AptSource(
        "http://mirror.invalid/ubuntu", "trixie", ("main", "universe"), "/k.gpg"
    )


def test_no_source_is_an_error_that_says_so(apt: Path) -> None:
    with pytest.raises(ImageError, match="no apt source"):
        apt_source(apt, apt / "os-release")


def test_digest_follows_what_the_image_is_made_of(tmp_path: Path) -> None:
    (tmp_path / "Dockerfile").write_text("FROM x\n")
    (tmp_path / "packages.txt").write_text("git\n")
    before = context_digest(tmp_path)
    (tmp_path / "packages.txt").write_text("git\njq\n")
    assert context_digest(tmp_path) != before


def test_missing_docker_is_an_error_that_says_so(tmp_path: Path) -> None:
    (tmp_path / "Dockerfile").write_text("FROM x\n")
    (tmp_path / "packages.txt").write_text("git\n")
    with pytest.raises(ImageError, match="not installed"):
        build(tmp_path, "x:1", docker="docker-that-is-not-there")
