"""People at the door: signing up, signing in, organisations, keys. Shared by every surface."""

from __future__ import annotations

import time
import unicodedata
from base64 import urlsafe_b64encode
from typing import Literal

from aiohttp import web
from email_validator import EmailNotValidError, validate_email
from msgspec import Struct

from core.commands import Declined
from core.contexts import PLATFORM
from core.messages.identity import (
    CreateOrganization,
    EndSession,
    IssueKey,
    JoinOrganization,
    RegisterUser,
    RevokeKey,
    RotateInvite,
)
from core.messages.names import NameId, name_id
from gateway.admission import OPERATOR_ORDINAL, TOKENS, unauthorized
from gateway.caller import Caller
from gateway.credentials import api_key, hashed, new_secret
from gateway.exchange import idempotency, new_id, now_ms, send
from gateway.passwords import Passwords
from gateway.readers import VAULT, VIEWS
from gateway.refusals import Refused, invalid
from gateway.throttle import Throttle
from projections.identity import Identity, Organization, User

PASSWORDS = web.AppKey("passwords", Passwords)
FAILURES = web.AppKey("failures", Throttle)
ATTEMPTS = web.AppKey("attempts", Throttle)

PASSWORD_MAX = 128
USERNAME_MAX = 100
WRONG_PAIR = "Incorrect email or password"


class Person(Struct, frozen=True):
    """A user as they see themselves. `ordinal` is the small number the dialects call `id`."""

    user_id: str
    ordinal: int
    username: str
    email: str | None
    organization_id: str | None
    operator: bool
    at_ms: int


class Session(Struct, frozen=True):
    access_token: str
    person: Person
    expires_s: int


async def sign_up(
    request: web.Request, *, username: str, password: str, email: str | None, password_min: int = 1
) -> Person:
    """Register a person. Refuses with 422 naming the field, 409 when a name is taken."""
    username = username.strip()
    if not 1 <= len(username) <= USERNAME_MAX or not username.isprintable():
        raise invalid("username", f"must have 1 to {USERNAME_MAX} printable characters")
    if not password_min <= len(password) <= PASSWORD_MAX:
        raise invalid("password", f"must have {password_min} to {PASSWORD_MAX} characters")
    email = None if email is None else _checked_email(email)
    user_id = new_id(request, "usr")
    command = await registration(request.app, user_id, username, password, email)
    try:
        await send(request, command, PLATFORM)
    except Declined as no:
        identity = request.app[VIEWS].identity
        if identity.user(user_id) is None:
            await request.app[VAULT].forget(user_id)
        if no.rejection != "NameIsTaken":
            raise
        is_email = command.email is not None and identity.holder(command.email) is not None
        raise Refused(409, "This email is taken." if is_email else "This username is taken.") from no
    user = request.app[VIEWS].identity.user(user_id)
    assert user is not None  # `send` waited for it
    return await person(request, user)


async def registration(
    app: web.Application, user_id: str, username: str, password: str, email: str | None
) -> RegisterUser:
    """The command that registers a person, with nothing in it that says who it is."""
    told = {"username": username, "password": await app[PASSWORDS].hash(password)}
    if email is not None:
        told["email"] = email
    return RegisterUser(
        user_id=user_id,
        sealed=await app[VAULT].seal(user_id, told),
        username=blind(app, "username", username),
        email=None if email is None else blind(app, "email", email),
        at_ms=now_ms(),
    )


async def sign_in(request: web.Request, *, login: str, password: str) -> Session:
    """A new session for an e-mail address or username. 401 for any wrong pair, 429 after too many."""
    app, now = request.app, time.monotonic()
    address = request.remote or ""
    account = f"{blind(app, 'email', login)} {address}"
    for throttle, key in ((app[ATTEMPTS], address), (app[FAILURES], account)):
        if wait_s := throttle.take(key, now):
            raise Refused(429, "Too many attempts; wait a little.", {"Retry-After": str(int(wait_s) + 1)})
    identity = app[VIEWS].identity
    user = identity.holder(blind(app, "email", login))
    user = user or identity.holder(blind(app, "username", login))
    told = await app[VAULT].open(user.user_id, user.sealed) if user else None
    fits = len(password) <= PASSWORD_MAX
    right = await app[PASSWORDS].verify(password if fits else "", told["password"] if told else None)
    if user is None or not right or not fits:
        raise unauthorized(WRONG_PAIR)
    app[FAILURES].give_back(account)
    token = app[TOKENS].issue(user.user_id, now_ms() // 1000)
    return Session(token, await person(request, user), app[TOKENS].lifetime_s)


async def sign_out(request: web.Request, caller: Caller) -> None:
    """What was issued for this session opens nothing any more, at any gateway."""
    if caller.session:
        await send(
            request,
            EndSession(
                user_id=caller.user_id,
                session=caller.session,
                until_ms=caller.session_ends_ms,
                at_ms=now_ms(),
            ),
            PLATFORM,
        )


async def person(request: web.Request, user: User) -> Person:
    """Refuses with 401 when the person has been forgotten."""
    told = await request.app[VAULT].open(user.user_id, user.sealed)
    if told is None:
        raise unauthorized("This user is gone.")
    return Person(
        user_id=user.user_id,
        ordinal=user.ordinal,
        username=told["username"],
        email=told.get("email"),
        organization_id=user.organization_id,
        operator=user.ordinal == OPERATOR_ORDINAL,
        at_ms=user.at_ms,
    )


async def me(request: web.Request, caller: Caller) -> Person:
    user = request.app[VIEWS].identity.user(caller.user_id)
    if user is None:
        raise unauthorized("This user is gone.")
    return await person(request, user)


async def create_organization(request: web.Request, caller: Caller, name: str) -> tuple[str, str]:
    """The organisation's id, and the invite code that is shown this once."""
    organization_id, invite = new_id(request, "org"), f"inv_{_secret(request, 'invite')}"
    command = CreateOrganization(
        organization_id=organization_id,
        name=name,
        invite_hash=hashed(invite),
        created_by=caller.user_id,
        at_ms=now_ms(),
    )
    await send(request, command, PLATFORM)
    return organization_id, invite


async def rotate_invite(request: web.Request, caller: Caller, organization_id: str) -> str:
    invite = f"inv_{_secret(request, 'invite')}"
    command = RotateInvite(
        organization_id=organization_id, invite_hash=hashed(invite), by=caller.user_id, at_ms=now_ms()
    )
    await send(request, command, PLATFORM)
    return invite


async def join(request: web.Request, caller: Caller, invite: str) -> Organization:
    """Make the caller a member of the organisation the invite opens; 404 if it opens none."""
    identity: Identity = request.app[VIEWS].identity
    invited = identity.organization_invited(hashed(invite))
    if invited is None:
        raise Refused(404, "This invite code opens no organisation.")
    command = JoinOrganization(
        user_id=caller.user_id,
        organization_id=invited.organization_id,
        invite_hash=hashed(invite),
        at_ms=now_ms(),
    )
    await send(request, command, PLATFORM)
    return identity.organization(invited.organization_id) or invited


async def issue_key(request: web.Request, caller: Caller, name: str) -> tuple[str, str]:
    """The key's id and the key itself, which is shown this once."""
    key_id, secret = new_id(request, "key"), _secret(request, "key")
    command = IssueKey(
        key_id=key_id,
        tenant=caller.home,
        user_id=caller.user_id,
        name=name,
        secret_hash=hashed(secret),
        at_ms=now_ms(),
    )
    await send(request, command, PLATFORM)
    return key_id, api_key(key_id, secret)


async def revoke_key(request: web.Request, caller: Caller, key_id: str) -> None:
    await send(request, RevokeKey(key_id=key_id, by=caller.user_id, at_ms=now_ms()), PLATFORM)


def blind(app: web.Application, kind: Literal["username", "email"], text: str) -> NameId:
    """The keyed hash under which a username or e-mail address is reserved, whatever its case or width."""
    plain = unicodedata.normalize("NFKC", text.strip()).casefold()
    return name_id(kind, app[VAULT].blind(kind, plain))


def _secret(request: web.Request, purpose: str) -> str:
    """256 bits nobody can guess; the same again for the same Idempotency-Key."""
    seed = idempotency(request)
    if seed is None:
        return new_secret()
    derived = bytes.fromhex(request.app[VAULT].blind("secret", f"{purpose}|{seed}"))
    return urlsafe_b64encode(derived).decode().rstrip("=")


def _checked_email(email: str) -> str:
    try:
        return validate_email(email.strip(), check_deliverability=False).normalized
    except EmailNotValidError as no:
        raise invalid("email", str(no)) from no
