"""Which headers pass between strangers: what a tenant may learn of a visitor, and a visitor of a tenant."""

from __future__ import annotations

from collections.abc import Iterable

from multidict import CIMultiDict, CIMultiDictProxy

from gateway.credentials import COOKIES, is_ours

HOP_BY_HOP = frozenset(
    {
        "connection",
        "keep-alive",
        "proxy-authenticate",
        "proxy-authorization",
        "proxy-connection",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    }
)
_SAID_BY_US = frozenset(
    {"expect", "forwarded", "host", "x-correlation-id", "x-real-ip", "x-user-id", "via", "http2-settings"}
)
_BEYOND_A_PATH = frozenset({"clear-site-data", "service-worker-allowed", "strict-transport-security"})
"""Headers that speak for a whole origin; under /apps the origin is ours."""
_SANDBOX = "sandbox allow-scripts allow-forms allow-popups allow-modals allow-downloads"


def to_tenant(
    given: CIMultiDictProxy[str], *, host: str, remote: str, scheme: str, correlation: str, prefix: str = ""
) -> CIMultiDict[str]:
    """A request's headers for a tenant: our credentials left out, where it came from put in."""
    named = _named_by_connection(given)
    headers: CIMultiDict[str] = CIMultiDict()
    for name, value in given.items():
        plain = name.lower().replace("_", "-")  # many servers take X_User_Id for X-User-Id
        if (
            plain in HOP_BY_HOP
            or plain in named
            or plain in _SAID_BY_US
            or plain.startswith(("x-forwarded-", "sec-websocket-", "stratus-"))
            or (plain == "authorization" and is_ours(value))
        ):
            continue
        if plain == "cookie":
            value = _without_ours(value)
            if not value:
                continue
        headers.add(name, value)
    headers["Host"] = host
    headers["X-Forwarded-For"] = remote
    headers["X-Forwarded-Proto"] = scheme
    headers["X-Forwarded-Host"] = host
    headers["X-Correlation-ID"] = correlation
    if prefix:
        headers["X-Forwarded-Prefix"] = prefix
    return headers


def from_tenant(given: CIMultiDictProxy[str], *, boxed: bool) -> CIMultiDict[str]:
    """A tenant's answer. `boxed`, under our own origin, its scripts run as if from nowhere."""
    named = _named_by_connection(given)
    headers: CIMultiDict[str] = CIMultiDict()
    for name, value in given.items():
        plain = name.lower()
        if plain in HOP_BY_HOP or plain in named or (boxed and plain in _BEYOND_A_PATH):
            continue
        if plain == "set-cookie" and value.partition("=")[0].strip() in COOKIES:
            continue  # a tenant may not sign visitors in to the platform as somebody else
        headers.add(name, value)
    if boxed:
        headers.add("Content-Security-Policy", _SANDBOX)
    return headers


def _named_by_connection(given: CIMultiDictProxy[str]) -> frozenset[str]:
    values: Iterable[str] = given.getall("Connection", [])
    return frozenset(part.strip().lower() for value in values for part in value.split(","))


def _without_ours(cookies: str) -> str:
    pairs = (pair.strip() for pair in cookies.split(";"))
    return "; ".join(pair for pair in pairs if pair and pair.partition("=")[0].strip() not in COOKIES)
