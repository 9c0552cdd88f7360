"""Images: registered by reference or uploaded, launched within their bounds, deleted with what they left."""

import asyncio
import io
import tarfile

import pytest
from aiohttp import FormData

from tests.gateway.house import Client, House

Headers = dict[str, str]
IMAGE = {
    "name": "web",
    "tag": "1",
    "source": {"type": "Reference", "ref": "web:1"},
    "hostname": "web.example",
}

GPUS = {"gpus": 0, "gpu_milli": 1000, "gpu_models": []}


def tar(**files: bytes) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz") as archive:
        for name, content in files.items():
            info = tarfile.TarInfo(name.replace("__", "/"))
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return out.getvalue()


def upload(file: bytes | None, **fields: str) -> FormData:
    form = FormData(default_to_multipart=True)
    for name, value in {"name": "web", **fields}.items():
        form.add_field(name, value)
    if file is not None:
        form.add_field("file", file, filename="web.tar.gz", content_type="application/gzip")
    return form


async def register(http: Client, headers: Headers, **changes: object) -> str:
    answer = await http.post("/api/v1/images", json={**IMAGE, **changes}, headers=headers)
    assert answer.status == 201, await answer.text()
    image_id: str = (await answer.json())["image_id"]
    return image_id


async def test_an_image_is_registered_and_shown_as_it_is(http: Client, anna: Headers) -> None:
    given = {**IMAGE, "hostname": "https://WEB.example:443/x", "resources": {"memory_mib": 64}}
    made = await (await http.post("/api/v1/images", json=given, headers=anna)).json()
    assert (made["hostname"], made["status"], made["ordinal"], made["ref"]) == (
        "web.example",
        "registered",
        1,
        "web:1",
    )
    assert made["resources"] == {**GPUS, "cpu_milli": 500, "memory_mib": 64}
    assert await (await http.get(f"/api/v1/images/{made['image_id']}", headers=anna)).json() == made


async def test_nobody_takes_a_hostname_twice_however_spelled(
    http: Client, anna: Headers, bert: Headers, house: House
) -> None:
    """B-22: no tenant takes another's hostname by spelling it differently."""
    await register(http, anna)
    for spelling in ("web.example", "WEB.EXAMPLE", "http://web.example/", "web.example:81", "web.example."):
        answer = await http.post("/api/v1/images", json={**IMAGE, "hostname": spelling}, headers=bert)
        assert (answer.status, await answer.json()) == (409, {"detail": "hostname: this hostname is taken."})
    (image,) = house.views.catalog.all()
    route = house.views.routing.route("web.example")
    assert route is not None
    assert route.tenant == image.tenant


async def test_of_two_who_want_a_hostname_at_once_one_gets_it(
    http: Client, anna: Headers, bert: Headers
) -> None:
    """B-22: nor by being quick."""
    both = await asyncio.gather(
        *(http.post("/api/v1/images", json=IMAGE, headers=headers) for headers in (anna, bert))
    )
    assert sorted(answer.status for answer in both) == [201, 409]


async def test_a_deleted_images_hostname_is_free_again(http: Client, anna: Headers, bert: Headers) -> None:
    image_id = await register(http, anna)
    assert (await http.delete(f"/api/v1/images/{image_id}", headers=anna)).status == 200
    await register(http, bert)


async def test_an_archive_is_examined_kept_and_registered(http: Client, anna: Headers, house: House) -> None:
    data = tar(Dockerfile=b"FROM scratch\n", app=b"x" * 10)
    form = upload(data, tag="7", hostname="up.example", port="81", cpu_limit="0.25", memory_limit="64Mi")
    answer = await http.post("/api/v1/images", data=form, headers=anna)
    assert answer.status == 201, await answer.text()
    made = await answer.json()
    assert made["source"]["type"] == "Archive"
    assert made["resources"] == {**GPUS, "cpu_milli": 250, "memory_mib": 64}
    assert house.objects.kept[made["source"]["object"]] == data
    assert made["source"]["bytes"] == len(data)


async def test_an_upload_sent_again_with_its_key_is_kept_once(
    http: Client, anna: Headers, house: House
) -> None:
    again = {**anna, "Idempotency-Key": "one"}
    answers = [
        await http.post("/api/v1/images", data=upload(tar(Dockerfile=b"FROM scratch\n")), headers=again)
        for _ in range(2)
    ]
    assert [answer.status for answer in answers] == [201, 201]
    assert len(house.objects.kept) == 1


@pytest.mark.parametrize(
    ("file", "fields", "status", "word"),
    [
        (b"no archive at all" * 100, {}, 400, "file"),
        (tar(README=b"x"), {}, 400, "Dockerfile"),
        (tar(web__Dockerfile=b"FROM scratch"), {}, 400, "root"),
        (tar(Dockerfile=b"FROM scratch", **{"..__evil": b"x"}), {}, 400, "'..'"),
        (None, {}, 422, "file"),
        (tar(Dockerfile=b"FROM scratch"), {"port": "many"}, 422, "port"),
        (tar(Dockerfile=b"FROM scratch"), {"port": "70000"}, 422, "port"),
        (tar(Dockerfile=b"FROM scratch"), {"memory_limit": "much"}, 422, "memory_limit"),
        (tar(Dockerfile=b"FROM scratch"), {"memory_limit": "1m"}, 422, "memory_mib"),
        (tar(Dockerfile=b"FROM scratch"), {"cpu_limit": "-1"}, 422, "cpu_limit"),
        (tar(Dockerfile=b"FROM scratch"), {"hostname": "a b"}, 422, "hostname"),
        (tar(Dockerfile=b"FROM scratch"), {"colour": "red"}, 422, "colour"),
        (tar(Dockerfile=b"FROM scratch"), {"source": "x"}, 422, "source"),
        (tar(Dockerfile=b"FROM scratch"), {"min_instances": "4"}, 422, "min_instances"),
    ],
)
async def test_a_bad_upload_is_named_and_nothing_is_kept(
    http: Client,
    anna: Headers,
    house: House,
    file: bytes | None,
    fields: dict[str, str],
    status: int,
    word: str,
) -> None:
    answer = await http.post("/api/v1/images", data=upload(file, **fields), headers=anna)
    assert answer.status == status, await answer.text()
    assert word in await answer.text()
    assert not house.views.catalog.all()
    assert not house.objects.kept


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        (b"", "multipart/form-data; boundary=x"),
        (b"nonsense", "multipart/form-data; boundary=x"),
        (b"--x\r\n\r\nno name\r\n--x--\r\n", "multipart/form-data; boundary=x"),
        (b"--x\r\nbroken header\r\n\r\na\r\n--x--", "multipart/form-data; boundary=x"),
        (
            b'--x\r\nContent-Disposition: form-data; name="name"\r\n\r\n\xff\xff\r\n--x--',
            "multipart/form-data; boundary=x",
        ),
        (b"x", "multipart/form-data"),
    ],
)
async def test_a_malformed_form_is_a_clear_no(http: Client, anna: Headers, body: bytes, kind: str) -> None:
    answer = await http.post("/api/v1/images", data=body, headers={**anna, "Content-Type": kind})
    assert answer.status == 422, await answer.text()
    assert isinstance((await answer.json())["detail"], list)


async def test_too_large_an_upload_is_refused_and_not_kept(http: Client, anna: Headers, house: House) -> None:
    form = upload(None)
    form.add_field("file", io.BytesIO(bytes(3 << 20)), filename="web.tar")
    answer = await http.post("/api/v1/images", data=form, headers=anna)
    assert answer.status == 413
    assert not house.objects.kept


async def test_a_taken_hostname_leaves_no_upload_behind(http: Client, anna: Headers, house: House) -> None:
    await register(http, anna)
    form = upload(tar(Dockerfile=b"FROM scratch"), hostname="web.example")
    assert (await http.post("/api/v1/images", data=form, headers=anna)).status == 409
    assert not house.objects.kept


async def test_an_image_that_is_not_built_can_not_be_launched(http: Client, anna: Headers) -> None:
    form = upload(tar(Dockerfile=b"FROM scratch"))
    image_id = (await (await http.post("/api/v1/images", data=form, headers=anna)).json())["image_id"]
    answer = await http.post(f"/api/v1/images/{image_id}/containers", json={}, headers=anna)
    assert answer.status == 409
    assert "build" in (await answer.json())["detail"]


async def test_as_many_are_launched_as_there_is_room_for(http: Client, anna: Headers) -> None:
    path = f"/api/v1/images/{await register(http, anna, min_instances=2, max_instances=3)}/containers"
    first = await http.post(path, json={"count": 1}, headers=anna)
    assert (first.status, len(await first.json())) == (201, 2)
    second = await http.post(path, json={"count": 10, "name": "My Web!"}, headers=anna)
    (one,) = await second.json()
    assert one["name"].startswith("my-web-")
    assert (await http.post(path, json={}, headers=anna)).status == 409


async def test_those_who_race_for_the_last_places_never_get_more(http: Client, anna: Headers) -> None:
    """B-32: a quota that is decided, not read and then written."""
    path = f"/api/v1/images/{await register(http, anna, max_instances=5)}/containers"
    answers = await asyncio.gather(*(http.post(path, json={"count": 2}, headers=anna) for _ in range(6)))
    assert sum([len(await answer.json()) for answer in answers if answer.status == 201]) == 5
    listed = await (await http.get("/api/v1/containers", headers=anna)).json()
    assert len({one["name"] for one in listed["items"]}) == 5


async def test_a_launch_sent_again_with_its_key_launches_once(http: Client, anna: Headers) -> None:
    path = f"/api/v1/images/{await register(http, anna)}/containers"
    again = {**anna, "Idempotency-Key": "one"}
    one, two = [await (await http.post(path, json={"count": 2}, headers=again)).json() for _ in range(2)]
    assert [c["container_id"] for c in one] == [c["container_id"] for c in two]


async def test_deleting_an_image_leaves_no_container_behind(
    http: Client, anna: Headers, house: House
) -> None:
    """B-32."""
    image_id = await register(http, anna)
    await http.post(f"/api/v1/images/{image_id}/containers", json={"count": 3}, headers=anna)
    assert (await http.delete(f"/api/v1/images/{image_id}", headers=anna)).status == 200
    assert (await http.get(f"/api/v1/images/{image_id}", headers=anna)).status == 404
    async with asyncio.timeout(5):
        while house.views.containers.of_image(image_id):
            await house.views.change()


async def test_a_build_log_waits_for_the_database(http: Client, anna: Headers) -> None:
    image_id = await register(http, anna)
    answer = await http.get(f"/api/v1/images/{image_id}/build-log", headers=anna)
    assert (answer.status, answer.headers["Retry-After"]) == (503, "1")
