"""Parse URLs, resolve their hosts, and refuse private addresses."""

from __future__ import annotations

import contextlib
import ipaddress
import re
import socket
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import quote, urlsplit
from urllib.request import getproxies_environment, proxy_bypass_environment  # type: ignore[attr-defined]

from usl_backend.errors import MediaError
from usl_backend.media.limits import UnavailableError, short_reason

Resolver = Callable[..., Sequence[tuple[Any, ...]]]
"""Callable with the signature of `socket.getaddrinfo`."""

DEFAULT_PORTS: Final = {"http": 80, "https": 443}
_PROXIED: Final = frozenset({"http", "https", "all"})
_NAT64: Final = ipaddress.IPv6Network("64:ff9b::/96")
_UNICAST: Final = ipaddress.IPv6Network("2000::/3")
"""All of IPv6 that has ever been given to somebody; what lies outside is special or nobody's."""
_SPECIAL: Final = tuple(
    ipaddress.ip_network(text)
    for text in (
        *("192.0.0.0/24", "192.31.196.0/24", "192.52.193.0/24", "192.88.99.0/24", "192.175.48.0/24"),
        *("2001::/23", "2001:db8::/32", "2620:4f:8000::/48", "3fff::/20"),
    )
)
"""Special-purpose blocks of IANA that `ipaddress` calls global, or calls so in some versions of Python.

Some may be reached from everywhere, but are relays, sinks and anycast services, where nobody keeps pictures.
"""


@dataclass(frozen=True, slots=True)
class Hop:
    """A parsed and checked URL: one hop of a request.

    Attributes
    ----------
    scheme
        http or https.
    host
        Lower case, ASCII, without brackets.
    port
        Explicit, or the scheme's default.
    request
        Path and query as sent.
    """

    scheme: str
    host: str
    port: int
    request: str

    @property
    def origin(self) -> tuple[str, str, int]:
        """Scheme, host and port; credentials are sent to one origin only."""
        return self.scheme, self.host, self.port

    @property
    def authority(self) -> str:
        """Value of the Host header."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == DEFAULT_PORTS[self.scheme] else f"{host}:{self.port}"


@dataclass(frozen=True, slots=True)
class Address:
    """A checked address.

    Attributes
    ----------
    family
        `socket.AF_INET` or `socket.AF_INET6`.
    sockaddr
        Argument of `socket.connect`.
    """

    family: int
    sockaddr: tuple[Any, ...]


def parse(url: str) -> Hop:
    """Parse a URL; refuse constructs that different parsers read differently.

    Parameters
    ----------
    url
        http or https URL; spaces and non-ASCII characters are encoded.

    Raises
    ------
    MediaError
        Another scheme, no host, credentials inside the URL, or control characters.
    """
    url = url.strip(" ").replace(" ", "%20")
    if re.search(r"[\x00-\x1f\x7f\\]", url):
        raise MediaError("the URL contains a backslash or a control character")
    try:
        parts = urlsplit(url)
        scheme, host = parts.scheme.lower(), parts.hostname
        port = parts.port or DEFAULT_PORTS.get(scheme, 0)
    except ValueError as error:
        raise MediaError(f"the URL is malformed: {short_reason(error)}") from error
    if scheme not in DEFAULT_PORTS:
        raise MediaError(f"the scheme '{scheme}' is not allowed; http, https and data are")
    if not host:
        raise MediaError("the URL has no host")
    if "@" in parts.netloc or "%" in parts.netloc:
        raise MediaError("the URL contains a user name or an encoded host, which is not allowed")
    try:
        host = host if host.isascii() else host.encode("idna").decode("ascii")
    except UnicodeError as error:
        raise MediaError(f"the host name is malformed: {short_reason(error)}") from error
    request = quote(parts.path or "/", safe="/%:@!$&'()*+,;=~")
    if parts.query:
        request += "?" + quote(parts.query, safe="/%:@!$&'()*+,;=~?")
    return Hop(scheme, host.lower().rstrip("."), port, request)


def resolve(target: Hop, resolver: Resolver, *, private: bool) -> list[Address]:
    """Resolve a host once; every address must be public unless `private` is set.

    Parameters
    ----------
    resolver
        Called at most once, and not for a host that is itself an address.
    private
        Allow private and reserved addresses.

    Returns
    -------
    list of Address
        At least one; connect to these only.

    Raises
    ------
    UnavailableError
        The name has no address at present.
    MediaError
        One of the addresses is private or reserved.
    """
    literal = _parse_address(target.host)
    if literal is not None:
        family = socket.AF_INET if literal.version == 4 else socket.AF_INET6
        found = [Address(family, (str(literal), target.port))]
    else:
        try:
            answers = resolver(target.host, target.port, type=socket.SOCK_STREAM)
        except (OSError, UnicodeError) as error:
            reason = short_reason(error)
            raise UnavailableError(
                f"the name {target.host} cannot be resolved: {reason}", host=target.authority
            ) from error
        found = [Address(answer[0], tuple(answer[4])) for answer in answers]
    if not found:
        raise UnavailableError(f"the name {target.host} has no address", host=target.authority)
    for address in found:
        if not private and not is_public(address.sockaddr[0]):
            raise MediaError(
                f"{target.host} has the private or reserved address {address.sockaddr[0]}, which is not "
                "fetched unless the host is allowed"
            )
    return found


def unused_proxies() -> list[str]:
    """Return the environment variables, such as HTTPS_PROXY, that name a proxy: media are fetched without one.

    A proxy resolves names itself, so that nobody could check the address that it connects to.
    """
    return sorted(f"{scheme.upper()}_PROXY" for scheme in getproxies_environment() if scheme in _PROXIED)


def unused_proxy(target: Hop) -> str:
    """Return the variable that names a proxy for a host; "" for none, also where NO_PROXY names the host."""
    if proxy_bypass_environment(f"{target.host}:{target.port}"):
        return ""
    names = (f"{scheme.upper()}_PROXY" for scheme in (target.scheme, "all"))
    return next((name for name in names if name in unused_proxies()), "")


def is_public(text: str) -> bool:
    """Return True for a public address; IPv4 addresses wrapped in IPv6 are unwrapped first.

    Parameters
    ----------
    text
        IPv4 or IPv6 address, with or without a zone; False for anything else.
    """
    try:
        address = ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        return False
    if isinstance(address, ipaddress.IPv6Address):
        wrapped = address.ipv4_mapped or address.sixtofour
        if wrapped is None and address in _NAT64:
            wrapped = ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
        if wrapped is not None:
            return is_public(str(wrapped))
        if address not in _UNICAST:
            return False
    special = address.is_multicast or address.is_reserved or any(address in block for block in _SPECIAL)
    return address.is_global and not special


def _parse_address(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    """Parse an address in any spelling that the C library accepts: 127.1, 0x7f000001, 2130706433."""
    with contextlib.suppress(ValueError):
        return ipaddress.ip_address(host)
    if re.fullmatch(r"[0-9a-fx.]+", host):
        with contextlib.suppress(OSError):
            return ipaddress.IPv4Address(socket.inet_aton(host))
    return None
