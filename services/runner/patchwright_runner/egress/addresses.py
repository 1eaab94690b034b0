"""What an address leads to: the internet, a private network, or what nobody may reach from a box.

The tables are IANA's special-purpose registries for IPv4 and IPv6. `ipaddress.is_global` is
not used: before Python 3.11.10 and 3.12.4 it calls some of them global, and it does so with
multicast and with the old ways of writing an IPv4 address in an IPv6 one in every release.
"""

from __future__ import annotations

from enum import Enum
from ipaddress import (
    IPv4Address,
    IPv4Network,
    IPv6Address,
    IPv6Network,
    ip_address,
)

Address = IPv4Address | IPv6Address


class Reach(Enum):
    """How far a connection to the address would go."""

    PUBLIC = "public"
    PRIVATE = "private"
    """This machine or networks around it: for hosts that the operator lists as private."""
    NEVER = "never"
    """Metadata services, link-local, multicast, unspecified, reserved: for no host at all."""


_NEVER = (
    IPv4Network("0.0.0.0/8"),
    IPv4Network("169.254.0.0/16"),  # link-local; 169.254.169.254 is the clouds' metadata
    IPv4Network("192.0.0.0/24"),  # 192.0.0.192: Oracle's metadata
    IPv4Network("192.88.99.0/24"),  # 6to4 relays
    IPv4Network("224.0.0.0/4"),
    IPv4Network("240.0.0.0/4"),
    IPv4Network("100.100.100.200/32"),  # Alibaba's metadata
    IPv4Network("168.63.129.16/32"),  # Azure's, in a public range
    IPv6Network("fd00:ec2::254/128"),  # Amazon's, in a private range
    IPv6Network("fd20:ce::254/128"),  # Google's
)
_PRIVATE = (
    IPv4Network("10.0.0.0/8"),
    IPv4Network("100.64.0.0/10"),
    IPv4Network("127.0.0.0/8"),
    IPv4Network("172.16.0.0/12"),
    IPv4Network("192.168.0.0/16"),
    IPv4Network("198.18.0.0/15"),
    # Of documentation: where one of them leads anywhere, it is to somebody's own network.
    IPv4Network("192.0.2.0/24"),
    IPv4Network("198.51.100.0/24"),
    IPv4Network("203.0.113.0/24"),
    IPv6Network("::1/128"),
    IPv6Network("2001:db8::/32"),
    IPv6Network("3fff::/20"),
    IPv6Network("fc00::/7"),
)
_UNICAST = IPv6Network("2000::/3")
"""All that is public in IPv6 lies here, and not all here is."""
_SPECIAL = (
    IPv6Network("2001::/23"),  # Teredo and other protocols
    IPv6Network("2002::/16"),  # 6to4, which would carry any IPv4 address
)
_NAT64 = IPv6Network("64:ff9b::/96")
"""How a network of IPv6 alone reaches IPv4: the address is in the last four bytes."""


def reach(text: str) -> Reach:
    """Of an address as a resolver gives it. What cannot be read leads nowhere."""
    try:
        address: Address = ip_address(text)
    except ValueError:
        return Reach.NEVER
    return _reach(_embedded(address) or address)


def _embedded(address: Address) -> IPv4Address | None:
    if isinstance(address, IPv4Address):
        return None
    if address in _NAT64:
        return IPv4Address(address.packed[-4:])
    return address.ipv4_mapped


def _reach(address: Address) -> Reach:
    if _any(address, _NEVER):
        return Reach.NEVER
    if _any(address, _PRIVATE):
        return Reach.PRIVATE
    if isinstance(address, IPv4Address):
        return Reach.PUBLIC
    public = address in _UNICAST and not _any(address, _SPECIAL)
    return Reach.PUBLIC if public else Reach.NEVER


def _any(address: Address, networks: tuple[IPv4Network | IPv6Network, ...]) -> bool:
    return any(address in network for network in networks)
