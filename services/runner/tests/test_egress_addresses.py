"""Where an address leads to."""

from __future__ import annotations

import pytest

from patchwright_runner.egress.addresses import Reach, reach


@pytest.mark.parametrize(
    "address",
    [
        "1.1.1.1",
        "151.101.0.223",
        "172.15.0.1",
        "172.32.0.1",
        "100.63.255.255",
        "100.128.0.1",
        "2606:4700::1111",
        "2a04:4e42::223",
        "2001:4860:4860::8888",
        "64:ff9b::101:101",
        "::ffff:1.1.1.1",
    ],
)
def test_address_of_the_internet_is_public(address: str) -> None:
    assert reach(address) is Reach.PUBLIC


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1",
        "127.255.255.254",
        "10.1.2.3",
        "172.16.0.1",
        "172.31.255.255",
        "192.168.1.1",
        "100.64.0.1",
        "198.18.0.1",
        "::1",
        "fd12:3456::1",
        "fc00::1",
        "203.0.113.1",
        "2001:db8::1",
        "3fff::1",
        "::ffff:127.0.0.1",
        "::ffff:10.0.0.1",
        "64:ff9b::a00:1",
        "64:ff9b::7f00:1",
    ],
)
def test_address_of_a_private_network_is_private(address: str) -> None:
    assert reach(address) is Reach.PRIVATE


@pytest.mark.parametrize(
    "address",
    [
        "169.254.169.254",
        "::ffff:169.254.169.254",
        "64:ff9b::a9fe:a9fe",
        "fd00:ec2::254",
        "fd20:ce::254",
        "100.100.100.200",
        "168.63.129.16",
        "192.0.0.192",
        "0.0.0.0",  # noqa: S104 - an address to refuse
        "0.1.2.3",
        "::",
        "::7f00:1",
        "::ffff:0.0.0.0",
        "224.0.0.1",
        "239.1.2.3",
        "255.255.255.255",
        "240.0.0.1",
        "192.88.99.1",
        "fe80::1",
        "fe80::1%eth0",
        "fec0::1",
        "ff02::1",
        "ff0e::1",
        "2002:a00:1::1",
        "2002:101:101::1",
        "2001::1",
        "5f00::1",
        "100::1",
        "64:ff9b:1::a00:1",
        "4000::1",
        "",
        "localhost",
        "127.1",
    ],
)
def test_address_for_nobody_is_never_reached(address: str) -> None:
    assert reach(address) is Reach.NEVER
