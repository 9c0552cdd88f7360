"""Signing up, in and out; organisations and keys; what opens a door and what does not."""

import asyncio
import time

import jwt
import pytest

from tests.gateway.conftest import signed_in
from tests.gateway.house import SECRET, Client, House, strict

Headers = dict[str, str]
ANNA = {"username": "anna", "email": "anna@example.com", "password": "annas password"}


async def test_a_person_signs_up_signs_in_and_is_known(http: Client) -> None:
    made = await http.post("/api/v1/auth/sign-up", json=ANNA)
    assert made.status == 201
    person = await made.json()
    assert (person["ordinal"], person["username"], person["operator"]) == (1, "anna", True)
    assert "password" not in person
    signed = await (
        await http.post(
            "/api/v1/auth/sign-in", json={"login": "ANNA@example.com", "password": ANNA["password"]}
        )
    ).json()
    me = await http.get("/api/v1/auth/me", headers={"Authorization": f"Bearer {signed['access_token']}"})
    assert await me.json() == person


async def test_nothing_in_the_log_says_who_somebody_is(http: Client, house: House) -> None:
    await http.post("/api/v1/auth/sign-up", json=ANNA)
    log = repr(house.log.recorded).lower()
    assert "anna" not in log
    assert "argon2" not in log


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"username": ""}, "username"),
        ({"username": "a" * 101}, "username"),
        ({"username": "an\x00na"}, "username"),
        ({"username": 5}, "username"),
        ({"email": "nonsense"}, "email"),
        ({"email": "a@b@c"}, "email"),
        ({"password": "short"}, "password"),
        ({"password": "x" * 129}, "password"),
        ({"nickname": "a"}, "nickname"),
        ({"user_id": "usr_1"}, "user_id"),
    ],
)
async def test_a_bad_field_is_named_and_nobody_is_registered(
    http: Client, house: House, change: dict[str, object], field: str
) -> None:
    answer = await http.post("/api/v1/auth/sign-up", json={**ANNA, **change})
    assert answer.status == 422
    assert (await answer.json())["detail"][0]["loc"] == ["body", field]
    assert not house.views.identity.users


async def test_a_missing_field_is_named(http: Client) -> None:
    answer = await http.post("/api/v1/auth/sign-up", json={"username": "anna"})
    (detail,) = (await answer.json())["detail"]
    assert (answer.status, detail["loc"], detail["type"]) == (422, ["body", "password"], "missing")


async def test_names_are_taken_whatever_their_case(http: Client, house: House) -> None:
    await http.post("/api/v1/auth/sign-up", json=ANNA)
    for change, word in (
        ({"username": "ANNA", "email": "b@example.com"}, "username"),
        ({"username": "b", "email": "ANNA@example.com"}, "email"),
    ):
        no = await http.post("/api/v1/auth/sign-up", json={**ANNA, **change})
        assert (no.status, await no.json()) == (409, {"detail": f"This {word} is taken."})
    assert len(house.views.identity.users) == 1


async def test_two_who_want_a_name_at_once_do_not_both_get_it(http: Client) -> None:
    both = await asyncio.gather(
        *(http.post("/api/v1/auth/sign-up", json={**ANNA, "email": f"{n}@example.com"}) for n in range(2))
    )
    assert sorted(answer.status for answer in both) == [201, 409]


async def test_a_wrong_password_and_an_unknown_user_get_the_same_answer(http: Client) -> None:
    await http.post("/api/v1/auth/sign-up", json=ANNA)
    wrong = await http.post("/api/v1/auth/sign-in", json={"login": "anna", "password": "wrong password"})
    unknown = await http.post("/api/v1/auth/sign-in", json={"login": "zoe", "password": "wrong password"})
    assert (wrong.status, unknown.status) == (401, 401)
    assert await wrong.json() == await unknown.json()


async def test_too_many_wrong_passwords_have_to_wait_right_ones_do_not(http: Client) -> None:
    async with House(strict(logins_per_minute=3)).open() as throttled:
        await throttled.post("/api/v1/auth/sign-up", json=ANNA)
        for _ in range(5):
            assert (await _try(throttled, ANNA["password"])).status == 200
        assert [(await _try(throttled, "wrong")).status for _ in range(4)] == [401, 401, 401, 429]
        blocked = await _try(throttled, ANNA["password"])
        assert blocked.status == 429
        assert 0 < int(blocked.headers["Retry-After"]) <= 60


async def _try(http: Client, password: str):  # type: ignore[no-untyped-def]
    return await http.post("/api/v1/auth/sign-in", json={"login": "anna", "password": password})


def token(**changes: object) -> str:
    now = int(time.time())
    claims = {"sub": "usr_1", "jti": "ses_1", "iat": now, "exp": now + 60, **changes}
    return jwt.encode({k: v for k, v in claims.items() if v is not None}, SECRET, algorithm="HS256")


@pytest.mark.parametrize(
    "bad",
    [
        "nonsense",
        "a.b.c",
        token(),
        token(exp=int(time.time()) - 1),
        token(exp=None),
        token(iat=None),
        token(sub=None),
        token(jti=None),
        token(sub=7),
        token(exp=str(int(time.time()) + 60)),
        jwt.encode({"sub": "usr_1", "exp": int(time.time()) + 60}, "", algorithm="none"),
        jwt.encode(
            {"sub": "usr_1", "exp": int(time.time()) + 60}, "another secret, long enough too!", "HS256"
        ),
        "sk_str_0123456789abcdef_" + "A" * 43,
    ],
)
async def test_a_bad_token_opens_nothing(http: Client, bad: str) -> None:
    answer = await http.get("/api/v1/auth/me", headers={"Authorization": f"Bearer {bad}"})
    assert answer.status == 401
    assert answer.headers["WWW-Authenticate"] == "Bearer"


async def test_a_token_is_good_for_its_user_only_as_signed(http: Client, anna: Headers, house: House) -> None:
    user_id = next(iter(house.views.identity.users))
    good, over = token(sub=user_id), token(sub=user_id, exp=int(time.time()) - 1)
    text = token(sub=user_id, exp=str(int(time.time()) + 60))
    found = [
        (await http.get("/api/v1/auth/me", headers={"Authorization": f"Bearer {one}"})).status
        for one in (good, over, text)
    ]
    assert found == [200, 401, 401]


@pytest.mark.parametrize("value", ["", "Basic YTpi", "Bearer", "Bearer  ", "Token x"])
async def test_a_header_that_is_no_bearer_is_refused(http: Client, value: str) -> None:
    headers = {"Authorization": value} if value else {}
    assert (await http.get("/api/v1/images", headers=headers)).status == 401


async def test_who_signs_out_has_signed_out(http: Client, anna: Headers) -> None:
    """B-28g: the token opens nothing any more."""
    other = await (
        await http.post("/api/v1/auth/sign-in", json={"login": "anna", "password": "annas password"})
    ).json()
    http.session.cookie_jar.clear()
    assert (await http.post("/api/v1/auth/sign-out", headers=anna)).status == 200
    assert (await http.get("/api/v1/auth/me", headers=anna)).status == 401
    still = {"Authorization": f"Bearer {other['access_token']}"}
    assert (await http.get("/api/v1/auth/me", headers=still)).status == 200


async def test_a_cookie_signs_in_and_lives_as_long_as_its_token(http: Client, anna: Headers) -> None:
    """B-28g."""
    signed = await http.post("/api/v1/auth/sign-in", json={"login": "anna", "password": "annas password"})
    cookie = signed.cookies["access_token"]
    assert (cookie["httponly"], cookie["samesite"], cookie["max-age"]) == (True, "Lax", "1800")
    assert (await http.get("/api/v1/auth/me", cookies={"access_token": cookie.value})).status == 200
    assert (await http.get("/api/v1/auth/me", cookies={"auth-token": cookie.value})).status == 200


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 201),
        ({"Sec-Fetch-Site": "same-origin"}, 201),
        ({"Origin": "http://localhost:3000", "Sec-Fetch-Site": "cross-site"}, 201),
        ({"Sec-Fetch-Site": "cross-site"}, 403),
        ({"Sec-Fetch-Site": "same-site"}, 403),
        ({"Origin": "http://evil.example"}, 403),
        ({"Origin": "null"}, 403),
        ({"Origin": "http://[nonsense"}, 403),
    ],
)
async def test_another_site_can_not_act_with_a_cookie(
    http: Client, anna: Headers, headers: Headers, status: int
) -> None:
    cookie = {"access_token": anna["Authorization"].removeprefix("Bearer ")}
    answer = await http.post("/api/v1/keys", json={"name": "k"}, headers=headers, cookies=cookie)
    assert answer.status == status


async def test_a_bearer_wins_over_a_cookie(http: Client, anna: Headers, bert: Headers) -> None:
    cookie = {"access_token": bert["Authorization"].removeprefix("Bearer ")}
    me = await (await http.get("/api/v1/auth/me", headers=anna, cookies=cookie)).json()
    assert me["username"] == "anna"


async def test_a_key_speaks_for_its_user_until_revoked(http: Client, anna: Headers, house: House) -> None:
    made = await (await http.post("/api/v1/keys", json={"name": "laptop"}, headers=anna)).json()
    key = {"Authorization": f"Bearer {made['key']}"}
    assert (await http.get("/api/v1/images", headers=key)).status == 200
    assert made["key"] not in repr(house.log.recorded)
    listed = (await (await http.get("/api/v1/keys", headers=anna)).json())["items"]
    assert [one["name"] for one in listed] == ["laptop"]
    assert "secret_hash" not in listed[0]
    wrong = {"Authorization": f"Bearer {made['key'][:-1]}{'A' if made['key'][-1] != 'A' else 'B'}"}
    assert (await http.get("/api/v1/images", headers=wrong)).status == 401
    assert (await http.delete(f"/api/v1/keys/{made['key_id']}", headers=anna)).status == 200
    assert (await http.get("/api/v1/images", headers=key)).status == 401


async def test_nobody_sees_or_revokes_anothers_key(http: Client, anna: Headers, bert: Headers) -> None:
    made = await (await http.post("/api/v1/keys", json={"name": "laptop"}, headers=anna)).json()
    assert (await http.delete(f"/api/v1/keys/{made['key_id']}", headers=bert)).status == 404
    assert (await (await http.get("/api/v1/keys", headers=bert)).json())["items"] == []


async def test_an_invite_lets_others_join_once(http: Client, anna: Headers, bert: Headers) -> None:
    made = await (await http.post("/api/v1/organizations", json={"name": "Acme"}, headers=anna)).json()
    join = "/api/v1/organizations/join"
    for headers in (anna, bert):
        joined = await http.post(join, json={"invite": made["invite"]}, headers=headers)
        assert joined.status == 200, await joined.text()
    assert len((await joined.json())["members"]) == 2
    other = await (await http.post("/api/v1/organizations", json={"name": "Other"}, headers=anna)).json()
    assert (await http.post(join, json={"invite": other["invite"]}, headers=bert)).status == 409
    assert (await http.post(join, json={"invite": "inv_nonsense"}, headers=bert)).status == 404


async def test_members_share_what_they_make_others_see_nothing(
    http: Client, anna: Headers, bert: Headers
) -> None:
    carl = await signed_in(http, "carl")
    made = await (await http.post("/api/v1/organizations", json={"name": "Acme"}, headers=anna)).json()
    for headers in (anna, bert):
        await http.post("/api/v1/organizations/join", json={"invite": made["invite"]}, headers=headers)
    image = {"name": "web", "tag": "1", "source": {"type": "Reference", "ref": "web:1"}}
    answer = await http.post("/api/v1/images", json=image, headers=anna)
    path = f"/api/v1/images/{(await answer.json())['image_id']}"
    assert [(await http.get(path, headers=one)).status for one in (anna, bert, carl)] == [200, 200, 404]
    of_organization = f"/api/v1/organizations/{made['organization_id']}"
    assert [(await http.get(of_organization, headers=one)).status for one in (bert, carl)] == [200, 404]


async def test_a_rotated_invite_opens_nothing_any_more(http: Client, anna: Headers, bert: Headers) -> None:
    made = await (await http.post("/api/v1/organizations", json={"name": "Acme"}, headers=anna)).json()
    rotate = f"/api/v1/organizations/{made['organization_id']}/invite"
    assert (await http.post(rotate, headers=bert)).status == 404
    again = await (await http.post(rotate, headers=anna)).json()
    join = "/api/v1/organizations/join"
    assert (await http.post(join, json={"invite": made["invite"]}, headers=bert)).status == 404
    assert (await http.post(join, json={"invite": again["invite"]}, headers=bert)).status == 200


async def test_only_the_operator_lists_users_and_cordons_nodes(
    http: Client, anna: Headers, bert: Headers
) -> None:
    for method, path in (("GET", "/api/v1/users"), ("POST", "/api/v1/nodes/node-1/cordon")):
        assert (await http.request(method, path, headers=bert)).status == 403
        assert (await http.request(method, path, headers=anna)).status == 200


async def test_a_forgotten_person_is_gone(http: Client, house: House, anna: Headers) -> None:
    await house.vault.forget(next(iter(house.views.identity.users)))
    assert (await http.get("/api/v1/auth/me", headers=anna)).status == 401
    signed = await http.post("/api/v1/auth/sign-in", json={"login": "anna", "password": "annas password"})
    assert signed.status == 401
