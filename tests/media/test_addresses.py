import ipaddress
import socket

import pytest

from usl_backend.errors import MediaError
from usl_backend.media import UnavailableError
from usl_backend.media.addresses import is_public, parse, resolve


def answering(*addresses: str):
    """A resolver that gives these addresses to every name, and counts."""

    def resolver(host: str, port: int, **_: object) -> list[tuple[object, ...]]:
        resolver.asked.append(host)
        return [
            (
                socket.AF_INET6 if ":" in address else socket.AF_INET,
                socket.SOCK_STREAM,
                6,
                "",
                (address, port),
            )
            for address in addresses
        ]

    resolver.asked = []
    return resolver


PRIVATE = [
    "127.0.0.1", "127.9.9.9", "0.0.0.0", "10.1.2.3", "172.16.0.1", "192.168.1.1", "169.254.169.254",
    "100.64.0.1", "192.0.0.1", "192.0.2.1", "198.18.0.1", "224.0.0.1", "240.0.0.1", "255.255.255.255",
    "::", "::1", "fe80::1", "fe80::1%eth0", "fc00::1", "fd12:3456::1", "ff02::1", "2001:db8::1",
    "::ffff:127.0.0.1", "::ffff:10.0.0.1", "::127.0.0.1", "2002:7f00:1::", "2002:a00:1::",
    "64:ff9b::7f00:1", "64:ff9b::a00:1", "64:ff9b:1::1", "no address",
]  # fmt: skip


_BLOCKS = """
0.0.0.0/8 0.0.0.0/32 10.0.0.0/8 100.64.0.0/10 127.0.0.0/8 169.254.0.0/16 172.16.0.0/12 192.0.0.0/24 192.0.0.0/29
192.0.0.8/32 192.0.0.9/32 192.0.0.10/32 192.0.0.170/32 192.0.0.171/32 192.0.2.0/24 192.31.196.0/24 192.52.193.0/24
192.88.99.0/24 192.88.99.2/32 192.168.0.0/16 192.175.48.0/24 198.18.0.0/15 198.51.100.0/24 203.0.113.0/24 224.0.0.0/4
240.0.0.0/4 255.255.255.255/32
::1/128 ::/128 64:ff9b:1::/48 100::/64 100:0:0:1::/64 2001::/23 2001::/32 2001:1::1/128 2001:1::2/128 2001:1::3/128
2001:2::/48 2001:3::/32 2001:4:112::/48 2001:10::/28 2001:20::/28 2001:30::/28 2001:db8::/32 2620:4f:8000::/48
3fff::/20 5f00::/16 fc00::/7 fe80::/10 fec0::/10 ff00::/8
::/96 ::ffff:0:0:0/96 200::/7 400::/6 800::/5 1000::/4 4000::/3 6000::/3 8000::/3 a000::/3 c000::/3 e000::/4 f000::/5
f800::/6 fe00::/9
"""
SPECIAL = _BLOCKS.split()
"""Every row of IANA's special-purpose address registries of IPv4 and IPv6 as they stood on 2026-07-18, multicast, and
what IPv6 leaves unassigned.

Not here: ::ffff:0:0/96, 64:ff9b::/96 and 2002::/16, which wrap an IPv4 address and are as public as that.
"""


@pytest.mark.parametrize("block", SPECIAL)
def test_is_public__no_address_of_a_special_block(block: str) -> None:
    network = ipaddress.ip_network(block)
    last = network.num_addresses - 1
    for place in {0, min(1, last), last // 3, last // 2, last}:
        assert not is_public(str(network[place])), network[place]


@pytest.mark.parametrize("address", PRIVATE)
def test_is_public__private_and_reserved(address: str) -> None:
    assert not is_public(address)


@pytest.mark.parametrize(
    "address",
    [
        "8.8.8.8",
        "93.184.216.34",
        "2606:4700::1111",
        "2001:4860:4860::8888",
        "2a00:1450::1",
        "::ffff:8.8.8.8",
        "64:ff9b::808:808",
    ],
)
def test_is_public__public(address: str) -> None:
    assert is_public(address)


@pytest.mark.parametrize(
    "url",
    [
        "file:///etc/passwd", "FILE:///etc/passwd", "ftp://host/a", "gopher://host/", "s3://bucket/key",
        "javascript:alert(1)", "jar:http://host/a!b", "http://", "http:///path", "http://user@host/",
        "http://user:secret@host/", "http://public.test@127.0.0.1/", "http://public.test\\@127.0.0.1/",
        "http://127.0.0.1%2f.public.test/", "http://host\n.test/", "http://host/\r\nX-Evil: 1",
        "http://host:99999/", "http://host:x/", "http://[::1", "http://a%00b/", "C:\\Windows\\a.png",
    ],
)  # fmt: skip
def test_parse__refuses(url: str) -> None:
    with pytest.raises(MediaError):
        parse(url)


@pytest.mark.parametrize(
    ("url", "origin", "request_line"),
    [
        ("http://Host.Test/a.png", ("http", "host.test", 80), "/a.png"),
        ("https://host.test.", ("https", "host.test", 443), "/"),
        ("http://host:8080/a b.png?x=1&y=/../", ("http", "host", 8080), "/a%20b.png?x=1&y=/../"),
        ("http://host/%2e%2e/a%20b?q=%26#part", ("http", "host", 80), "/%2e%2e/a%20b?q=%26"),
        ("http://b\u00fccher.test/\u00e4.png", ("http", "xn--bcher-kva.test", 80), "/%C3%A4.png"),
        ("http://[2606:4700::1]:81/", ("http", "2606:4700::1", 81), "/"),
    ],
)
def test_parse__takes_apart(url: str, origin: tuple[str, str, int], request_line: str) -> None:
    target = parse(url)
    assert target.origin == origin
    assert target.request == request_line


@pytest.mark.parametrize(
    ("url", "authority"),
    [
        ("http://host/", "host"),
        ("http://host:80/", "host"),
        ("http://host:443/", "host:443"),
        ("https://host:443/", "host"),
        ("http://[2606:4700::1]:81/", "[2606:4700::1]:81"),
    ],
)
def test_authority__is_what_servers_expect(url: str, authority: str) -> None:
    assert parse(url).authority == authority


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1", "127.1", "0", "2130706433", "0x7f000001", "0x7f.1", "0177.0.0.1", "017700000001", "10.1",
        "[::1]", "[::ffff:7f00:1]", "[::ffff:127.0.0.1]", "[64:ff9b::7f00:1]", "169.254.169.254", "127.0.0.1.",
    ],
)  # fmt: skip
def test_resolve__numeric_spellings_of_private_addresses(host: str) -> None:
    resolver = answering("8.8.8.8")
    with pytest.raises(MediaError, match="private or reserved"):
        resolve(parse(f"http://{host}/"), resolver, private=False)
    assert resolver.asked == []


def test_resolve__one_private_answer_among_public_ones_is_enough_to_refuse() -> None:
    with pytest.raises(MediaError, match=r"10\.0\.0\.1"):
        resolve(parse("http://mixed.test/"), answering("8.8.8.8", "10.0.0.1"), private=False)


def test_resolve__private_where_allowed() -> None:
    found = resolve(parse("http://inside.test:81/"), answering("10.0.0.1", "fd00::1"), private=True)
    assert [address.sockaddr for address in found] == [("10.0.0.1", 81), ("fd00::1", 81)]


def test_resolve__asks_exactly_once() -> None:
    resolver = answering("8.8.8.8")
    assert resolve(parse("http://once.test/"), resolver, private=False)[0].sockaddr == ("8.8.8.8", 80)
    assert resolver.asked == ["once.test"]


@pytest.mark.parametrize(
    "error", [socket.gaierror(-2, "Name or service not known"), UnicodeError("too long")]
)
def test_resolve__unknown_name(error: Exception) -> None:
    def resolver(*_: object, **__: object) -> list[tuple[object, ...]]:
        raise error

    with pytest.raises(UnavailableError, match=r"missing\.test cannot be resolved"):
        resolve(parse("http://missing.test/"), resolver, private=False)


def test_resolve__name_without_address() -> None:
    with pytest.raises(UnavailableError, match="no address"):
        resolve(parse("http://empty.test/"), answering(), private=False)
