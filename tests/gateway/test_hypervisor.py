"""The hypervisor dialect: its clients compare words, so the words are compared here."""

from __future__ import annotations

from typing import Any

import pytest

from tests.gateway.house import Client

ADA = {"username": "ada", "password": "secret"}


async def post(http: Client, path: str, status: int, token: str = "", **given: Any) -> Any:
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    answer = await http.post(path, headers=headers, **given)
    assert answer.status == status, await answer.text()
    return await answer.json()


async def logged_in(http: Client, username: str = "ada") -> str:
    pair = {"username": username, "password": "secret"}
    await post(http, "/users/register/", 200, json=pair)
    token: str = (await post(http, "/users/login/", 200, json=pair))["access_token"]
    http.session.cookie_jar.clear()
    return token


@pytest.mark.parametrize("slash", ["", "/"])
async def test_a_user_registers_and_logs_in(http: Client, slash: str) -> None:
    made = await post(http, f"/users/register{slash}", 200, json=ADA)
    assert made == {"id": made["id"], "username": "ada", "organization_id": None}
    taken = await post(http, f"/users/register{slash}", 409, json=ADA)
    assert taken == {"detail": "Username already exists"}
    session = await post(http, f"/users/login{slash}", 200, json=ADA)
    assert session == {
        "id": made["id"],
        "username": "ada",
        "access_token": session["access_token"],
        "token_type": "bearer",
    }


@pytest.mark.parametrize("pair", [{**ADA, "password": "wrong"}, {"username": "nobody", "password": "secret"}])
async def test_a_wrong_pair_is_refused_whichever_half_is_wrong(http: Client, pair: dict[str, str]) -> None:
    await post(http, "/users/register/", 200, json=ADA)
    assert await post(http, "/users/login/", 401, json=pair) == {"detail": "Invalid credentials"}


@pytest.mark.parametrize("path", ["/users/register/", "/users/login/"])
@pytest.mark.parametrize("field", ["username", "password"])
async def test_a_missing_field_is_named(http: Client, path: str, field: str) -> None:
    given = {name: value for name, value in ADA.items() if name != field}
    (error,) = (await post(http, path, 422, json=given))["detail"]
    assert error["loc"] == ["body", field]


@pytest.mark.parametrize("form", ["query", "body"])
async def test_an_organisation_is_created_and_then_joined(http: Client, form: str) -> None:
    token = await logged_in(http)
    made = await post(http, "/organizations/create/", 200, token, json={"name": "Analytical"})
    assert set(made) == {"id", "name", "invite_code"}
    assert made["name"] == "Analytical"
    code = {"invite_code": made["invite_code"]}
    given: dict[str, Any] = {"params": code} if form == "query" else {"json": code}
    joined = await post(http, "/organizations/join/", 200, token, **given)
    assert joined == {"message": "User ada joined organization Analytical"}
    assert await post(http, "/organizations/join/", 200, token, **given) == joined


async def test_an_organisations_name_is_taken_once(http: Client) -> None:
    token = await logged_in(http)
    await post(http, "/organizations/create/", 200, token, json={"name": "Analytical"})
    await post(http, "/organizations/create/", 409, token, json={"name": "Analytical"})


async def test_a_second_organisation_is_a_conflict(http: Client) -> None:
    token = await logged_in(http)
    for name, status in (("One", 200), ("Two", 409)):
        made = await post(http, "/organizations/create/", 200, token, json={"name": name})
        await post(http, "/organizations/join/", status, token, params={"invite_code": made["invite_code"]})


async def test_a_bad_or_missing_invite_code_is_refused(http: Client) -> None:
    """B-12: nor can a code be guessed from another."""
    token = await logged_in(http)
    bad = await post(http, "/organizations/join/", 400, token, params={"invite_code": "org-1"})
    assert bad == {"detail": "Invalid invite code"}
    await post(http, "/organizations/join/", 422, token)
    await post(http, "/organizations/join/", 422, token, json={})


@pytest.mark.parametrize("path", ["/organizations/create/", "/organizations/join/"])
async def test_without_a_token_nothing_is_done(http: Client, path: str) -> None:
    await post(http, path, 401, json={"name": "Analytical"})
    await post(http, path, 401, "nonsense", json={"name": "Analytical"})
