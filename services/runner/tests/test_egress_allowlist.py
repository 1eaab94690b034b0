"""Lists of hosts: what an entry means, and what two lists allow together."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from patchwright_runner.egress.allowlist import Allowlist, EntryError, Pattern, Target
from patchwright_runner.egress.hosts import HostError, authority, normalised, shown
from patchwright_runner.egress.presets import PRESETS


def https(host: str, port: int = 443) -> Target:
    return Target("https", host, port)


def http(host: str, port: int = 80) -> Target:
    return Target("http", host, port)


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("pypi.org", "pypi.org"),
        ("PyPI.ORG", "pypi.org"),
        ("pypi.org.", "pypi.org"),
        ("münchen.example", "xn--mnchen-3ya.example"),
        ("XN--mnchen-3ya.example", "xn--mnchen-3ya.example"),
        ("mirror", "mirror"),
        ("7.example", "7.example"),
    ],
)
def test_spellings_of_a_name_are_one_name(text: str, name: str) -> None:
    assert normalised(text) == name
    assert normalised(name) == name


@pytest.mark.parametrize(
    "text",
    [
        "",
        ".",
        "pypi.org..",
        ".pypi.org",
        "pypi..org",
        "-a.example",
        "a b.example",
        "a\\b.example",
        "a/b.example",
        "a%2eb.example",
        "a\x00.example",
        "a\n.example",
        "under_score.example",
        "pypi\u3002org",
        "\uff50ypi.org",
        "\u212aelvin.example",
        "xn--zz--.example",
        "a." * 130 + "example",
        "a" * 64 + ".example",
        "ü" * 60 + ".example",
        "*.example.com",
    ],
)
def test_what_is_no_name_is_refused(text: str) -> None:
    with pytest.raises(HostError):
        normalised(text)


ADDRESSES = [
    "127.0.0.1",
    "127.0.0.1.",
    "127.1",
    "2130706433",
    "0x7f000001",
    "0X7F.0.0.1",
    "0177.0.0.1",
    "0x",
    "1.2.3.08",
    "::1",
    "[::1]",
    "[::ffff:127.0.0.1]",
    "fe80::1%eth0",
    "[fe80::1%25eth0]",
    "::ffff:7f00:1",
]


@pytest.mark.parametrize("text", ADDRESSES)
def test_address_literal_is_refused_in_every_spelling(text: str) -> None:
    with pytest.raises(HostError, match="Addresses are never allowed"):
        authority(text)
    with pytest.raises(EntryError, match="Addresses are never allowed"):
        Allowlist.parse([text])
    assert authority("a127.0.0.1.example:443") == ("a127.0.0.1.example", 443)


@pytest.mark.parametrize("text", ["a:0", "a:65536", "a:", "a:0443", "a:+1", "a:\uff14\uff14\uff13"])
def test_bad_port_is_refused(text: str) -> None:
    with pytest.raises(HostError, match="port"):
        authority(text)
    assert authority("a:443") == ("a", 443)


@pytest.mark.parametrize("text", ["u@a:443", "a@:443", "u:p@a:443", "a:443@b", "@a"])
def test_user_in_front_of_the_host_is_refused(text: str) -> None:
    with pytest.raises(HostError, match="A user in front of the host"):
        authority(text)


@given(st.text(max_size=40))
def test_normalised_names_stay_as_they_are(text: str) -> None:
    try:
        name = normalised(text)
    except HostError:
        return
    assert normalised(name) == name
    assert name.isascii()
    assert name == name.lower()


@given(st.text(max_size=300))
def test_what_is_shown_is_printable_and_bounded(text: str) -> None:
    assert shown(text).isprintable()
    assert shown(text).isascii()
    assert len(shown(text)) <= 100


@pytest.mark.parametrize(
    ("entry", "allowed", "refused"),
    [
        ("example.com", https("example.com"), https("www.example.com")),
        ("example.com", https("example.com"), https("badexample.com")),
        ("example.com", https("example.com"), https("example.com.evil.example")),
        ("example.com", https("example.com"), https("example.com", 8443)),
        ("example.com", https("example.com"), http("example.com")),
        ("example.com:8443", https("example.com", 8443), https("example.com")),
        ("https://example.com", https("example.com"), http("example.com")),
        ("http://example.com", http("example.com"), https("example.com")),
        ("http://example.com:8080", http("example.com", 8080), http("example.com")),
        ("*.example.com", https("a.example.com"), https("example.com")),
        ("*.example.com", https("a.b.example.com"), https("badexample.com")),
        ("*.Example.COM.", https("a.example.com"), https("a.example.org")),
    ],
)
def test_entry_allows_what_it_says_and_no_more(
    entry: str, allowed: Target, refused: Target
) -> None:
    allowlist = Allowlist.parse([entry])
    assert allowlist.allows(allowed)
    assert not allowlist.allows(refused)


@pytest.mark.parametrize(
    "text",
    ["", "*", "*.com", "*.*.example.com", "a.*.example.com", "ftp://a.example", "a.example/path"],
)
def test_entry_that_means_nothing_is_named_to_its_writer(text: str) -> None:
    with pytest.raises(EntryError, match=r"An entry looks like example\.com"):
        Allowlist.parse(["good.example", text])


def test_preset_stands_for_its_hosts() -> None:
    allowlist = Allowlist.parse(["registries"])
    for host in ("pypi.org", "files.pythonhosted.org", "registry.npmjs.org", "proxy.golang.org"):
        assert allowlist.allows(https(host))
    assert not allowlist.allows(http("deb.debian.org"))
    assert not Allowlist.parse(["pypi"]).allows(https("registry.npmjs.org"))


def test_every_preset_can_be_read() -> None:
    for name in PRESETS:
        assert Allowlist.parse([name]).entries


def test_job_may_reach_what_is_asked_and_permitted() -> None:
    asked = Allowlist.parse(["a.example.com", "*.example.org", "evil.example", "http://b.example"])
    permitted = Allowlist.parse(["*.example.com", "x.example.org", "b.example", "registries"])
    assert str(asked.within(permitted)) == "a.example.com, x.example.org"


HOSTS = ["example.com", "a.example.com", "b.a.example.com", "example.org", "com"]
ENTRIES = st.builds(
    lambda scheme, star, host, port: f"{scheme}{star}{host}{port}",
    st.sampled_from(["", "http://"]),
    st.sampled_from(["", "*."]),
    st.sampled_from(HOSTS[:4]),
    st.sampled_from(["", ":8443"]),
)
TARGETS = st.builds(
    Target,
    st.sampled_from(["https", "http"]),
    st.sampled_from([*HOSTS, "x.b.a.example.com", "xexample.com"]),
    st.sampled_from([80, 443, 8443]),
)


@given(st.lists(ENTRIES, max_size=4), st.lists(ENTRIES, max_size=4), TARGETS)
def test_two_lists_allow_together_what_each_allows(
    one: list[str], two: list[str], target: Target
) -> None:
    first, second = Allowlist.parse(one), Allowlist.parse(two)
    both = first.allows(target) and second.allows(target)
    assert first.within(second).allows(target) == both


def test_long_list_is_shown_in_short() -> None:
    allowlist = Allowlist.parse(f"h{number}.example" for number in range(30))
    assert str(allowlist).endswith("h19.example, 10 more")
    assert str(Allowlist()) == "none"
    assert str(Pattern.parse("*.example.com")) == "*.example.com"
