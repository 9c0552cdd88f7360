"""Who asks, as far as anything behind the doors is concerned."""

from __future__ import annotations

from typing import Literal

from aiohttp import web
from msgspec import Struct


class Caller(Struct, frozen=True):
    """`tenants` are all whose things it sees, `home` is where its new things go, `actor` goes into the log.

    `session` is the id of the signed-in session, '' for an API key;
    `session_ends_ms` is when its token expires.
    """

    user_id: str
    home: str
    tenants: tuple[str, ...]
    actor: str
    proof: Literal["bearer", "cookie", "key"]
    operator: bool = False
    session: str = ""
    session_ends_ms: int = 0


CALLER = web.RequestKey("caller", Caller)
