"""The session cookie: for the browser only, for this site only, for as long as its token."""

from __future__ import annotations

from aiohttp import web

from gateway.credentials import COOKIES
from gateway.policy import POLICY


def keep(request: web.Request, response: web.Response, token: str) -> None:
    policy = request.app[POLICY]
    response.set_cookie(
        COOKIES[0],
        token,
        max_age=policy.token_s,
        httponly=True,
        samesite="Lax",
        secure=policy.secure_cookies,
        path="/",
    )


def drop(response: web.Response) -> None:
    for name in COOKIES:
        response.del_cookie(name, path="/", httponly=True, samesite="Lax")
