"""Which addresses a caller may make the service connect to: public ones alone.

The ranges are written out, by the IANA special-purpose address registries, because what Python's
`ipaddress.is_global` says of them differs from version to version.
https://www.iana.org/assignments/iana-ipv4-special-registry
https://www.iana.org/assignments/iana-ipv6-special-registry
"""

import asyncio
import contextlib
import socket
import threading
from collections.abc import Sequence
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address

SPECIAL_IPV4 = tuple(
    IPv4Network(network)
    for network in (
        "0.0.0.0/8",  # this network
        "10.0.0.0/8",  # private
        "100.64.0.0/10",  # shared by the customers of a provider
        "127.0.0.0/8",  # loopback
        "168.63.129.16/32",  # the platform of every virtual machine in Azure
        "169.254.0.0/16",  # link-local, and the metadata of clouds
        "172.16.0.0/12",  # private
        "192.0.0.0/24",  # protocol assignments
        "192.0.2.0/24",  # documentation
        "192.31.196.0/24",  # AS112
        "192.52.193.0/24",  # multicast tunnels
        "192.88.99.0/24",  # 6to4 relays
        "192.168.0.0/16",  # private
        "192.175.48.0/24",  # AS112
        "198.18.0.0/15",  # benchmarks
        "198.51.100.0/24",  # documentation
        "203.0.113.0/24",  # documentation
        "224.0.0.0/4",  # multicast
        "240.0.0.0/4",  # reserved, and broadcast
    )
)
# All global unicast addresses; outside of it lie ::/96 (IPv4-compatible), 64:ff9b:1::/48 (local
# NAT64), 100::/64 (discard), 5f00::/16 (segment routing), fc00::/7 (private), fe80::/10
# (link-local), fec0::/10 (site-local) and ff00::/8 (multicast).
GLOBAL_UNICAST = IPv6Network("2000::/3")
SPECIAL_IPV6 = tuple(
    IPv6Network(network)
    for network in (
        "2001::/23",  # protocol assignments: Teredo, benchmarks, ORCHID and others
        "2001:db8::/32",  # documentation
        "2002::/16",  # 6to4
        "2620:4f:8000::/48",  # AS112
        "3fff::/20",  # documentation
    )
)
# Where only an IPv6 network leads to IPv4, public hosts have such addresses (RFC 6052).
NAT64 = IPv6Network("64:ff9b::/96")
# The interface identifiers of ISATAP (RFC 5214), before an IPv4 address.
ISATAP = frozenset({0x0000_5EFE, 0x0200_5EFE})


def is_public(text: str) -> bool:
    """Whether an address, as the system writes it, is public, and so is an IPv4 address within."""
    try:
        address = ip_address(text)
    except ValueError:
        return False
    if isinstance(address, IPv4Address):
        return _is_public_ipv4(address)
    return _is_public_ipv6(address)


def _is_public_ipv4(address: IPv4Address) -> bool:
    return not any(address in network for network in SPECIAL_IPV4)


def _is_public_ipv6(address: IPv6Address) -> bool:
    # A zone says which of the machine's own links leads there.
    if address.scope_id is not None:
        return False
    number = int(address)
    within = IPv4Address(number & 0xFFFF_FFFF)
    if address.ipv4_mapped or address in NAT64:
        return _is_public_ipv4(within)
    if (number >> 32) & 0xFFFF_FFFF in ISATAP and not _is_public_ipv4(within):
        return False
    return address in GLOBAL_UNICAST and not any(address in network for network in SPECIAL_IPV6)


def chosen(found: Sequence[str]) -> str:
    """The first of a host's addresses; raises ValueError unless all of them are public."""
    if not found or not all(map(is_public, found)):
        raise ValueError("this host has a private or reserved address")
    return found[0]


def look_up(host: str, port: int) -> "asyncio.Future[Sequence[str]]":
    """The addresses of a host, looked up in a thread of its own; the future raises OSError.

    A name's servers may keep a thread waiting for long after nobody waits any more: of a pool they
    would take the threads from everybody else.
    """
    loop = asyncio.get_running_loop()
    found: asyncio.Future[Sequence[str]] = loop.create_future()

    def settle(addresses: Sequence[str], error: OSError | None) -> None:
        if found.done():
            return
        if error is None:
            found.set_result(addresses)
        else:
            found.set_exception(error)
            # Nobody may wait for it any more.
            found.exception()

    def run() -> None:
        addresses: list[str] = []
        failure = None
        try:
            rows = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
            addresses = [str(row[4][0]) for row in rows]
        # A name that cannot be encoded is one that cannot be looked up.
        except (OSError, UnicodeError) as error:
            failure = OSError(str(error))
        # The loop may be closed by now.
        with contextlib.suppress(RuntimeError):
            loop.call_soon_threadsafe(settle, addresses, failure)

    threading.Thread(target=run, name="quickstudy-lookup", daemon=True).start()
    return found
