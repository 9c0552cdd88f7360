"""/auth and /api/auth, as the cloud platform had them."""

from __future__ import annotations

from typing import Annotated

from aiohttp import web
from msgspec import Meta, Struct

from gateway import cookies, identity
from gateway.describe import describe
from gateway.dialects.cloud.words import iso
from gateway.exchange import Message, caller_of, fields, known, reply
from gateway.identity import Person
from gateway.refusals import invalid

routes = web.RouteTableDef()

Text = Annotated[str, Meta(max_length=1000)]


class Login(Struct, frozen=True):
    password: Text
    email: Text | None = None
    username: Text | None = None


class Signup(Struct, frozen=True):
    username: Text
    email: Text
    password: Text


class Register(Struct, frozen=True):
    username: Text
    password: Text
    email: Text | None = None


class UserJson(Struct, frozen=True):
    id: int
    username: str
    email: str | None
    created_at: str


class LoggedIn(Struct, frozen=True):
    """More than any one client expects, so that each finds what it expects."""

    access_token: str
    token: str
    token_type: str
    user: UserJson
    id: int
    username: str


@routes.post("/auth/login")
@routes.post("/api/auth/login")
@describe("Log in.", access="public", answer=LoggedIn)
async def login(request: web.Request) -> web.Response:
    given = known(Login, await fields(request))
    name = given.email if given.email is not None else given.username
    if name is None:
        raise invalid("email", "Object missing required field `email`", kind="missing")
    session = await identity.sign_in(request, login=name, password=given.password)
    user, token = _user(session.person), session.access_token
    response = reply(LoggedIn(token, token, "bearer", user, user.id, user.username))
    cookies.keep(request, response, token)
    return response


@routes.post("/auth/signup")
@routes.post("/api/auth/signup")
@describe("Sign up.", access="public", answer=UserJson)
async def signup(request: web.Request) -> web.Response:
    given = known(Signup, await fields(request))
    person = await identity.sign_up(
        request, username=given.username, password=given.password, email=given.email
    )
    return reply(_user(person))


@routes.post("/api/auth/register")
@describe("Sign up, with or without an e-mail address.", access="public", answer=UserJson)
async def register(request: web.Request) -> web.Response:
    given = known(Register, await fields(request))
    person = await identity.sign_up(
        request, username=given.username, password=given.password, email=given.email
    )
    return reply(_user(person))


@routes.post("/auth/logout")
@routes.post("/api/auth/logout")
@describe("Log out; unlike then, the token is of no use any more.", answer=Message)
async def logout(request: web.Request) -> web.Response:
    await identity.sign_out(request, caller_of(request))
    response = reply(Message("Successfully logged out"))
    cookies.drop(response)
    return response


@routes.get("/auth/me")
@routes.get("/api/auth/me")
@describe("Who you are.", answer=UserJson)
async def me(request: web.Request) -> web.Response:
    return reply(_user(await identity.me(request, caller_of(request))))


def _user(person: Person) -> UserJson:
    return UserJson(person.ordinal, person.username, person.email, iso(person.at_ms))
