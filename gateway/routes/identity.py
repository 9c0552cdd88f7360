"""/auth, /users, /organizations, /keys: who somebody is, to whom they belong, what speaks for them."""

from __future__ import annotations

from typing import Annotated

from aiohttp import web
from msgspec import Meta, Struct

from core.messages.identity import KeyName, OrganizationName
from gateway import cookies, identity
from gateway.describe import PAGING, describe
from gateway.exchange import Message, Page, body, caller_of, page, reply
from gateway.identity import Person
from gateway.readers import VIEWS
from gateway.refusals import Refused
from projections.identity import Key, Organization

routes = web.RouteTableDef()

PASSWORD_MIN = 8
Text = Annotated[str, Meta(max_length=1000)]


class SignUp(Struct, frozen=True, forbid_unknown_fields=True):
    username: Text
    password: Text
    email: Text | None = None


class SignIn(Struct, frozen=True, forbid_unknown_fields=True):
    """`login` is the e-mail address or the username."""

    login: Text
    password: Text


class SignedIn(Struct, frozen=True):
    access_token: str
    token_type: str
    expires_s: int
    user: Person


class UserLine(Struct, frozen=True):
    """A user as the operator sees them: no names, no addresses."""

    user_id: str
    ordinal: int
    organization_id: str | None
    at_ms: int


class NewOrganization(Struct, frozen=True, forbid_unknown_fields=True):
    name: OrganizationName


class Invited(Struct, frozen=True, forbid_unknown_fields=True):
    invite: Text


class Invite(Struct, frozen=True):
    """`invite` lets others join; it is shown this once."""

    organization_id: str
    invite: str


class OrganizationShown(Struct, frozen=True):
    organization_id: str
    ordinal: int
    name: str
    created_by: str
    members: tuple[str, ...]
    at_ms: int


class NewKey(Struct, frozen=True, forbid_unknown_fields=True):
    name: KeyName


class IssuedKey(Struct, frozen=True):
    """`key` is the whole key; it is shown this once."""

    key_id: str
    key: str


class KeyShown(Struct, frozen=True):
    key_id: str
    ordinal: int
    name: str
    tenant: str
    revoked: bool
    at_ms: int


@routes.post("/api/v1/auth/sign-up")
@describe(
    "Register a user. The first one becomes the platform's operator.",
    access="public",
    body=SignUp,
    answer=Person,
    status=201,
    errors=(409,),
)
async def sign_up(request: web.Request) -> web.Response:
    given = await body(request, SignUp)
    person = await identity.sign_up(
        request,
        username=given.username,
        password=given.password,
        email=given.email,
        password_min=PASSWORD_MIN,
    )
    return reply(person, status=201)


@routes.post("/api/v1/auth/sign-in")
@describe(
    "Sign in: a token in the answer, and the same in a cookie.",
    access="public",
    body=SignIn,
    answer=SignedIn,
    errors=(401, 429),
)
async def sign_in(request: web.Request) -> web.Response:
    given = await body(request, SignIn)
    session = await identity.sign_in(request, login=given.login, password=given.password)
    response = reply(SignedIn(session.access_token, "bearer", session.expires_s, session.person))
    cookies.keep(request, response, session.access_token)
    return response


@routes.post("/api/v1/auth/sign-out")
@describe("Sign out: this session's token opens nothing any more.", answer=Message)
async def sign_out(request: web.Request) -> web.Response:
    await identity.sign_out(request, caller_of(request))
    response = reply(Message("Signed out."))
    cookies.drop(response)
    return response


@routes.get("/api/v1/auth/me")
@describe("Who you are.", answer=Person)
async def me(request: web.Request) -> web.Response:
    return reply(await identity.me(request, caller_of(request)))


@routes.get("/api/v1/users")
@describe("All users, without their names.", access="operator", answer=Page[UserLine], query=PAGING)
async def users(request: web.Request) -> web.Response:
    found = sorted(request.app[VIEWS].identity.users.values(), key=lambda user: user.ordinal)
    lines = [UserLine(user.user_id, user.ordinal, user.organization_id, user.at_ms) for user in found]
    return reply(page(request, lines, lambda line: line.ordinal))


@routes.post("/api/v1/organizations")
@describe(
    "Create an organisation. Join it with its invite to put new things into it.",
    body=NewOrganization,
    answer=Invite,
    status=201,
    errors=(409,),
)
async def create_organization(request: web.Request) -> web.Response:
    given = await body(request, NewOrganization)
    made = await identity.create_organization(request, caller_of(request), given.name)
    return reply(Invite(*made), status=201)


@routes.post("/api/v1/organizations/join")
@describe("Join the organisation an invite opens.", body=Invited, answer=OrganizationShown, errors=(404, 409))
async def join(request: web.Request) -> web.Response:
    given = await body(request, Invited)
    return reply(_organization(await identity.join(request, caller_of(request), given.invite)))


@routes.get("/api/v1/organizations")
@describe("The organisations you belong to or created.", answer=Page[OrganizationShown], query=PAGING)
async def organizations(request: web.Request) -> web.Response:
    caller = caller_of(request)
    everyone = sorted(request.app[VIEWS].identity.organizations.values(), key=lambda one: one.ordinal)
    seen = [_organization(one) for one in everyone if _sees(caller.user_id, one)]
    return reply(page(request, seen, lambda one: one.ordinal))


@routes.get("/api/v1/organizations/{organization_id}")
@describe("An organisation you belong to or created.", answer=OrganizationShown, errors=(404,))
async def organization(request: web.Request) -> web.Response:
    found = request.app[VIEWS].identity.organization(request.match_info["organization_id"])
    if found is None or not _sees(caller_of(request).user_id, found):
        raise Refused(404, "There is no such organisation.")
    return reply(_organization(found))


@routes.post("/api/v1/organizations/{organization_id}/invite")
@describe("Replace the invite; the old one opens nothing any more.", answer=Invite, errors=(404,))
async def rotate_invite(request: web.Request) -> web.Response:
    caller, organization_id = caller_of(request), request.match_info["organization_id"]
    if request.app[VIEWS].identity.organization(organization_id) is None:
        raise Refused(404, "There is no such organisation.")
    return reply(Invite(organization_id, await identity.rotate_invite(request, caller, organization_id)))


@routes.post("/api/v1/keys")
@describe("Issue an API key for where your new things go.", body=NewKey, answer=IssuedKey, status=201)
async def issue_key(request: web.Request) -> web.Response:
    given = await body(request, NewKey)
    return reply(IssuedKey(*await identity.issue_key(request, caller_of(request), given.name)), status=201)


@routes.get("/api/v1/keys")
@describe("Your API keys, without their secrets.", answer=Page[KeyShown], query=PAGING)
async def keys(request: web.Request) -> web.Response:
    caller = caller_of(request)
    everyone = sorted(request.app[VIEWS].identity.keys.values(), key=lambda key: key.ordinal)
    seen = [_key(key) for key in everyone if key.user_id == caller.user_id]
    return reply(page(request, seen, lambda key: key.ordinal))


@routes.delete("/api/v1/keys/{key_id}")
@describe("Revoke an API key.", answer=KeyShown, errors=(404,))
async def revoke_key(request: web.Request) -> web.Response:
    caller, key_id = caller_of(request), request.match_info["key_id"]
    key = request.app[VIEWS].identity.keys.get(key_id)
    if key is None or key.user_id != caller.user_id:
        raise Refused(404, "There is no such key.")
    await identity.revoke_key(request, caller, key_id)
    return reply(_key(request.app[VIEWS].identity.keys[key_id]))


def _sees(user_id: str, organization: Organization) -> bool:
    return user_id in organization.members or user_id == organization.created_by


def _organization(one: Organization) -> OrganizationShown:
    return OrganizationShown(
        one.organization_id, one.ordinal, one.name, one.created_by, tuple(one.members), one.at_ms
    )


def _key(key: Key) -> KeyShown:
    return KeyShown(key.key_id, key.ordinal, key.name, key.tenant, key.revoked, key.at_ms)
