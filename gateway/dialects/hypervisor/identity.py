"""/users and /organizations, as the hypervisor app had them.

Its words are part of the contract: its clients compare them. Where it told an
unknown user from a wrong password, both are now the same 401.
"""

from __future__ import annotations

from typing import Annotated

from aiohttp import web
from msgspec import Meta, Struct

from core.commands import Declined
from core.messages.identity import OrganizationName
from gateway import identity
from gateway.describe import Query, describe
from gateway.exchange import Message, caller_of, fields, known, reply
from gateway.readers import VIEWS
from gateway.refusals import Refused, invalid

routes = web.RouteTableDef()

Text = Annotated[str, Meta(max_length=1000)]


class Credentials(Struct, frozen=True):
    username: Text
    password: Text


class Registered(Struct, frozen=True):
    id: int
    username: str
    organization_id: int | None


class LoggedIn(Struct, frozen=True):
    id: int
    username: str
    access_token: str
    token_type: str


class NewOrganization(Struct, frozen=True):
    name: OrganizationName


class OrganizationMade(Struct, frozen=True):
    """`invite_code` is shown this once."""

    id: int
    name: str
    invite_code: str


class Invited(Struct, frozen=True):
    invite_code: Text


@routes.post("/users/register")
@describe("Register a user.", access="public", body=Credentials, answer=Registered, errors=(409,))
async def register(request: web.Request) -> web.Response:
    given = known(Credentials, await fields(request))
    try:
        person = await identity.sign_up(request, username=given.username, password=given.password, email=None)
    except Refused as no:
        raise Refused(409, "Username already exists") if no.status == 409 else no from no
    return reply(Registered(person.ordinal, person.username, None))


@routes.post("/users/login")
@describe("Log in.", access="public", body=Credentials, answer=LoggedIn, errors=(401, 429))
async def login(request: web.Request) -> web.Response:
    given = known(Credentials, await fields(request))
    try:
        session = await identity.sign_in(request, login=given.username, password=given.password)
    except Refused as no:
        raise Refused(401, "Invalid credentials", no.headers) if no.status == 401 else no from no
    person = session.person
    return reply(LoggedIn(person.ordinal, person.username, session.access_token, "bearer"))


@routes.post("/organizations/create")
@describe(
    "Create an organisation; joining it is another step.",
    body=NewOrganization,
    answer=OrganizationMade,
    errors=(409,),
)
async def create(request: web.Request) -> web.Response:
    given = known(NewOrganization, await fields(request))
    organization_id, invite = await identity.create_organization(request, caller_of(request), given.name)
    made = request.app[VIEWS].identity.organization(organization_id)
    assert made is not None  # `create_organization` waited for it
    return reply(OrganizationMade(made.ordinal, made.name, invite))


@routes.post("/organizations/join")
@describe(
    "Join the organisation an invite code opens; the code in the query, or in the body.",
    answer=Message,
    errors=(400, 409),
    query=(Query("invite_code", str, "instead of a body"),),
)
async def join(request: web.Request) -> web.Response:
    caller, code = caller_of(request), request.query.get("invite_code")
    if code is None:
        if not request.can_read_body:
            raise invalid("invite_code", "Object missing required field `invite_code`", kind="missing")
        code = known(Invited, await fields(request)).invite_code
    try:
        organization = await identity.join(request, caller, code)
    except (Refused, Declined) as no:
        if getattr(no, "status", 0) == 404 or getattr(no, "rejection", "") == "InviteIsWrong":
            raise Refused(400, "Invalid invite code") from no
        raise
    person = await identity.me(request, caller)
    return reply(Message(f"User {person.username} joined organization {organization.name}"))
