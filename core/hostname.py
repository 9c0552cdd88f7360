"""One spelling for each hostname, so that nobody can own the same site twice under another one."""

from __future__ import annotations

import re
from ipaddress import AddressValueError, IPv4Address, IPv6Address

import idna

_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*:)?//")
_AUTHORITY_END = re.compile(r"[/?#\\]")
_UNPRINTABLE = re.compile(r"[\x00-\x20\x7f]")
_LABELS = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?(\.[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?)*")


def normalise(raw: str) -> str:
    """`HTTPS://YouTube.com:8080/watch` is `youtube.com`; `bücher.de` is `xn--bcher-kva.de`.

    Scheme, port, path and a final dot fall away, `www.` stays. Raises
    `ValueError`, whose text is meant for people, for what is no hostname.
    """
    text = raw.strip()
    if start := _SCHEME.match(text):
        if start[1] and start[1].lower() not in ("http:", "https:"):
            raise ValueError("a hostname may start with http:// or https:// only")
        text = text[start.end() :]
    authority = _AUTHORITY_END.split(text, maxsplit=1)[0]
    if not authority:
        raise ValueError("the hostname is empty")
    if "@" in authority or _UNPRINTABLE.search(authority):
        raise ValueError("a hostname contains neither blanks nor @")
    if authority.startswith("["):
        return _ipv6(authority)
    host, colon, port = authority.partition(":")
    _check_port(colon, port)
    return _name(host)


def is_address(host: str) -> bool:
    """Whether a normalised hostname is an IP address rather than a name."""
    return host.startswith("[") or host.rpartition(".")[2].isdigit()


def _check_port(colon: str, port: str) -> None:
    if colon and not (port.isascii() and port.isdigit() and 0 < int(port[:6]) <= 65535):
        raise ValueError("the port after the hostname is not a number from 1 to 65535")


def _ipv6(authority: str) -> str:
    address, bracket, port = authority[1:].partition("]")
    if not bracket or (port and not port.startswith(":")):
        raise ValueError("an IPv6 address stands in brackets, as [::1]")
    _check_port(port[:1], port[1:])
    try:
        if "%" in address:
            raise ValueError("an IPv6 address in a hostname has no zone")
        return f"[{IPv6Address(address).compressed}]"
    except AddressValueError as no:
        raise ValueError(f"not an IPv6 address: {address[:50]!r}") from no


def _name(host: str) -> str:
    host = host.lower()
    if not host.isascii() or "xn--" in host:
        try:
            host = idna.encode(host, uts46=True).decode()
        except idna.IDNAError as no:
            raise ValueError(f"not an international hostname: {no}") from no
    host = host.removesuffix(".")
    if not host or len(host) > 253 or not _LABELS.fullmatch(host):
        raise ValueError("a hostname is made of letters, digits and hyphens between dots, 253 at most")
    if host.rpartition(".")[2].isdigit():  # as browsers do: whatever ends in a number is an IPv4 address
        try:
            IPv4Address(host)
        except AddressValueError as no:
            raise ValueError(f"not an IPv4 address: {host[:50]!r}") from no
    return host
