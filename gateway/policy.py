"""What the operator of a gateway may choose, decided once at the start and handed on."""

from __future__ import annotations

from aiohttp import web
from msgspec import Struct


class Policy(Struct, frozen=True):
    """Times in seconds. A limit of 0 switches that throttle off."""

    jwt_secret: str
    token_s: int = 1800
    origins: tuple[str, ...] = ("http://localhost:3000", "http://127.0.0.1:3000")
    logins_per_minute: int = 5
    """Failed ones, for each account and address together."""
    logins_per_minute_and_address: int = 50
    settle_s: float = 10.0
    """How long an answer waits for the gateway's own projections to show what was written."""
    outcome_s: float = 30.0
    """How long the dialects wait for a container to come up or go down."""
    upload_bytes: int = 512 << 20
    upstream_head_s: float = 30.0
    own_hosts: frozenset[str] = frozenset({"localhost"})
    """Hostnames the API itself answers on: nobody may take them for a site."""
    secure_cookies: bool = False
    open_on_loopback: bool = False
    """Whether the former load balancer's lookups need no token from the same machine."""


POLICY = web.AppKey("policy", Policy)
