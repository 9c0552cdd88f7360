"""Who may come in: credentials are checked for every route that does not call itself public."""

from __future__ import annotations

import time
from typing import Literal

from aiohttp import web

from gateway.caller import CALLER, Caller
from gateway.credentials import COOKIES, ApiKey, Tokens, read_api_key
from gateway.describe import Handler, operation_of
from gateway.policy import POLICY
from gateway.readers import LOG, VIEWS
from gateway.refusals import Refused

TOKENS = web.AppKey("tokens", Tokens)
SAFE = frozenset({"GET", "HEAD", "OPTIONS"})
OPERATOR_ORDINAL = 1
"""Whoever registered first runs the place."""


def unauthorized(reason: str) -> Refused:
    return Refused(401, reason, {"WWW-Authenticate": "Bearer"})


@web.middleware
async def admission(request: web.Request, handler: Handler) -> web.StreamResponse:
    operation = operation_of(request.match_info.handler)
    if request.match_info.http_exception is not None or operation.access == "public":
        return await handler(request)
    caller = await admitted(request)
    if operation.access == "operator" and not caller.operator:
        raise Refused(403, "Only the platform's operator may do this.")
    request[CALLER] = caller
    return await handler(request)


async def admitted(request: web.Request) -> Caller:
    """Whose credential the request carries. A bearer wins over a cookie; refuses with 401 (or 403)."""
    scheme, _, value = request.headers.get("Authorization", "").partition(" ")
    if scheme:
        if scheme.lower() != "bearer" or not value.strip():
            raise unauthorized("The Authorization header must say: Bearer <token>.")
        key = read_api_key(value.strip())
        return _by_key(request, key) if key else await _by_token(request, value.strip(), "bearer")
    for name in COOKIES:
        if token := request.cookies.get(name):
            if request.method not in SAFE:
                _check_origin(request)
            return await _by_token(request, token, "cookie")
    raise unauthorized("Sign in first: no token was given.")


def is_still_in(request: web.Request, caller: Caller) -> bool:
    """Whether whoever was admitted would be again; for what stays open for long."""
    identity = request.app[VIEWS].identity
    if caller.proof == "key":
        key = identity.keys.get(caller.actor)
        return key is not None and not key.revoked
    return not identity.is_ended(caller.session) and time.time() * 1000 < caller.session_ends_ms


async def _by_token(request: web.Request, token: str, proof: Literal["bearer", "cookie"]) -> Caller:
    claims = request.app[TOKENS].read(token)
    if claims is None:
        raise unauthorized("The token is invalid or has expired.")
    identity = request.app[VIEWS].identity
    if identity.user(claims.user_id) is None:  # registered at another gateway a moment ago, perhaps
        await _catch_up(request)
    user = identity.user(claims.user_id)
    if user is None or identity.is_ended(claims.session):
        raise unauthorized("The token is invalid or has expired.")
    tenants = (user.user_id, user.organization_id) if user.organization_id else (user.user_id,)
    return Caller(
        user_id=user.user_id,
        home=user.organization_id or user.user_id,
        tenants=tenants,
        actor=user.user_id,
        proof=proof,
        operator=user.ordinal == OPERATOR_ORDINAL,
        session=claims.session,
        session_ends_ms=claims.expires_ms,
    )


def _by_key(request: web.Request, presented: ApiKey) -> Caller:
    identity = request.app[VIEWS].identity
    key = identity.keys.get(presented.key_id)
    if key is None or key.revoked or not presented.is_the_one(key.secret_hash):
        raise unauthorized("The API key is invalid or has been revoked.")
    user = identity.user(key.user_id)
    if user is None or key.tenant not in (user.user_id, user.organization_id):
        raise unauthorized("The API key is invalid or has been revoked.")
    return Caller(
        user_id=key.user_id,
        home=key.tenant,
        tenants=(key.tenant,),
        actor=key.key_id,
        proof="key",
        operator=user.ordinal == OPERATOR_ORDINAL and key.tenant == user.user_id,
    )


async def _catch_up(request: web.Request) -> None:
    try:
        await request.app[VIEWS].wait(await request.app[LOG].end(), 2.0)
    except TimeoutError:
        return  # then the user stays unknown for now, and is told so


def _check_origin(request: web.Request) -> None:
    """Browsers send cookies along to whoever asks; so who asks must be us or an origin we trust."""
    site, origin = request.headers.get("Sec-Fetch-Site"), request.headers.get("Origin")
    if origin in request.app[POLICY].origins:
        return
    ours = origin is None or origin.partition("://")[2] == request.host
    if ours and site in (None, "same-origin", "none"):
        return
    raise Refused(403, "This origin may not act with your cookie; sign in there, or send a bearer token.")
