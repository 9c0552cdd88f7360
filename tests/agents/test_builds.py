"""Uploads become images, or a reason why not; with a real engine and a real broker."""

import asyncio
import hashlib
import io
import json
import subprocess
import tarfile
import zipfile
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from core.bus import Bus
from core.messages.catalog import Archive, ClaimBuild, RegisterImage, SavedImage, Source
from core.objects import Objects
from core.services.docker import PrivateDocker
from handlers.agents.builds import Builder, Output, bases
from handlers.agents.engine import Engine
from handlers.agents.node import Agent
from projections.catalog import Image
from tests.agents.conftest import NODE
from tests.agents.platform import TENANT, Platform
from tests.docker import docker, tar_of

LIMIT = 64 << 20


class Uploads:
    """Somebody who uploads, to a platform where one node builds."""

    def __init__(self, bus: Bus, platform: Platform) -> None:
        self.bus, self.platform, self.objects = bus, platform, Objects(bus)

    async def register(self, image_id: str, body: bytes, kind: type[Archive | SavedImage] = Archive) -> None:
        async def chunks() -> AsyncIterator[bytes]:
            yield body

        await self.objects.put(image_id, chunks(), LIMIT)
        source: Source = kind(object=image_id, sha256=hashlib.sha256(body).hexdigest(), bytes=len(body))
        register = RegisterImage(
            image_id=image_id, name="web", tag="1", source=source, owner="usr_1", at_ms=1
        )
        await self.platform.commands.send(register, TENANT)

    async def upload(self, image_id: str, body: bytes, kind: type[Archive | SavedImage] = Archive) -> Image:
        """The image as it is when its build is over."""
        await self.register(image_id, body, kind)
        await self.platform.until(lambda: self.image(image_id).status in ("ready", "build_failed"))
        return self.image(image_id)

    def image(self, image_id: str) -> Image:
        image = self.platform.views.catalog.image(image_id)
        assert image is not None
        return image

    async def output(self, image_id: str) -> str:
        """All that was said while it was built."""
        info = await self.bus.js.stream_info("OUTPUT")
        messages = [
            await self.bus.js.get_msg("OUTPUT", seq=sequence)
            for sequence in range(info.state.first_seq, info.state.last_seq + 1)
        ]
        subject = f"out.{TENANT}.builds.{image_id}"
        return "\n".join(
            line for m in messages if m.subject == subject for line in json.loads(m.data or b"")["lines"]
        )


@pytest.fixture
async def platform() -> AsyncIterator[Platform]:
    async with Platform(NODE) as platform:
        yield platform


@pytest.fixture
async def uploads(bus: Bus, engine: Engine, platform: Platform) -> AsyncIterator[Uploads]:
    builder = Builder(NODE, engine, bus, Objects(bus), platform.commands, platform.views)
    building = asyncio.create_task(builder.run())
    yield Uploads(bus, platform)
    building.cancel()
    await asyncio.gather(building, return_exceptions=True)
    for ref in await engine.refs():
        await engine.forget(ref)


def zipped(archive: bytes) -> bytes:
    file = io.BytesIO()
    with (
        tarfile.open(fileobj=io.BytesIO(archive)) as tar,
        zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as new,
    ):
        for member in tar:
            new.writestr(member.name, (tar.extractfile(member) or io.BytesIO()).read())
    return file.getvalue()


@pytest.mark.parametrize("shape", ["tar", "zip"])
async def test_an_archive_is_built_and_its_story_told(
    uploads: Uploads, engine: Engine, app_archive: bytes, shape: str
) -> None:
    image = await uploads.upload("img_1", app_archive if shape == "tar" else zipped(app_archive))
    assert (image.status, image.ref) == ("ready", engine.ref(TENANT, "img_1"))
    picture = await engine.image(image.ref)
    assert picture is not None
    assert picture.bytes > 500_000
    assert "Step 1/" in await uploads.output("img_1")


async def test_two_uploads_are_both_built(uploads: Uploads, app_archive: bytes) -> None:
    """B-31: each build has a place of its own."""
    await uploads.register("img_1", app_archive)
    assert (await uploads.upload("img_2", app_archive)).status == "ready"
    await uploads.platform.until(lambda: uploads.image("img_1").status == "ready")


async def test_a_saved_image_can_not_take_the_name_of_another(
    uploads: Uploads, engine: Engine, dockerd: PrivateDocker, app_image: str, app_archive: bytes
) -> None:
    victim = await engine.image(app_image)
    other = tar_of(Dockerfile=f"FROM {app_image}\nLABEL evil=true\n".encode())
    built = await uploads.upload("img_other", other)
    async with docker(dockerd) as http, http.get(f"http://docker/images/{built.ref}/get") as response:
        saved = await response.read()
    image = await uploads.upload("img_evil", renamed(saved, app_image), SavedImage)
    assert (image.status, image.reason, image.ref) == ("ready", "", engine.ref(TENANT, "img_evil"))
    assert await engine.image(image.ref) == await engine.image(built.ref)
    assert await engine.image(app_image) == victim


def renamed(saved: bytes, name: str) -> bytes:
    """A `docker save` tar that calls itself `name`, everywhere it can."""
    repository, _, tag = name.partition(":")
    file = io.BytesIO()
    with tarfile.open(fileobj=io.BytesIO(saved)) as old, tarfile.open(fileobj=file, mode="w") as new:
        for member in old:
            content = (old.extractfile(member) or io.BytesIO()).read() if member.isreg() else b""
            if member.name == "manifest.json":
                content = json.dumps([json.loads(content)[0] | {"RepoTags": [name]}]).encode()
            if member.name == "repositories":
                (known,) = json.loads(content).values()
                content = json.dumps({repository: {tag: next(iter(known.values()))}}).encode()
            member.size = len(content)
            new.addfile(member, io.BytesIO(content))
    return file.getvalue()


@pytest.mark.parametrize(
    ("body", "kind", "reason"),
    [
        (b"no archive at all", Archive, "archive: is neither tar, tar.gz nor zip"),
        (tar_of(**{"../evil": b"", "Dockerfile": b"FROM scratch"}), Archive, "../evil: '..' is not allowed"),
        (tar_of(Dockerfile=b"FROM scratch"), SavedImage, "the upload is of the kind 'build', not 'saved'"),
        (tar_of(Dockerfile=b"FROM scratch\nCOPY nothing /\n"), Archive, "nothing"),
        (tar_of(Dockerfile=b"FROM python:3.11\n"), Archive, "FROM python:3.11: the node has no such image"),
    ],
)
async def test_an_upload_that_can_not_be_built_says_why(
    uploads: Uploads, body: bytes, kind: type[Archive | SavedImage], reason: str
) -> None:
    image = await uploads.upload("img_bad", body, kind)
    assert image.status == "build_failed"
    assert reason in image.reason
    assert f"error: {image.reason}" in await uploads.output("img_bad")


ROUTES = b"""#include <stdio.h>
int main(void) {
    char line[512];
    int lines = 0;
    for (FILE *routes = fopen("/proc/net/route", "r"); fgets(line, sizeof line, routes);) lines++;
    printf("%d routes\\n", lines - 1);
    return 0;
}
"""


@pytest.mark.parametrize(
    "dockerfile", ["FROM {}\n", "FROM ${{X:-{}}}\n", "FROM stratus-app:1\nCOPY --from={} / /\n"]
)
@pytest.mark.usefixtures("app_image")
async def test_nobody_builds_upon_what_another_tenant_uploaded(
    uploads: Uploads, engine: Engine, app_archive: bytes, dockerfile: str
) -> None:
    theirs = engine.ref("org_8", "img_1")
    _ = [line async for line in engine.build(_pieces(app_archive), theirs, {})]
    image = await uploads.upload("img_2", tar_of(Dockerfile=dockerfile.format(theirs).encode()))
    assert image.status == "build_failed"
    assert image.reason == f"FROM {theirs}: the node has no such image, and nothing is pulled"


async def _pieces(body: bytes) -> AsyncIterator[bytes]:
    yield body


async def test_steps_have_no_network(uploads: Uploads, tmp_path: Path) -> None:
    (tmp_path / "routes.c").write_bytes(ROUTES)
    subprocess.run(["gcc", "-static", "-o", tmp_path / "routes", tmp_path / "routes.c"], check=True)
    dockerfile = b'FROM scratch\nCOPY routes /\nRUN ["/routes"]\n'
    image = await uploads.upload(
        "img_1", tar_of(Dockerfile=dockerfile, routes=(tmp_path / "routes").read_bytes())
    )
    assert image.status == "ready"
    assert "0 routes" in await uploads.output("img_1")


async def test_an_upload_that_is_gone_fails_its_build(uploads: Uploads, platform: Platform) -> None:
    source = Archive(object="img_gone", sha256="0" * 64, bytes=1)
    register = RegisterImage(image_id="img_gone", name="web", tag="1", source=source, owner="usr_1", at_ms=1)
    await platform.commands.send(register, TENANT)
    await platform.until(lambda: uploads.image("img_gone").status == "build_failed")
    assert "upload it again" in uploads.image("img_gone").reason


async def test_what_another_node_builds_is_left_to_it(
    uploads: Uploads, platform: Platform, app_archive: bytes
) -> None:
    source = Archive(object="img_theirs", sha256="0" * 64, bytes=1)
    register = RegisterImage(
        image_id="img_theirs", name="web", tag="1", source=source, owner="usr_1", at_ms=1
    )
    claim = ClaimBuild(image_id="img_theirs", node_id="node-other", at_ms=1)
    theirs = [platform.commands.send(command, TENANT) for command in (register, claim)]
    await asyncio.gather(*theirs)
    assert (await uploads.upload("img_ours", app_archive)).status == "ready"
    assert uploads.image("img_theirs").status == "building"


async def test_a_build_that_was_claimed_before_a_restart_is_made_after_it(
    bus: Bus, engine: Engine, platform: Platform, app_archive: bytes
) -> None:
    uploads = Uploads(bus, platform)
    await uploads.register("img_1", app_archive)
    await platform.commands.send(ClaimBuild(image_id="img_1", node_id=NODE, at_ms=1), TENANT)
    builder = Builder(NODE, engine, bus, Objects(bus), platform.commands, platform.views)
    building = asyncio.create_task(builder.run())
    await platform.until(lambda: uploads.image("img_1").status == "ready")
    building.cancel()
    await asyncio.gather(building, return_exceptions=True)


async def test_an_image_that_was_lost_is_made_again_for_the_next_container(
    bus: Bus, uploads: Uploads, engine: Engine, platform: Platform, app_archive: bytes
) -> None:
    image = await uploads.upload("img_web", app_archive)
    await engine.forget(image.ref)
    builder = Builder(NODE, engine, bus, Objects(bus), platform.commands, platform.views)
    agent = Agent(NODE, "default", engine, platform.commands, platform.views, builder)
    working = asyncio.create_task(agent.run())
    await platform.create("ctr_1", image.ref)
    await platform.until(lambda: platform.container("ctr_1").ready)
    working.cancel()
    await asyncio.gather(working, return_exceptions=True)


async def test_endless_output_is_cut_off(bus: Bus, platform: Platform) -> None:
    async with Output(bus, TENANT, "img_loud") as output:
        for _ in range(300):
            output.say("x" * 10_000)
    said = await Uploads(bus, platform).output("img_loud")
    assert said.endswith("(more output was cut off)")
    assert len(said) < 1_200_000


@pytest.mark.parametrize(
    ("dockerfile", "expected"),
    [
        ("FROM scratch", []),
        (
            "# FROM no\nfrom --platform=linux/amd64 web:1 as Base\nFROM base\nCOPY --from=base /a /b",
            ["web:1"],
        ),
        ("ARG V=3.11\nFROM python:${V}-slim\nFROM python:$V", ["python:3.11-slim", "python:3.11"]),
        ("FROM web AS web\nCOPY --from=nginx:1 / /\nCOPY --from=0 / /", ["web", "nginx:1"]),
        ("FROM \\\n  web:1", ["web:1"]),
        ("ARG B\nFROM $B", ["$B"]),
        ("ARG B=web\nARG C=$B:1\nFROM ${C}", ["web:1"]),
        ("FROM ${B:-web:1}", ["web:1"]),
        ("ARG A\nFROM ${B:-${A:-web:1}}", ["${B:-web:1}"]),
        ("FROM web\nONBUILD COPY --from=nginx:1 / /", ["web", "nginx:1"]),
        ("", []),
    ],
)
def test_the_bases_of_a_dockerfile_are_known_before_it_is_built(dockerfile: str, expected: list[str]) -> None:
    assert bases(dockerfile) == expected
