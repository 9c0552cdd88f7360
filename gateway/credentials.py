"""Tokens and keys: made here, checked here, and never written down anywhere but as their hash."""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
from typing import Any

import jwt
from msgspec import Struct

ALGORITHM = "HS256"
COOKIES = ("access_token", "auth-token")
"""Where browsers keep a token; the names are two of the former systems'."""

_API_KEY = re.compile(r"sk_str_([0-9a-f]{8,16})_([A-Za-z0-9_-]{43})")


class Claims(Struct, frozen=True):
    user_id: str
    session: str
    expires_ms: int


class ApiKey(Struct, frozen=True):
    """An API key as presented: whose it claims to be, and the hash to compare."""

    key_id: str
    secret_hash: str

    def is_the_one(self, secret_hash: str) -> bool:
        return hmac.compare_digest(self.secret_hash, secret_hash)


class Tokens:
    """Signs and reads session tokens. The subject is the user's id, so a new name changes nothing."""

    def __init__(self, secret: str, lifetime_s: int) -> None:
        self._secret, self.lifetime_s = secret, lifetime_s

    def issue(self, user_id: str, now_s: int) -> str:
        claims = {
            "sub": user_id,
            "jti": f"ses_{secrets.token_hex(8)}",
            "iat": now_s,
            "exp": now_s + self.lifetime_s,
        }
        return jwt.encode(claims, self._secret, algorithm=ALGORITHM)

    def read(self, token: str) -> Claims | None:
        """What a token says, None if it is not ours, is over, or lacks something."""
        try:
            claims: dict[str, Any] = jwt.decode(
                token,
                self._secret,
                algorithms=[ALGORITHM],
                options={"require": ["exp", "iat", "sub", "jti"]},
            )
        except (jwt.InvalidTokenError, ValueError):
            return None
        if type(claims["exp"]) is not int:  # the library would take a string for a number
            return None
        return Claims(claims["sub"], claims["jti"], claims["exp"] * 1000)


def new_secret() -> str:
    """256 bits for people to keep: an API key's secret, an invite code."""
    return secrets.token_urlsafe(32)


def hashed(secret: str) -> str:
    """Plain SHA-256 will do: what is random throughout can not be guessed from its hash."""
    return hashlib.sha256(secret.encode()).hexdigest()


def api_key(key_id: str, secret: str) -> str:
    """`sk_str_<id>_<secret>`, for the key `key_<id>`."""
    return f"sk_str_{key_id.removeprefix('key_')}_{secret}"


def read_api_key(text: str) -> ApiKey | None:
    found = _API_KEY.fullmatch(text)
    return ApiKey(f"key_{found[1]}", hashed(found[2])) if found else None


def is_ours(authorization: str) -> bool:
    """Whether an Authorization header looks like the platform's, valid or not: no tenant may ever see it."""
    scheme, _, value = authorization.partition(" ")
    if scheme.lower() != "bearer":
        return False
    value = value.strip()
    if _API_KEY.fullmatch(value):
        return True
    try:
        claims = jwt.decode(value, options={"verify_signature": False})
    except (jwt.InvalidTokenError, ValueError):
        return False
    return str(claims.get("sub")).startswith("usr_") and str(claims.get("jti")).startswith("ses_")
