"""Which addresses webhooks may lead to: none that is special, however it is written."""

import ipaddress

import pytest

from app.webhooks import addresses
from app.webhooks.addresses import chosen, is_public, look_up

SPECIAL = [
    # https://www.iana.org/assignments/iana-ipv4-special-registry, first and last of each range
    *("0.0.0.0", "0.255.255.255", "10.0.0.0", "10.255.255.255", "100.64.0.0", "100.127.255.255"),
    *("127.0.0.0", "127.255.255.255", "169.254.0.0", "169.254.169.254", "169.254.255.255"),
    *("172.16.0.0", "172.31.255.255", "192.0.0.0", "192.0.0.9", "192.0.0.170", "192.0.0.255"),
    *("192.0.2.0", "192.0.2.255", "192.31.196.1", "192.52.193.1", "192.88.99.1", "192.168.0.0"),
    *("192.168.255.255", "192.175.48.1", "198.18.0.0", "198.19.255.255", "198.51.100.1"),
    *("203.0.113.1", "224.0.0.1", "239.255.255.255", "240.0.0.1", "255.255.255.255"),
    "168.63.129.16",
    # https://www.iana.org/assignments/iana-ipv6-special-registry
    *("::", "::1", "100::1", "100:0:0:1::1", "2001::1", "2001:1::1", "2001:1::2", "2001:2::1"),
    *("2001:3::1", "2001:4:112::1", "2001:10::1", "2001:20::1", "2001:30::1", "2001:db8::1"),
    *("2002::1", "2620:4f:8000::1", "3fff::1", "5f00::1", "fc00::1", "fd00:ec2::254", "fe80::1"),
    # multicast, site-local, and what nobody has been given
    *("ff02::1", "ff0e::1", "fec0::1", "feff::1", "4000::1", "1::1", "c000::1"),
    # IPv4 within: mapped, compatible, translated, NAT64, 6to4, Teredo, ISATAP
    *("::ffff:127.0.0.1", "::ffff:10.0.0.1", "::ffff:169.254.169.254", "::127.0.0.1"),
    *("::ffff:0:127.0.0.1", "64:ff9b::a9fe:a9fe", "64:ff9b::10.0.0.1", "64:ff9b::127.0.0.1"),
    *("64:ff9b:1::1", "64:ff9b:1:ffff:ffff:ffff:8.8.8.8", "64:ff9b:0:1::8.8.8.8"),
    *("2002:7f00:1::", "2002:a9fe:a9fe::1", "2001:0:7f00:1::1", "2001:0:808:808::1"),
    *("2606:4700::5efe:10.0.0.1", "2606:4700::200:5efe:127.0.0.1"),
    # with a zone
    *("fe80::1%eth0", "fe80::1%2", "2606:4700::1%eth0"),
    # no address at all, as the system writes them
    *("", "localhost", "0x7f.1", "127.1", "2130706433", "0177.0.0.1", "[::1]", "8.8.8.8/32"),
]
PUBLIC = [
    *("1.1.1.1", "8.8.8.8", "9.255.255.255", "11.0.0.0", "100.63.255.255", "100.128.0.0"),
    *("126.255.255.255", "128.0.0.0", "169.253.255.255", "169.255.0.0", "172.15.255.255"),
    *("172.32.0.0", "191.255.255.255", "192.0.1.0", "192.167.255.255", "192.169.0.0"),
    *("198.17.255.255", "198.20.0.0", "223.255.255.255", "2000::1", "2001:200::1", "2003::1"),
    *("2606:4700:4700::1111", "2a00:1450:4001::1", "::ffff:8.8.8.8", "64:ff9b::8.8.8.8"),
    "2606:4700::5efe:8.8.8.8",
]


@pytest.mark.parametrize("address", SPECIAL)
def test_a_special_address_is_refused(address: str) -> None:
    assert not is_public(address)


@pytest.mark.parametrize("address", PUBLIC)
def test_a_public_address_is_let_through(address: str) -> None:
    assert is_public(address)


@pytest.mark.parametrize(
    "address", [address for address in SPECIAL if ":" not in address and "." in address]
)
def test_an_ipv4_address_within_another_is_judged_as_well(address: str) -> None:
    try:
        number = int(ipaddress.IPv4Address(address))
    except ValueError:
        return
    for prefix in ("::ffff:0:0", "64:ff9b::", "2606:4700::5efe:0:0", "2606:4700::200:5efe:0:0"):
        assert not is_public(
            str(ipaddress.IPv6Address(int(ipaddress.IPv6Address(prefix)) + number))
        )


def test_all_that_python_knows_to_be_special_is() -> None:
    # Python's lists differ between versions; ours refuses what any of them does.
    networks = [*addresses.SPECIAL_IPV4, *addresses.SPECIAL_IPV6]
    for network in networks:
        for number in (0, network.num_addresses // 2, network.num_addresses - 1):
            assert not is_public(str(network[number]))
    for first in range(0, 1 << 32, 65_521 * 16):
        address = ipaddress.IPv4Address(first)
        assert not is_public(str(address)) or address.is_global
    for first in range(1 << 16):
        address = ipaddress.IPv6Address(first << 112 | 1)
        assert not is_public(str(address)) or address.is_global


def test_every_address_of_a_host_counts() -> None:
    assert chosen(["8.8.8.8", "2606:4700::1"]) == "8.8.8.8"
    for found in (["8.8.8.8", "10.0.0.1"], ["10.0.0.1", "8.8.8.8"], ["8.8.8.8", "::1"], []):
        with pytest.raises(ValueError, match="private or reserved"):
            chosen(found)


@pytest.mark.anyio
async def test_spellings_of_an_address_are_looked_up_to_what_they_mean() -> None:
    for host in ("localhost", "127.0.0.1", "::1"):
        assert not any(map(is_public, await look_up(host, 443)))
    for host in ("0x7f.1", "2130706433", "0177.0.0.1", "127.1", "0x7f000001", "::ffff:7f00:1"):
        try:
            found = await look_up(host, 443)
        except OSError:
            continue  # Not every system knows every spelling.
        assert not any(map(is_public, found))


@pytest.mark.anyio
@pytest.mark.parametrize("host", ["nowhere.invalid", "x" * 64 + ".com", "a..b", "\ud800"])
async def test_a_name_that_is_none_is_an_error_of_the_system(host: str) -> None:
    with pytest.raises(OSError, match=r"."):
        await look_up(host, 443)
