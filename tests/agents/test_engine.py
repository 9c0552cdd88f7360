"""What the platform relies on Docker for, asked of a real one."""

import asyncio
import io
import json
import tarfile
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from msgspec.structs import replace

from core.services.docker import PrivateDocker, stop_everything
from handlers.agents.engine import BuildRefused, Engine, EngineIsDown, EngineRefused, Wanted, is_reference
from tests.agents.conftest import NODE, PLATFORM
from tests.docker import docker, remove_all, tar_of


async def started(engine: Engine, wanted: Wanted) -> str:
    runtime_id = await engine.create(wanted)
    await engine.start(runtime_id)
    return runtime_id


async def get(address: str, port: int = 8080, path: str = "/") -> str:
    for _ in range(100):
        try:
            async with (
                aiohttp.ClientSession() as http,
                http.get(f"http://{address}:{port}{path}") as response,
            ):
                return await response.text()
        except aiohttp.ClientConnectionError:
            await asyncio.sleep(0.05)
    raise AssertionError("the app does not answer")


async def pieces(body: bytes) -> AsyncIterator[bytes]:
    for at in range(0, len(body), 65536):
        yield body[at : at + 65536]


async def test_the_machine_says_what_it_can_carry(engine: Engine) -> None:
    machine = await engine.machine()
    assert machine.engine.startswith("docker ")
    assert machine.cpu_milli >= 1000
    assert machine.memory_mib > 100


async def test_a_container_answers_at_its_own_address_with_its_port_and_name(
    engine: Engine, web: Wanted
) -> None:
    runtime_id = await started(engine, replace(web, port=9000))
    running = await engine.inspect(runtime_id)
    assert running is not None
    assert (running.container_id, running.run, running.tenant, running.state) == (
        "ctr_1",
        1,
        "org_7",
        "running",
    )
    assert running.started_ms > 0
    assert await get(running.address, 9000) == "hello from ctr_1, port 9000\n"


async def test_every_limit_and_every_restriction_is_really_there(
    dockerd: PrivateDocker, engine: Engine, web: Wanted
) -> None:
    """B-29: what was registered is what runs, within its limits."""
    runtime_id = await started(engine, web)
    async with docker(dockerd) as http, http.get(f"http://docker/containers/{runtime_id}/json") as response:
        found = await response.json()
    labels, host = found["Config"]["Labels"], found["HostConfig"]
    assert labels["managed-by"] == "nvidia-orchestrator"
    assert labels["orchestrator-instance"] == labels["stratus.node"] == NODE
    assert (labels["stratus.image"], labels["stratus.container"]) == ("img_web", "ctr_1")
    assert (labels["stratus.tenant"], labels["stratus.run"]) == ("org_7", "1")
    assert "created-at" in labels
    assert not host["PortBindings"]
    process = Path("/proc", str(found["State"]["Pid"]))
    status = dict(line.split(":\t", 1) for line in (process / "status").read_text().splitlines())
    assert (status["CapEff"], status["CapBnd"], status["NoNewPrivs"]) == ("0" * 16, "0" * 16, "1")
    assert status["Seccomp"] == "2"
    groups = {
        line.split(":")[1]: line.split(":")[2] for line in (process / "cgroup").read_text().splitlines()
    }
    if "memory" in groups:  # cgroup v1
        folder = Path("/sys/fs/cgroup/memory" + groups["memory"])
        assert int((folder / "memory.limit_in_bytes").read_text()) == 32 << 20
        folder = Path("/sys/fs/cgroup/pids" + groups["pids"])
        assert int((folder / "pids.max").read_text()) == 256
        folder = Path("/sys/fs/cgroup/cpu" + groups["cpu"])
        assert int((folder / "cpu.cfs_quota_us").read_text()) == 25_000
    else:
        folder = Path("/sys/fs/cgroup" + groups[""])
        assert int((folder / "memory.max").read_text()) == 32 << 20
        assert int((folder / "pids.max").read_text()) == 256
        assert (folder / "cpu.max").read_text() == "25000 100000\n"


async def test_limits_can_change_while_it_runs(dockerd: PrivateDocker, engine: Engine, web: Wanted) -> None:
    runtime_id = await started(engine, web)
    await engine.limit(runtime_id, cpu_milli=500, memory_mib=64)
    async with docker(dockerd) as http, http.get(f"http://docker/containers/{runtime_id}/json") as response:
        host = (await response.json())["HostConfig"]
    assert (host["NanoCpus"], host["Memory"], host["MemorySwap"]) == (500_000_000, 64 << 20, 64 << 20)


@pytest.mark.parametrize(("asked", "given"), [(1_024_000, None), (1, 10_000_000)])
async def test_more_than_all_cpus_is_all_of_them_and_some_is_the_least(
    dockerd: PrivateDocker, engine: Engine, web: Wanted, asked: int, given: int | None
) -> None:
    """A cluster of fixed totals may count in other units than this machine."""
    runtime_id = await started(engine, replace(web, cpu_milli=asked))
    machine = await engine.machine()
    host = (await looked_at(dockerd, runtime_id))["HostConfig"]
    assert host["NanoCpus"] == (given or machine.cpu_milli * 1_000_000)
    await engine.limit(runtime_id, cpu_milli=2_048_000, memory_mib=64)


async def looked_at(dockerd: PrivateDocker, runtime_id: str) -> dict[str, Any]:
    async with docker(dockerd) as http, http.get(f"http://docker/containers/{runtime_id}/json") as response:
        found: dict[str, Any] = await response.json()
        return found


async def test_exactly_the_gpus_of_the_place_are_asked_for(
    dockerd: PrivateDocker, engine: Engine, web: Wanted
) -> None:
    without = await looked_at(dockerd, await engine.create(web))
    assert not without["HostConfig"]["DeviceRequests"]
    wanted = replace(web, container_id="ctr_2", devices=(0, 3))
    (request,) = (await looked_at(dockerd, await engine.create(wanted)))["HostConfig"]["DeviceRequests"]
    assert (request["Driver"], request["DeviceIDs"], request["Capabilities"]) == (
        "nvidia",
        ["0", "3"],
        [["gpu"]],
    )


async def test_a_long_id_is_cut_for_the_name_of_the_machine_it_sees(engine: Engine, web: Wanted) -> None:
    runtime_id = await started(engine, replace(web, container_id="c" * 200))
    running = await engine.inspect(runtime_id)
    assert running is not None
    assert running.container_id == "c" * 200
    assert await get(running.address) == f"hello from {'c' * 63}, port 8080\n"


async def test_creating_the_same_run_twice_makes_one_container(engine: Engine, web: Wanted) -> None:
    assert await engine.create(web) == await engine.create(web)
    assert len(await engine.containers()) == 1


async def test_starting_what_runs_is_no_mistake(engine: Engine, web: Wanted) -> None:
    await engine.start(await started(engine, web))


async def test_a_stopped_container_keeps_its_end_until_it_is_removed(engine: Engine, web: Wanted) -> None:
    runtime_id = await started(engine, web)
    await engine.stop(runtime_id, grace_s=10)
    (ended,) = await engine.containers()
    assert (ended.state, ended.exit_code, ended.oom) == ("ended", 0, False)
    assert ended.ended_ms >= ended.started_ms > 0
    await engine.stop(runtime_id, grace_s=10)
    await engine.remove(runtime_id)
    await engine.remove(runtime_id)
    await engine.stop(runtime_id, grace_s=10)
    assert await engine.containers() == []
    assert await engine.inspect(runtime_id) is None


async def test_a_missing_image_is_refused(engine: Engine, web: Wanted) -> None:
    assert await engine.image("nothing:1") is None
    with pytest.raises(EngineRefused, match="No such image"):
        await engine.create(replace(web, ref="nothing:1"))


@pytest.mark.parametrize(
    "ref",
    [
        "../containers/json",
        "../../version",
        "no/such/../../../info",
        "web:1?x=y",
        "web#1",
        "web%2e%2e",
        "Web:1",
        "two words",
        "web:",
        "web:" + "1" * 129,
        "web@sha256:12",
        "-web",
        "//",
        "wéb",
        "web\n",
        "web\0",
        "a" * 510 + "/:",
        "",
    ],
)
async def test_what_is_no_name_of_an_image_names_none(engine: Engine, ref: str) -> None:
    assert not is_reference(ref)
    assert await engine.image(ref) is None


@pytest.mark.parametrize(
    "ref",
    [
        "web",
        "web:1",
        "a/b_c/d__e-f.g:V1.2-x_y",
        "localhost:5000/web",
        "Reg.Example.com:443/team/web:1",
        "sha256:" + "0" * 64,
        "web@sha256:" + "0" * 64,
        "0" * 64,
    ],
)
async def test_an_image_may_be_called(engine: Engine, ref: str) -> None:
    assert is_reference(ref)
    assert await engine.image(ref) is None


async def test_what_another_tenant_uploaded_is_not_there_by_whatever_name(
    dockerd: PrivateDocker, engine: Engine, web: Wanted
) -> None:
    ref = engine.ref("org_8", "img_1")
    archive = tar_of(Dockerfile=f"FROM {web.ref}\nLABEL of=org_8\n".encode())
    _ = [line async for line in engine.build(pieces(archive), ref, {})]
    theirs = await engine.image(ref, "org_8")
    assert theirs is not None
    digest = theirs.digest.removeprefix("sha256:")
    others = [ref, f"docker.io/{ref}", f"index.docker.io/{ref}", theirs.digest, digest, digest[:12]]
    for name in others:
        assert await engine.image(name, "org_7") is None, name
        assert await engine.image(name, "org_8") == theirs, name
    assert await engine.image(web.ref, "org_7") is not None
    other = Engine(dockerd.url, NODE, "another")
    assert await other.image(ref, "org_8") is None
    await other.close()
    await engine.forget(ref)


async def test_an_image_that_says_so_is_read_only(
    dockerd: PrivateDocker, engine: Engine, web: Wanted
) -> None:
    dockerfile = f"FROM {web.ref}\nLABEL stratus.read-only=true\n".encode()
    ref = engine.ref("org_7", "img_ro")
    _ = [line async for line in engine.build(pieces(tar_of(Dockerfile=dockerfile)), ref, {})]
    image = await engine.image(ref)
    assert image is not None
    assert image.read_only
    runtime_id = await engine.create(replace(web, ref=ref), read_only=image.read_only)
    async with docker(dockerd) as http, http.get(f"http://docker/containers/{runtime_id}/json") as response:
        assert (await response.json())["HostConfig"]["ReadonlyRootfs"]


async def test_strangers_are_neither_seen_nor_found_by_half_an_id(
    dockerd: PrivateDocker, engine: Engine, web: Wanted
) -> None:
    other = Engine(dockerd.url, NODE, "another")
    runtime_id = await started(other, web)
    await other.close()
    assert await engine.containers() == []
    assert await engine.inspect(runtime_id) is None
    assert await engine.logs(runtime_id, 10) == []
    with pytest.raises(EngineRefused, match="in use"):
        await engine.create(web)
    ours = await engine.create(replace(web, container_id="ctr_2"))
    assert await engine.inspect(ours[:12]) is None


async def test_a_build_can_not_pass_its_steps_off_as_a_container(
    dockerd: PrivateDocker, engine: Engine, web: Wanted
) -> None:
    labels = {"stratus.node": NODE, "stratus.platform": PLATFORM, "managed-by": "nvidia-orchestrator"} | {
        "orchestrator-instance": NODE,
        "stratus.container": "ctr_1",
        "stratus.run": "1",
        "stratus.tenant": "org_7",
    }
    body = {"Image": web.ref, "Labels": labels}
    async with (
        docker(dockerd) as http,
        http.post(
            "http://docker/containers/create", json=body, headers={"Content-Type": "application/json"}
        ) as r,
    ):
        assert r.status == 201
    assert await engine.containers() == []


async def test_the_log_has_the_last_lines_with_their_times(engine: Engine, web: Wanted) -> None:
    runtime_id = await started(engine, web)
    running = await engine.inspect(runtime_id)
    assert running is not None
    await get(running.address)
    (line,) = await engine.logs(web.name, tail=10)
    assert line.endswith("Z listening on port 8080")
    assert await engine.logs("ctr_9-1", tail=10) == []


async def test_a_change_is_heard_of(engine: Engine, web: Wanted) -> None:
    changes = engine.changes()
    assert await anext(changes) == ""
    runtime_id = await started(engine, web)
    assert await anext(changes) == runtime_id
    await changes.aclose()


async def test_an_image_is_built_from_an_archive_and_tells_its_steps(
    engine: Engine, app_archive: bytes
) -> None:
    ref = engine.ref("org_7", "img_1")
    lines = [line async for line in engine.build(pieces(app_archive), ref, {"stratus.image": "img_1"})]
    assert lines[0].startswith("Step 1/")
    assert await engine.image(ref) is not None
    assert ref in await engine.refs()
    await engine.forget(ref)
    await engine.forget(ref)
    assert ref not in await engine.refs()


@pytest.mark.parametrize(
    ("dockerfile", "reason"),
    [
        (b"FROM scratch\nCOPY nothing /\n", "nothing"),
        (b'FROM stratus-app:1\nRUN ["/bin/false"]\n', "/bin/false"),
        (b"FRM scratch\n", "(?i)unknown instruction: FRM"),
        (b"", "cannot be empty"),
    ],
)
@pytest.mark.usefixtures("app_image")
async def test_a_build_that_fails_says_why(engine: Engine, dockerfile: bytes, reason: str) -> None:
    with pytest.raises(BuildRefused, match=reason):
        async for _ in engine.build(pieces(tar_of(Dockerfile=dockerfile)), engine.ref("org_7", "bad"), {}):
            pass


async def test_a_saved_image_is_loaded_under_our_name_only(
    dockerd: PrivateDocker, engine: Engine, web: Wanted
) -> None:
    async with docker(dockerd) as http, http.get(f"http://docker/images/{web.ref}/get") as response:
        saved = await response.read()
    nameless = io.BytesIO()
    with tarfile.open(fileobj=io.BytesIO(saved)) as old, tarfile.open(fileobj=nameless, mode="w") as new:
        for member in old:
            content = (old.extractfile(member) or io.BytesIO()).read()
            if member.name == "manifest.json":
                content = json.dumps([json.loads(content)[0] | {"RepoTags": None}]).encode()
                member.size = len(content)
            if member.name != "repositories":
                new.addfile(member, io.BytesIO(content))
    ref = engine.ref("org_7", "img_saved")
    _ = [line async for line in engine.load(pieces(nameless.getvalue()), ref)]
    assert await engine.image(ref) == await engine.image(web.ref)
    with pytest.raises(BuildRefused):
        _ = [line async for line in engine.load(pieces(b"nonsense" * 1000), ref)]


async def test_an_engine_that_is_away_is_not_taken_for_one_that_refuses(absent: str, web: Wanted) -> None:
    engine = Engine(absent, NODE, PLATFORM)
    with pytest.raises(EngineIsDown):
        await engine.containers()
    with pytest.raises(EngineIsDown):
        await engine.create(web)
    with pytest.raises(EngineIsDown):
        await anext(engine.changes())
    await engine.close()


async def test_stopping_everything_leaves_the_true_ends_to_be_read(
    dockerd: PrivateDocker, engine: Engine, web: Wanted
) -> None:
    for number in (1, 2):
        await started(engine, replace(web, container_id=f"ctr_{number}"))
    assert await stop_everything(dockerd.url, "node-other") == 0
    assert await stop_everything(dockerd.url, NODE, "another") == 0
    assert await stop_everything(dockerd.url, NODE, PLATFORM) == 2
    assert [ended.state for ended in await engine.containers()] == ["ended", "ended"]
    assert all(ended.ended_ms for ended in await engine.containers())
    await remove_all(dockerd)
