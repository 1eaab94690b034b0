"""Names for groups of hosts that an allowlist may use instead of listing them.

Each host was taken from its registry's own documentation. None of these is read-only: whoever
reaches a registry can upload to it too, with credentials of their own.
"""

from __future__ import annotations

_BY_LANGUAGE: dict[str, tuple[str, ...]] = {
    "pypi": ("pypi.org", "files.pythonhosted.org"),
    "npm": ("registry.npmjs.org", "registry.yarnpkg.com"),
    "crates": ("crates.io", "index.crates.io", "static.crates.io"),
    "go": ("proxy.golang.org", "sum.golang.org"),
    "maven": ("repo1.maven.org", "repo.maven.apache.org"),
    "rubygems": ("rubygems.org", "index.rubygems.org"),
    "nuget": ("api.nuget.org",),
    "debian": ("deb.debian.org", "security.debian.org"),
}

PRESETS: dict[str, tuple[str, ...]] = {
    **_BY_LANGUAGE,
    "registries": tuple(host for hosts in _BY_LANGUAGE.values() for host in hosts),
}
"""Entries by the preset's name. A host of one of these names would need its full name."""
